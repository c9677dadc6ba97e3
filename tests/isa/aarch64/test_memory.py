"""Loads, stores and atomic instructions against Unicorn: every encoding, bases inside a window of memory."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.forms import Row
from tests.isa.aarch64.machine import DATA, DATA_SIZE, Case, compare, encodings, native, values

EACH = 5
ATOMICS = "atomics"  # Unicorn lets some of them be misaligned
architecture()


def number(row: Row, code: int, name: str) -> int | None:
    """The register in a field."""
    if name not in row.fields:
        return None
    return code >> row.fields[name][1] & 31


def predictable(row: Row, code: int) -> bool:
    """Not one of the combinations of registers that are CONSTRAINED UNPREDICTABLE, or a pair that is in the way of another."""
    n, t, t2, s = (number(row, code, name) for name in ("Rn", "Rt", "Rt2", "Rs"))
    if row.name.startswith("casp"):
        return s is not None and t is not None and abs(s - t) > 1
    return not (n in (t, t2) and n != 31 or t == t2 and t is not None or s is not None and s in (n, t, t2))


def case(rng: random.Random, row: Row, code: int) -> Case:
    """Registers that lead into the window."""
    x = values(rng, 32)
    n, m = number(row, code, "Rn"), number(row, code, "Rm")
    if "imm12" in row.fields:
        code &= ~(0x3C << row.fields["imm12"][1])
        code &= ~(0xF00 << row.fields["imm12"][1])
    if n is not None:
        x[n] = (
            DATA
            + DATA_SIZE // 2
            + (16 * rng.randrange(-40, 40) if ATOMICS in row.run.__module__ or rng.random() < 0.8 else rng.randrange(-600, 600))
        )
    if m is not None and m != n and "Rm" in row.fields and "option" in row.fields:
        x[m] = rng.randrange(-200 if code >> 15 & 1 else 0, 200) & (1 << 64) - 1
    return Case([code], x, rng.getrandbits(4), memory=rng.randbytes(DATA_SIZE))


@pytest.mark.parametrize("chapter", ["loads", "atomics"])
def test_as_unicorn(chapter: str) -> None:
    rng = random.Random(chapter)
    cases = []
    for row, variant in tables(None).rows[2:]:
        if row.run.__module__.endswith("." + chapter) and not (row.name[:4] == "ldsm" and row.match >> 30 < 3):
            codes = [c for c in encodings(rng, *row.pattern(variant), 2 * EACH) if predictable(row, c)]
            cases += [case(rng, row, c) for c in codes[:EACH]]
    assert compare(cases) > len(cases) // 2


def test_signed_extremes() -> None:
    """Unicorn compares less than 64 bits without their signs."""
    for least in (0, 1):
        for size, low, high in ((0, 0x80, 0x7F), (1, 0x8000, 1), (2, 0xFFFF_FFFE, 0)):
            code = size << 30 | 0x38200000 | 3 << 16 | (5 if least else 4) << 12 | 2 << 5 | 4
            for old, operand in ((low, high), (high, low)):
                x = [DATA if i == 2 else operand if i == 3 else 0 for i in range(32)]
                result = native().run(Case([code], x, memory=old.to_bytes(4, "little")))
                assert (result.x[4], int.from_bytes(result.memory[:4], "little")) == (old, low if least else high)


def test_misaligned() -> None:
    """Atomic instructions fault with the address and the direction; nothing is written."""
    rng = random.Random(1)
    n = native()
    for row, variant in tables(None).rows[2:]:
        if row.run.__module__.endswith(ATOMICS) and "Rn" in row.fields and "stack" not in variant and not row.name.endswith("b"):
            mask, match = row.pattern(variant)
            code = match | 2 << 5 | 0x1E << 16 & ~mask
            x = [DATA + 1 if i == 2 else i for i in range(32)]
            memory = rng.randbytes(DATA_SIZE)
            result = n.run(Case([code], x, memory=memory))
            writes = row.name.startswith("st")  # of an operation on memory it is the load that faults
            assert result.syndrome == 0x24 << 26 | 1 << 25 | 0x21 | writes << 6, row
            assert (n["fault_address"], result.memory, result.x) == (DATA + 1, memory, x), row
