"""Instruction words from the rows themselves: `word("addiu", rt="t0", imm=5)`."""

from __future__ import annotations

from exuvia.isa.mips import load
from exuvia.isa.mips.cp0 import NAMES
from exuvia.isa.mips.forms import ROWS
from exuvia.isa.mips.state import GPR
from tests.isa.mips.machine import BREAK

load()
NUMBERS = {name: place for place, name in NAMES.items()}
NOP = 0


def word(name: str, /, **fields: int | str) -> int:
    """An instruction; fields that are not given are zero. A branch's field counts instructions from the delay slot."""
    row = next(r for r in ROWS if r.name == name and fields.keys() <= r.fields.keys())
    out = row.value
    for field, v in fields.items():
        low, width = row.fields[field]
        n = GPR.index(v) if isinstance(v, str) else v
        out |= (n & (1 << width) - 1) << low
    return out


def mfc0(rt: str, name: str) -> int:
    """rt = a register of coprocessor 0."""
    number, select = NUMBERS[name]
    return word("mfc0", rt=rt, rd=number, sel=select)


def mtc0(rt: str, name: str) -> int:
    """The other way."""
    number, select = NUMBERS[name]
    return word("mtc0", rt=rt, rd=number, sel=select)


def li(rt: str, value: int) -> list[int]:
    """A constant of 32 bits."""
    return [word("lui", rt=rt, upper=value >> 16), word("ori", rt=rt, rs=rt, uimm=value & 0xFFFF)]


__all__ = ["BREAK", "NOP", "li", "mfc0", "mtc0", "word"]
