"""Branches and jumps (vol. I, tables 3.5, 3.6, 3.13; vol. II): the part before the delay slot. What follows it is in decode_tables.py.

Where the delay slot is empty (NOP), there is one part.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu, enter
from exuvia.isa.mips.decode_tables import conditional, region
from exuvia.isa.mips.forms import op

Condition = Callable[[Cpu], Value]


def branch(text: str, name: str, c: Condition, *, link: bool = False, fpu: bool = False) -> None:
    """Relative to the delay slot, if the condition holds."""

    @op(text, name, jump="conditional", fpu=fpu)
    def run(cpu: Cpu) -> None:
        taken = c(cpu)
        if link:
            cpu.link()
        if cpu.alone:
            conditional(cpu, taken)
        else:
            cpu.taken = taken.zext(64)
            cpu.delay(taken.choose(target(cpu), cpu.behind))


def target(cpu: Cpu) -> Value:
    """Where a branch leads."""
    return cpu.here + 4 + cpu.field("imm")


def likely(text: str, name: str, c: Condition, *, link: bool = False, fpu: bool = False) -> None:
    """The same; where it is not taken, the delay slot is passed over."""

    @op(text, name, jump="always", fpu=fpu)
    def run(cpu: Cpu) -> None:
        taken = c(cpu)
        if link:
            cpu.link()
        if cpu.alone:
            conditional(cpu, taken)
        else:
            with when(~taken):
                cpu.delay(cpu.behind)
                enter("nullify")
            cpu.delay(target(cpu))


def nullify(cpu: Cpu) -> None:
    """The routine that goes on at `then`, without the instruction in the delay slot."""
    where = cpu.then
    cpu.then = lift(0, 64)
    cpu.pc = cpu.address(where)


ROUTINES: dict[str, Callable[[Cpu], None]] = {"nullify": nullify}


def both(text: str, name: str, c: Condition) -> None:
    """A branch and its likely form, whose opcode has bit 4 set."""
    branch(text, name, c)
    likely("01" + text[2:], name + "l", c)


both("000100 rs rt branch",    "beq",  lambda cpu: cpu.rs == cpu.rt)
both("000101 rs rt branch",    "bne",  lambda cpu: cpu.rs != cpu.rt)
both("000110 rs 00000 branch", "blez", lambda cpu: cpu.rs.s <= 0)
both("000111 rs 00000 branch", "bgtz", lambda cpu: cpu.rs.s > 0)

for _name, _bit, _condition in (("bltz", "0", lambda cpu: cpu.rs.top), ("bgez", "1", lambda cpu: ~cpu.rs.top)):
    branch(f"000001 rs 0000{_bit} branch", _name, _condition)
    likely(f"000001 rs 0001{_bit} branch", _name + "l", _condition)
    branch(f"000001 rs 1000{_bit} branch", _name + "al", _condition, link=True)
    likely(f"000001 rs 1001{_bit} branch", _name + "all", _condition, link=True)


@op("000010 target", jump="region")
def j(cpu: Cpu) -> None:
    cpu.delay(region(cpu))


@op("000011 target", jump="region")
def jal(cpu: Cpu) -> None:
    cpu.link()
    cpu.delay(region(cpu))


@op("000000 rs 00000 00000 hint:5 001000", jump="computed")
def jr(cpu: Cpu) -> None:
    """The hint says whether hazards are to be cleared, of which there are none."""
    cpu.delay(cpu.reg("rm", 64))


@op("000000 rs 00000 rd hint:5 001001", jump="computed", writes="rd")
def jalr(cpu: Cpu) -> None:
    cpu.delay(cpu.reg("rm", 64))
    cpu.link("base")


# -- on a floating point condition
def code_bit(cc: Value) -> Value:
    """Where FCSR has a condition code: number 0 in bit 23, the others from bit 25 on."""
    r: Value = 23 + cc + (cc != 0).zext(64)
    return r


def flag(cpu: Cpu) -> Value:
    """The condition code that the encoding names in bits 20:18."""
    r: Value = (cpu.fcsr.u >> code_bit(cpu.field("reg").u >> 2)).low(1)
    return r


branch("010001 01000 cc 00 branch", "bc1f",  lambda cpu: ~flag(cpu), fpu=True)
branch("010001 01000 cc 01 branch", "bc1t",  lambda cpu: flag(cpu), fpu=True)
likely("010001 01000 cc 10 branch", "bc1fl", lambda cpu: ~flag(cpu), fpu=True)
likely("010001 01000 cc 11 branch", "bc1tl", lambda cpu: flag(cpu), fpu=True)
