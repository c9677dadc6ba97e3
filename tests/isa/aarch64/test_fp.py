"""Every encoding of the floating-point chapters against Unicorn: numbers at edges and NaNs, all rounding modes, FZ, FZ16, DN and AHP."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from exuvia.codegen import floats
from exuvia.codegen.store import Store
from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.cpu import EC_FP
from exuvia.isa.aarch64.forms import Row
from exuvia.isa.aarch64.fpcr import AHP, DN, FLAGS, FZ, FZ16, RMODE
from tests.isa.aarch64 import machine
from tests.isa.aarch64.machine import CODE, Case, Native, Result, compare, encodings, native, values
from tests.isa.aarch64.test_simd import MOST, some

CHAPTERS = "fp_scalar fp_vector fp_later".split()
EACH = 9  # instructions of a variant
FORMATS = {16: (5, 10), 32: (8, 23), 64: (11, 52)}
"""Bits of exponent and of fraction."""
NOTHING = Result([], 0, 0, [], b"", 0)
architecture()


def number(rng: random.Random, w: int) -> int:
    """A float of w bits that meets others at edges: few exponents, fractions of few ones or few zeros; now and then a NaN."""
    exponents, fractions = FORMATS[w]
    most, bias = (1 << exponents) - 1, (1 << exponents - 1) - 1
    kind = rng.random()
    if kind < 0.08:
        return rng.getrandbits(1) << w - 1 | most << fractions | (rng.getrandbits(fractions) or 1)
    if kind < 0.5:
        e = bias + rng.randrange(-3, 4)
    elif kind < 0.62:
        e = rng.choice((0, 0, most))
    elif kind < 0.8:  # products and quotients of two of these, or sums, are at an edge
        e = rng.choice((1, 1 + fractions, bias // 2, bias + bias // 2, most - 1)) + rng.randrange(-2, 3)
    else:  # integers, of all widths
        e = bias + rng.choice((rng.randrange(fractions + 4), 7, 8, 15, 16, 31, 32, 63, 64)) + rng.randrange(-1, 2)
    shape = rng.randrange(6)
    fraction = (
        0, rng.getrandbits(4) << fractions - 4, (1 << fractions) - 1 - rng.getrandbits(2), 1 << rng.randrange(fractions),
        rng.getrandbits(fractions // 2) << fractions - fractions // 2, rng.getrandbits(fractions),
    )[shape]  # fmt: skip
    return rng.getrandbits(1) << w - 1 | max(0, min(most, e)) << fractions | fraction


def vector(rng: random.Random, w: int) -> int:
    """128 bits of them; more than half with the same in each lane, so that not always one lane is odd."""
    lanes = [number(rng, w)] * (128 // w) if rng.random() < 0.6 else [number(rng, w) for _ in range(128 // w)]
    return sum(v << i * w for i, v in enumerate(lanes))


def fpcr(rng: random.Random) -> int:
    """Half of them change no more than how to round."""
    word = rng.getrandbits(2) << RMODE
    if rng.random() < 0.5:
        word |= sum(1 << bit for bit in (FZ, DN, AHP, FZ16) if rng.random() < 0.4)
    return word


def case(rng: random.Random, row: Row, code: int, variant: dict[str, int], w: int) -> Case:
    """An instruction with such numbers, and integers that are as wide."""
    few = [vector(rng, w) for _ in range(4)]
    x = [rng.choice([*values(rng, 1), number(rng, w)]) >> rng.choice((0, 0, 1, 12, 40)) for _ in range(32)]
    v = [rng.choice(few) for _ in range(32)]
    return Case([code], x, rng.getrandbits(4), v=v, fpcr=fpcr(rng), fpsr=rng.choice((0, rng.getrandbits(32) & FLAGS)))


def kept(case: Case, result: Result) -> bool:
    """Not what QEMU 5 has wrong: FCVTZS Hd, Hn, #fbits leaves copies of the sign above its 16 bits, where V[d] gets zeros (C7.2.113);
    FCMLA of four halves by an element raises flags for the other four (C7.2.52)."""
    return all(code & 0xFFF0_FC00 != 0x5F10_FC00 and code & 0xFFC0_9400 != 0x2F40_1000 for code in case.code)


def cases_of(rng: random.Random, chapter: str, most: int = MOST) -> list[Case]:
    """Of each variant some, with numbers of all formats."""
    return [
        case(rng, row, code, variant, (16, 32, 64)[k % 3])
        for row, variant in some(rng, chapter, most)
        for k, code in enumerate(encodings(rng, *row.pattern(variant), EACH))
    ]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_as_unicorn(chapter: str) -> None:
    cases = cases_of(random.Random(chapter), chapter)
    assert compare(cases, kept) > len(cases) // 2


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_variant(chapter: str) -> None:
    """With other numbers each time."""
    for _ in range(10):
        cases = cases_of(random.Random(), chapter, 1 << 16)
        assert compare(cases, kept) > len(cases) // 2


MRS, MSR = (0xD53B_4400, 0xD53B_4420), (0xD51B_4400, 0xD51B_4420)
"""Of FPCR and FPSR, with Rt 0."""


def sequence(rng: random.Random, pool: list[tuple[Row, dict[str, int]]], w: int) -> Case:
    """Some instructions, between them FPCR and FPSR written and read."""
    codes = []
    for _ in range(rng.randrange(4, 12)):
        if rng.random() < 0.25:
            codes.append(rng.choice(MRS + MSR) | rng.randrange(31))
        else:
            row, variant = rng.choice(pool)
            codes += encodings(rng, *row.pattern(variant), 1)
    whole = case(rng, row, 0, variant, w)
    whole.code = codes
    whole.x = [fpcr(rng) | rng.getrandbits(5) for _ in range(32)]  # what AArch32 has in FPCR and FPSR does not exist here
    return whole


@pytest.mark.parametrize("regions", [False, True])
def test_sequences(regions: bool) -> None:
    """The host's flags and rounding stay the guest's over several instructions."""
    rng = random.Random(regions)
    pool = [one for chapter in ("fp_scalar", "fp_vector", "simd_same", "simd_copy") for one in rng.sample(some(rng, chapter), 40)]
    native().regions = regions
    try:
        cases = [c for c in (sequence(rng, pool, rng.choice((32, 64))) for _ in range(60)) if kept(c, NOTHING)]
        assert compare(cases) == len(cases)
    finally:
        native().regions = False


def test_where_the_host_is_no_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same by the functions alone, as on hosts that lack those instructions."""
    monkeypatch.setattr(floats, "host", lambda: ("somewhere", frozenset()))
    alone = Native(store=Store("aarch64-floats", tmp_path))
    monkeypatch.setattr(machine, "native", lambda: alone)
    rng = random.Random(3)
    rows = [one for chapter in CHAPTERS for one in some(rng, chapter) if one[0].features <= {"frint"}]
    cases = [case(rng, row, encodings(rng, *row.pattern(v), 1)[0], v, w) for row, v in rng.sample(rows, 60) for w in (32, 64)]
    assert compare(cases, kept) > len(cases) // 2
    alone.close()


@pytest.mark.parametrize(("el", "open_"), [(1, 1), (0, 3)])
def test_closed(el: int, open_: int) -> None:
    """CPACR_EL1.FPEN: what traps is an exception of class 7 before anything is done."""
    n, code = native(), 0x1E62_2820  # fadd d0, d1, d2
    for fpen in range(4):
        n.put(Case([code], el=el))
        n["cpacr_el1"] = fpen << 20
        n.go()
        assert (n["syndrome"] >> 26 == EC_FP) == (fpen & open_ != open_), fpen
        if n["syndrome"] >> 26 == EC_FP:
            assert n["syndrome"] & 0x1FF_FFFF == 0x1E0_0000 and n["exception_return"] == CODE
    n.put(Case([code], el=el))
    n["cptr_el2"] = 1 << 10  # TFP
    n.go()
    n["cptr_el2"] = 0
    assert (n["syndrome"] >> 26, n["exception_el2"]) == (EC_FP, 1)
