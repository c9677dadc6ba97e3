"""Branches (DDI 0487, C3.1)."""

from __future__ import annotations

from exuvia.dsl.trace import when
from exuvia.isa.aarch64.bti import call, jump
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.exceptions import branch_to
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.state import LR


@op("0 00101 simm26", branch=True, asm="{target}")
def b(cpu: Cpu) -> None:
    cpu.branch()


@op("1 00101 simm26", branch=True, asm="{target}")
def bl(cpu: Cpu) -> None:
    cpu.set_X(LR, cpu.next_pc)
    cpu.branch()


@op("0101010 0 simm19 0 cond", "b.", branch=True, conditional=True, asm="{target}")
def b_cond(cpu: Cpu) -> None:
    with when(cpu.condition_holds):
        cpu.branch()


@op("sf 011010 0 simm19 Rt", branch=True, conditional=True, reads="Rt", asm="{Rt}, {target}")
def cbz(cpu: Cpu) -> None:
    with when(cpu.Rt == 0):
        cpu.branch()


@op("sf 011010 1 simm19 Rt", branch=True, conditional=True, reads="Rt", asm="{Rt}, {target}")
def cbnz(cpu: Cpu) -> None:
    with when(cpu.Rt != 0):
        cpu.branch()


def test(o: int, name: str) -> None:
    """By one bit of a register."""

    @op(f"b5=1 011011 {o} b40=5 simm14 Rt", name, branch=True, conditional=True, imm="bit", reads="Rt", asm="{Rt}, {bit}, {target}")
    def run(cpu: Cpu) -> None:
        with when((cpu.X("Rt").u >> cpu.amount).low(1) == o):
            cpu.branch()


test(0, "tbz")
test(1, "tbnz")


@op("1101011 0000 11111 000000 Rn 00000", ends=True, asm="{Rn}")
def br(cpu: Cpu) -> None:
    jump(cpu, cpu.Rn)


@op("1101011 0001 11111 000000 Rn 00000", ends=True, asm="{Rn}")
def blr(cpu: Cpu) -> None:
    call(cpu, cpu.Rn)


@op("1101011 0010 11111 000000 Rn 00000", ends=True, asm="{Rn}")
def ret(cpu: Cpu) -> None:
    branch_to(cpu, cpu.Rn)
