"""ERET, WAIT, interrupts on and off, shadow sets, hardware registers (vol. II; vol. III, chapter 5 and 9.10)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import Var, seldom, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cp0 import count
from exuvia.isa.mips.cpu import Cpu, in_kernel, leave, raise_
from exuvia.isa.mips.exceptions import set_status, waiting
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.state import CU0, ERL, EXL, IE, RI


@op("010000 10000 00000 00000 00000 011000", kernel=True, ends=True, alone=True)
def eret(cpu: Cpu) -> None:
    error = (cpu.status & ERL) != 0
    cpu.ll_bit = 0
    cpu.pc = error.choose(cpu.errorepc, cpu.epc)
    set_status(cpu, cpu.status & ~error.choose(lift(ERL, 64), EXL))


@op("010000 1 code:19 100000", kernel=True, ends=True)
def wait(cpu: Cpu) -> None:
    leave("wait")


@op("010000 01011 rt 01100 00000 0 00 000", writes="rt", kernel=True, feature="r2")
def di(cpu: Cpu) -> None:
    old = cpu.status
    cpu.result(old.low(32))
    cpu.status = old & ~IE


@op("010000 01011 rt 01100 00000 1 00 000", writes="rt", kernel=True, feature="r2")
def ei(cpu: Cpu) -> None:
    old = cpu.status
    cpu.result(old.low(32))
    cpu.status = old | IE
    with seldom(waiting(cpu)):
        leave("let_in")


def same_set(text: str, name: str, source: str) -> None:
    """The previous shadow set is this one: there are no others."""
    op(text, name, writes="rd", kernel=True, feature="r2")(lambda cpu: cpu.result(cpu.reg(source)))


same_set("010000 01010 rt rd 00000 000000", "rdpgpr", "reg")
same_set("010000 01110 rt rd 00000 000000", "wrpgpr", "reg")


def hardware_register(number: int, f: Callable[[Cpu], Value], feature: str = "r2") -> None:
    """RDHWR: what HWREna lets users read."""

    @op(f"011111 00000 rt {number:05b} 00000 111011", "rdhwr", writes="rt", feature=feature)
    def run(cpu: Cpu) -> None:
        allowed = Var(in_kernel(cpu.status) | ((cpu.status & CU0) != 0))
        with when((cpu.hwrena & 1 << number) != 0):
            allowed.set(lift(1, 1))
        with when(~allowed.read()):
            raise_(RI)
        cpu.result(f(cpu).low(32))


hardware_register(0, lambda cpu: cpu.ebase & 0x3FF)
hardware_register(1, lambda cpu: lift(32, 64))
hardware_register(2, count)
hardware_register(3, lambda cpu: lift(2, 64))
hardware_register(29, lambda cpu: cpu.userlocal, "userlocal")
