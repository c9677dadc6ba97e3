"""Comparisons of floating point numbers (vol. I, 5.8.3.3 and table 3.20; vol. II, C.cond.fmt)."""

from __future__ import annotations

from exuvia.dsl.trace import Var, rarely, seldom, when
from exuvia.dsl.values import lift
from exuvia.isa.mips.branch import code_bit
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.floats import INVALID, OPERATIONS
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.fpu import CODES, noted, read, trapped
from exuvia.isa.mips.fpu_host import WIDTHS, forget_invalid, own
from exuvia.isa.mips.fpu_host import compare as by_host

CONDITIONS = "f un eq ueq olt ult ole ule sf ngle seq ngl lt nge le ngt".split()


def compare(number: int, name: str, fmt: str) -> None:
    """Bits 2:0 of the condition's number say which relations it is true for; bit 3, that a quiet NaN is invalid too."""

    @op(f"010001 {CODES[fmt]} ft fs cc 00 11 {number:04b}", f"c.{name}.{fmt}", fpu=True, keeps=True)
    def run(cpu: Cpu) -> None:
        a, b = read(cpu, "fs", WIDTHS[fmt]), read(cpu, "ft", WIDTHS[fmt])
        found = Var(lift(0, 32), 32)

        def by_function(traps: bool = False) -> None:
            found.set(OPERATIONS["c", fmt](a, b, cpu.fcsr.low(32)).low(32))
            flags = ((found & (0x101 if number & 8 else 0x100)) != 0).choose(lift(INVALID, 8), 0)
            if traps:
                trapped(cpu, flags)
            noted(cpu, flags)

        with seldom(~own(cpu)):
            by_function(traps=True)
        with when(own(cpu)):
            nan = by_host(fmt, a, b, found)
            noted(cpu, lift(0, 8))
            with rarely(nan):
                forget_invalid()
                by_function()
        bit = lift(1, 64) << code_bit(cpu.field("scale").u >> 2)
        cpu.fcsr = ((found & (number & 7)) != 0).choose(cpu.fcsr | bit, cpu.fcsr & ~bit)


for _number, _name in enumerate(CONDITIONS):
    for _fmt in "sd":
        compare(_number, _name, _fmt)
