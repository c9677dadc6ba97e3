"""Every encoding of the Advanced SIMD chapters against Unicorn, with edge and random lanes."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.forms import Row
from tests.isa.aarch64.machine import Case, compare, encodings, values

CHAPTERS = "simd_same simd_different simd_shift simd_misc".split()
EACH = 4  # instructions of a variant
architecture()


def vector(rng: random.Random) -> int:
    """Lanes that meet others at edges: of 8 to 64 bits, few different values."""
    w = rng.choice((8, 16, 32, 64))
    edges = (0, 1, (1 << w) - 1, 1 << w - 1, (1 << w - 1) - 1, (1 << w - 1) + 1, w, w - 1, (1 << w) - w)
    lanes = [rng.choice(edges) if rng.random() < 0.6 else rng.getrandbits(w) for _ in range(128 // w)]
    return sum(v << i * w for i, v in enumerate(lanes))


def case(rng: random.Random, row: Row, code: int, variant: dict[str, int]) -> Case:
    """An instruction with such vectors."""
    few = [vector(rng) for _ in range(4)]
    return Case([code], values(rng, 32), rng.getrandbits(4), v=[rng.choice(few) for _ in range(32)], fpsr=rng.choice((0, 1 << 27)))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_as_unicorn(chapter: str) -> None:
    rng = random.Random(chapter)
    cases = [
        case(rng, row, code, variant)
        for row, variant in tables(None).rows[2:]
        if row.run.__module__.endswith("." + chapter)
        for code in encodings(rng, *row.pattern(variant), EACH)
    ]
    assert compare(cases) > len(cases) // 2
