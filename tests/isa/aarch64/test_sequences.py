"""Sequences of instructions, interpreted, as regions and as copies, against Unicorn: flags and registers live from one to the next."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.forms import Row
from tests.isa.aarch64.machine import DATA, DATA_SIZE, Case, Native, Oracle, difference, native, oracle, values

COUNT, LENGTH, BASE = 60, 14, 20
architecture()


def field(row: Row, code: int, name: str, value: int) -> int:
    """The instruction with a field set."""
    if name not in row.fields:
        return code
    high, low = row.fields[name]
    return code & ~((1 << high - low + 1) - 1 << low) | value << low


def usable(row: Row) -> bool:
    """Neither jumps nor moves a base."""
    chapter = row.run.__module__.rpartition(".")[2]
    if chapter == "loads":
        return ("imm12" in row.fields or "simm7" in row.fields and row.text[8:11] == "010") and "Rt" in row.fields
    return chapter in ("arithmetic", "logical", "conditional")


def instruction(rng: random.Random, rows: list[tuple[Row, dict[str, int]]]) -> int:
    """One whose destination is x0 to x15 and whose base, of an access, is x20."""
    row, variant = rng.choice(rows)
    while True:
        mask, match = row.pattern(variant)
        code = match | rng.getrandbits(32) & ~mask & 0xFFFF_FFFF
        if "imm12" in row.fields and "Rt" in row.fields:
            code = field(row, code, "imm12", rng.randrange(64))
        for name in ("Rd", "Rt", "Rt2"):
            code = field(row, code, name, rng.randrange(16))
        if "Rt" in row.fields:
            code = field(row, code, "Rn", BASE)
        if "Rt2" not in row.fields or code & 31 != code >> 10 & 31:
            return code


@pytest.mark.parametrize("kind", ["interpreted", "regions", "copies"])
def test_as_unicorn(kind: str) -> None:
    rng = random.Random(3)
    rows = [(row, variant) for row, variant in tables(None).rows[2:] if usable(row)]
    n: Native = native()
    o: Oracle = oracle()
    n.regions, n.copies = kind == "regions", kind == "copies"
    try:
        for _ in range(COUNT):
            x = values(rng, 32)
            x[BASE] = DATA + DATA_SIZE // 2
            case = Case([instruction(rng, rows) for _ in range(LENGTH)], x, rng.getrandbits(4), memory=rng.randbytes(DATA_SIZE))
            theirs = o.run(case)
            if theirs.syndrome:
                continue
            ours = n.run(case)
            assert ours == theirs, f"{case}\n{difference(ours, theirs)}"
    finally:
        n.regions = n.copies = False
    assert kind != "regions" or n.engine.hot.made > COUNT // 3
    assert kind != "copies" or n.copied > COUNT // 2
