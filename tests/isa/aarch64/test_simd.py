"""Every encoding of the Advanced SIMD chapters against Unicorn, with edge and random lanes."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.forms import Row
from tests.isa.aarch64.machine import CODE, DATA, DATA_SIZE, Case, compare, encodings, values

CHAPTERS = "simd_same simd_different simd_shift simd_misc simd_copy simd_memory crypto crypto_sm".split()
EACH, MOST = 5, 2  # instructions of a variant, variants of an encoding
architecture()


def some(rng: random.Random, chapter: str, most: int = MOST) -> list[tuple[Row, dict[str, int]]]:
    """Every encoding of a chapter; of those with many variants some."""
    variants: dict[int, list[tuple[Row, dict[str, int]]]] = {}
    for row, variant in tables(None).rows[2:]:
        if row.run.__module__.endswith("." + chapter):
            variants.setdefault(row.id, []).append((row, variant))
    return [one for of_row in variants.values() for one in rng.sample(of_row, min(len(of_row), most))]


def vector(rng: random.Random) -> int:
    """Lanes that meet others at edges: of 8 to 64 bits, few different values."""
    w = rng.choice((8, 16, 32, 64))
    edges = (0, 1, (1 << w) - 1, 1 << w - 1, (1 << w - 1) - 1, (1 << w - 1) + 1, w, w - 1, (1 << w) - w)
    lanes = [rng.choice(edges) if rng.random() < 0.6 else rng.getrandbits(w) for _ in range(128 // w)]
    return sum(v << i * w for i, v in enumerate(lanes))


def case(rng: random.Random, row: Row, code: int, variant: dict[str, int]) -> Case:
    """An instruction with such vectors; what accesses memory does so in the window, now and then over a page's end."""
    few = [vector(rng) for _ in range(4)]
    v, x, memory = [rng.choice(few) for _ in range(32)], values(rng, 32), b""
    if row.run.__module__.endswith("memory"):
        memory = rng.randbytes(DATA_SIZE)
        v = [rng.getrandbits(128) for _ in range(32)]
        if "imm12" in row.fields:
            code &= ~(0xFC0 << row.fields["imm12"][1])
        if "simm19" in row.fields:
            code = code & ~(0x7FFFF << 5) | DATA - CODE + 4 * rng.randrange(2000) >> 2 << 5
        if "option" in row.fields:
            code ^= (code >> 16 & 31 == code >> 5 & 31) << 16
            x[code >> 16 & 31] = rng.randrange(-200 if code >> 15 & 1 else 0, 200) & (1 << 64) - 1
        x[code >> 5 & 31] = DATA + DATA_SIZE // 2 + (rng.randrange(-70, 10) if rng.random() < 0.3 else rng.randrange(-600, 600))
    return Case([code], x, rng.getrandbits(4), v=v, memory=memory, fpsr=rng.choice((0, 1 << 27)))


def cases_of(rng: random.Random, chapter: str, most: int = MOST) -> list[Case]:
    """Of each variant a few."""
    rows = some(rng, chapter, most)
    return [case(rng, row, code, variant) for row, variant in rows for code in encodings(rng, *row.pattern(variant), EACH)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_as_unicorn(chapter: str) -> None:
    cases = cases_of(random.Random(chapter), chapter)
    assert compare(cases) > len(cases) // 2


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_variant(chapter: str) -> None:
    """With other lanes each time."""
    cases = cases_of(random.Random(), chapter, 1 << 16)
    assert compare(cases) > len(cases) // 2
