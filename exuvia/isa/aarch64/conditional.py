"""Conditional select and compare, and what else works on the flags (DDI 0487, C3.4.11, C3.5.10)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.forms import op


def select(code: str, name: str, other: Callable[[Value], Value]) -> None:
    """Rn where the condition holds, else something of Rm."""
    @op(f"sf {code[0]} 0 11010100 Rm cond 0 {code[1]} Rn Rd", name, asm="{Rd}, {Rn}, {Rm}, {cond}")
    def run(cpu: Cpu) -> None:
        cpu.Rd = cpu.condition_holds.choose(cpu.Rn, other(cpu.Rm))


select("00", "csel", lambda v: v)
select("01", "csinc", lambda v: v + 1)
select("10", "csinv", lambda v: ~v)
select("11", "csneg", lambda v: -v)


def compare(o: int, name: str, rows: tuple[str, str]) -> None:
    """Flags of a comparison where the condition holds, else those in the instruction."""
    for text in rows:

        @op(text.replace("o ", f"{o} ", 1), name, asm="{Rn}, {operand}, {nzcv}, {cond}")
        def run(cpu: Cpu, immediate: bool = "imm5" in text) -> None:
            a, b = cpu.Rn, cpu.imm.low(cpu.w) if immediate else cpu.Rm
            holds = cpu.condition_holds
            cpu.set_flags("nzcv", cpu.bits("nzcv").low(4))
            with when(holds):
                cpu.set_flags("subtracted" if o else "added", a, b, a - b if o else a + b)


_ROWS = "sf o 1 11010010 Rm cond 0 0 Rn 0 nzcv=4", "sf o 1 11010010 imm5 cond 1 0 Rn 0 nzcv=4"
compare(0, "ccmn", _ROWS)
compare(1, "ccmp", _ROWS)
