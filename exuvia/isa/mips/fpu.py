"""Floating point arithmetic (vol. I, table 3.20; vol. II): the unit's registers, FCSR, and what computes."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import Var, seldom, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu, raise_
from exuvia.isa.mips.floats import FUSED, OPERATIONS
from exuvia.isa.mips.forms import FIELDS, op
from exuvia.isa.mips.fpu_host import CAUSES, HOST, WIDTHS, own
from exuvia.isa.mips.fpu_host import compute as by_host
from exuvia.isa.mips.state import F_CAUSE, F_ENABLES, F_FLAGS, FPE

CODES = {"s": "10000", "d": "10001", "w": "10100", "l": "10101"}
"""The field fmt."""


def read(cpu: Cpu, field: str, w: int) -> Value:
    """A floating point register, by the encoding's name of the field."""
    slot = FIELDS[field]
    if cpu.wide:
        return cpu.get(("fw", slot, 64)).low(w)
    return cpu.get(("f" if w == 32 else "fd", slot, w))


def write(cpu: Cpu, field: str, v: Value) -> None:
    """Above a result of 32 bits is nothing that software may rely on (vol. I, 5.5)."""
    slot = FIELDS[field]
    if cpu.wide:
        cpu.put(("fw", slot, 64), v.zext(64))
    else:
        cpu.put(("f" if v.w == 32 else "fd", slot, v.w), v)


def caused(cpu: Cpu, flags: Value) -> Value:
    """FCSR with exceptions of this instruction as the cause (vol. I, 5.8)."""
    r: Value = cpu.fcsr & ~CAUSES | flags.zext(64) << F_CAUSE
    return r


def trapped(cpu: Cpu, flags: Value) -> None:
    """A trap where one of the exceptions is enabled."""
    fcsr = caused(cpu, flags)
    with when((flags.zext(64) & (fcsr.u >> F_ENABLES)) != 0):
        cpu.put_at("fcsr", lift(0, 64), fcsr)
        raise_(FPE)


def noted(cpu: Cpu, flags: Value) -> None:
    """No trap: FCSR.Flags has the exceptions too."""
    cpu.fcsr, cpu.fp_last = caused(cpu, flags) | flags.zext(64) << F_FLAGS, lift(0, 64)


def compute(text: str, name: str, source: str, sources: str, w: int, **facts: Any) -> None:
    """fd = an operation on registers; `source` is the format of its operands. The format L is for 64-bit registers."""

    wide = "l" in (source, name.partition(".")[2])

    @op(text, f"{name}.{source}", fpu=True, keeps=True, wide=wide, **facts)
    def run(cpu: Cpu) -> None:
        operands = [read(cpu, field, WIDTHS[source]) for field in sources.split()]
        value = Var(lift(0, w), w)

        def by_function(traps: bool = False) -> None:
            packed = OPERATIONS[name, source](*operands, cpu.fcsr.low(32))
            flags = packed.bits(w + 4, w)
            if traps:
                trapped(cpu, flags)
            noted(cpu, flags)
            value.set(packed.low(w))

        if (name, source) in HOST:
            with seldom(~own(cpu)):
                by_function(traps=True)
            with when(own(cpu)):
                by_host(cpu, name, source, operands, value, by_function)
        else:
            by_function(traps=True)
        write(cpu, "fd", value.read())


for _fmt in "sd":
    _w = WIDTHS[_fmt]
    for _name, _function in (("add", "000000"), ("sub", "000001"), ("mul", "000010"), ("div", "000011")):
        compute(f"010001 {CODES[_fmt]} ft fs fd {_function}", _name, _fmt, "fs ft", _w)
    for _name, _function in (("sqrt", "000100"), ("recip", "010101"), ("rsqrt", "010110")):
        compute(f"010001 {CODES[_fmt]} 00000 fs fd {_function}", _name, _fmt, "fs", _w)
    for _name, _function in zip(FUSED, ("100", "101", "110", "111"), strict=True):
        compute(f"010011 fr ft fs fd {_function} 00{int(_fmt == 'd')}", _name, _fmt, "fs ft fr", _w, feature="r2")
