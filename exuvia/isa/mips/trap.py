"""Traps, system calls and breakpoints (vol. I, table 3.7; vol. II)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.mips.cpu import Cpu, leave, raise_
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.state import BP, RI, SYS, TR

SEMIHOSTING = 1  # Unified Hosting Interface (MD01069)
Comparison = Callable[[Value, Value], Value]


def trap(text: str, name: str, c: Comparison) -> None:
    """An exception, where the comparison of rs with rt or the immediate holds."""
    immediate = " imm" in text

    @op(text, name)
    def run(cpu: Cpu) -> None:
        with when(c(cpu.rs, cpu.imm if immediate else cpu.rt)):
            raise_(TR)


for _name, _register, _immediate, _c in (
    ("tge",  "110000", "01000", lambda a, b: a.s >= b),
    ("tgeu", "110001", "01001", lambda a, b: a.u >= b),
    ("tlt",  "110010", "01010", lambda a, b: a.s < b),
    ("tltu", "110011", "01011", lambda a, b: a.u < b),
    ("teq",  "110100", "01100", lambda a, b: a == b),
    ("tne",  "110110", "01110", lambda a, b: a != b),
):  # fmt: skip
    trap(f"000000 rs rt trap:10 {_register}", _name, _c)
    trap(f"000001 rs {_immediate} imm", _name.removesuffix("u") + "i" + _name[3:], _c)


@op("000000 code:20 001100", ends=True)
def syscall(cpu: Cpu) -> None:
    raise_(SYS)


@op("000000 code:20 001101", "break", ends=True)
def breakpoint_(cpu: Cpu) -> None:
    raise_(BP)


@op("011100 code:20 111111", ends=True)
def sdbbp(cpu: Cpu) -> None:
    """There is no debug mode: reserved, but for the code that calls the host (rare/semihosting.py)."""
    with when(cpu.imm != SEMIHOSTING):
        raise_(RI)
    leave("semihosting_call")
