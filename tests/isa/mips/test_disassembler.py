"""The disassembler's text against capstone's, over generated encodings of every row; what differs by taste is made alike first."""

from __future__ import annotations

import random
import re

import capstone
import pytest

from exuvia.isa.mips import load
from exuvia.isa.mips.disassembler import disassemble
from exuvia.isa.mips.forms import ROWS, Row
from exuvia.isa.mips.state import GPR
from tests.isa.mips.decoding import decoded

AT = 0x8000_1000
TRAPS = frozenset("tgei tgeiu tlti tltiu teqi tnei".split())
COPROCESSOR = ("mfc0", "mtc0", "cfc1", "ctc1", "rdhwr")
UNKNOWN = frozenset("rdpgpr wrpgpr luxc1 suxc1 prefx recip.s recip.d rsqrt.s rsqrt.d wait".split())
"""What capstone prints otherwise, or not at all."""


def ours(word: int, at: int = AT) -> str:
    """Our text."""
    row, fields = decoded(word, at & 0xFFF)
    return disassemble(row, fields, at)


def theirs(word: int) -> str | None:
    """Capstone's text."""
    for mode in (capstone.CS_MODE_MIPS32, capstone.CS_MODE_MIPS64):  # the latter has what wants 64-bit floating point registers
        cs = capstone.Cs(capstone.CS_ARCH_MIPS, mode | capstone.CS_MODE_LITTLE_ENDIAN)
        if (found := next(cs.disasm(word.to_bytes(4, "little"), AT), None)) is not None:
            return f"{found.mnemonic} {found.op_str}".strip()
    return None


def encodings(row: Row, count: int) -> list[int]:
    """Words that the row has."""
    r = random.Random(row.text)
    out = []
    for _ in range(count):
        word = row.value
        for name, (low, w) in row.fields.items():
            v = r.getrandbits(w)
            if name in ("fs", "ft", "fd", "fr"):
                v &= 30
            if row.name[:2] == "c." and name == "cc":
                v = 0  # capstone knows no other
            if name == "hint" and w == 5 and row.name in ("jr", "jalr"):
                v = 0
            word |= v << low
        if "again" in row.fields:
            word = word & ~(31 << 16) | (word >> 11 & 31) << 16
        out.append(word)
    return out


def alike(text: str) -> str:
    """Numbers in one form, negative ones as 32 bits; registers of coprocessors by number, which capstone gives names of general ones."""
    name, _, rest = text.partition(" ")
    if name in COPROCESSOR:
        first, second, *more = rest.split(", ")
        rest = ", ".join([first, f"${GPR.index(second[1:])}" if second[1:] in GPR else second, *more])

    def number(m: re.Match[str]) -> str:
        return f"{int(m[0], 0) & (0xFFFF if name in TRAPS else 0xFFFF_FFFF):#x}"

    rest = re.sub(r"(?<![\w$.])-?(0x[0-9a-f]+|\d+)\b", number, rest)
    return f"{name} {rest}".strip()


def test_every_row_reads_as_capstone_reads_it() -> None:
    load()
    count, wrong = 0, []
    for row in ROWS:
        if row.name in UNKNOWN or row.name == "rdhwr" and row.facts["feature"] != "userlocal":
            continue
        for word in encodings(row, 4):
            a, b = ours(word), theirs(word)
            count += 1
            if b is None or alike(a) != alike(b):
                wrong.append(f"{row} {word:08x}: {a} | {b}")
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:80]])


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x00000000, "nop"),
        (0x000000C0, "ehb"),
        (0x27BDFFE0, "addiu $sp, $sp, -0x20"),
        (0x3C1C8012, "lui $gp, 0x8012"),
        (0x1000FFFF, "beq $zero, $zero, 0x80001000"),
        (0x0C000400, "jal 0x80001000"),
        (0x03E00008, "jr $ra"),
        (0x8FBF001C, "lw $ra, 0x1c($sp)"),
        (0x40086000, "mfc0 $t0, $12, 0"),
        (0x46062032, "c.eq.s $f4, $f6"),
        (0x46062132, "c.eq.s $fcc1, $f4, $f6"),
        (0x45010003, "bc1t 0x80001010"),
        (0x46002015, "recip.s $f0, $f4"),
        (0x7C03E83B, "rdhwr $v1, $29"),
        (0x42000018, "eret"),
    ],
)
def test_examples(word: int, text: str) -> None:
    assert ours(word) == text
