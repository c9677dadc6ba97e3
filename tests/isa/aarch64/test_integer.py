"""Every encoding of the integer chapters against Unicorn, with edge and random operands."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from tests.isa.aarch64.machine import BRK, DATA_SIZE, Case, compare, encodings, values

CHAPTERS = "arithmetic logical conditional branches".split()
STOPS = BRK.to_bytes(4, "little") * (DATA_SIZE // 4)  # where jumps end
EACH = 6  # instructions of a variant
architecture()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_as_unicorn(chapter: str) -> None:
    rng = random.Random(chapter)
    cases = []
    for row, variant in tables(None).rows[2:]:
        if row.run.__module__.endswith("." + chapter):
            for code in encodings(rng, *row.pattern(variant), EACH):
                x = values(rng, 32)
                x = [v & ~3 for v in x] if row.facts.get("ends") else x
                cases.append(Case([code], x, rng.getrandbits(4), memory=STOPS))
    assert compare(cases) > len(cases) // 2
