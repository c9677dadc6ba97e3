"""SSE and x87 on handlers and in regions against the host's processor, with numbers that random ones seldom are: results that are exact,
or lie at the edge of overflow, underflow and denormals; every rounding mode, PE clear and set, FTZ and DAZ, each exception unmasked."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exuvia.codegen import floats, instructions
from exuvia.codegen.store import Store
from tests.codegen.native import PLAIN, NativeMachine
from tests.codegen.test_semantics import Judged, mismatches
from tests.isa.x86.cases import suitable
from tests.isa.x86.test_sse import FLOAT, MXCSR_AT
from tests.isa.x86.test_x87 import AREAS, X87
from tests.oracle.generate import Generated, Generator
from tests.oracle.hostcpu import HostCpu, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
FORMATS = {32: (8, 23), 64: (11, 52), 80: (15, 63)}
"""Bits of exponent and of fraction, without the x87's leading one."""


@pytest.fixture(scope="module")
def native() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    with HostCpu() as h:
        yield h


def number(r: random.Random, w: int) -> int:
    """A float of w bits that meets others at edges: few exponents, fractions of few ones or few zeros."""
    exponents, fractions = FORMATS[w]
    most, bias = (1 << exponents) - 1, (1 << exponents - 1) - 1
    kind = r.random()
    if kind < 0.5:
        e = bias + r.randrange(-3, 4)
    elif kind < 0.62:
        e = r.choice((0, 0, most))
    elif w == 80 and kind < 0.75:  # the edges of shorter formats, which FST and FIST meet
        e = bias + r.choice((-1075, -1023, 1023, -150, -127, 127, 14, 30, 62)) + r.randrange(-1, 3)
    elif kind < 0.8:  # products and quotients of two of these, or sums, are at an edge
        e = r.choice((1, 1 + fractions, bias // 2, bias + bias // 2, most - 1)) + r.randrange(-2, 3)
    else:
        e = bias + r.choice((-1, 1)) * r.randrange(fractions + 4)
    e = max(0, min(most, e))
    shape = r.randrange(6)
    if shape == 0:
        fraction = 0
    elif shape == 1:
        fraction = r.getrandbits(4) << fractions - 4
    elif shape == 2:
        fraction = (1 << fractions) - 1 - r.getrandbits(2)
    elif shape == 3:
        fraction = 1 << r.randrange(fractions)
    elif shape == 4:
        fraction = r.getrandbits(fractions // 2) << fractions - fractions // 2
    else:
        fraction = r.getrandbits(fractions)
    if w == 80 and e:
        fraction |= 1 << 63
        e -= r.random() < 0.003  # now and then a pseudo-denormal, or an encoding that is no longer supported
    elif w == 80 and r.random() < 0.5:
        fraction >>= r.randrange(64)
    return r.getrandbits(1) << w - 1 | e << w - 1 - exponents | fraction


def words(r: random.Random, w: int, length: int) -> bytes:
    """Numbers one behind the other, a whole count of bytes."""
    return b"".join(number(r, w).to_bytes(w // 8, "little") for _ in range(length * 8 // w + 1))[:length]


def edged(g: Generated, r: random.Random) -> Generated:
    """The case with such numbers in all registers and in memory, under control words of every kind."""
    name = g.row.name
    w = 80 if name[0] == "f" else 32 if name.endswith(("ss", "ps")) or "ps2" in name or "ss2" in name else 64
    image, memory = bytearray(g.case.fxsave), bytearray(g.case.memory)
    for i in range(16):
        image[160 + 16 * i : 176 + 16 * i] = words(r, w if w < 80 else 64, 16)
    upper = words(r, w, 256) if w < 80 else g.case.upper
    for i in range(8):
        image[32 + 16 * i : 42 + 16 * i] = number(r, 80).to_bytes(10, "little")
    masks = 0x3F if r.random() < 0.85 else r.getrandbits(6)
    raised = r.choice((0, 0, 0x20, r.getrandbits(6))) & masks
    extras = r.choice((0, 0, 0x8000, 0x0040, 0x8040))
    struct.pack_into("<I", image, MXCSR_AT, masks << 7 | raised | r.randrange(4) << 13 | extras)
    struct.pack_into("<H", image, 0, 0x40 | masks | r.choice((0, 2, 3, 3)) << 8 | r.randrange(4) << 10)
    (status,) = struct.unpack_from("<H", image, 2)
    struct.pack_into("<H", image, 2, status & 0x7F00 & ~0x80 | raised)
    if r.random() < 0.9:
        image[4] = 0xFF if not name.startswith(("fld", "fild")) else 0x7F >> r.randrange(8)
    size = 80 if "Mt" in g.row.text else 32 if "Md" in g.row.text else 64
    memory[:] = words(r, size if w == 80 else w, len(memory))
    if w == 80 and g.address is not None:
        at = g.address - 0x2000_0000 if g.address >= 0x2000_0000 else 0
        if 0 <= at < len(memory) - 16:
            memory[at : at + 16] = words(r, size, 16)
    return replace(g, case=replace(g.case, fxsave=bytes(image), memory=bytes(memory), upper=upper))


def judged(native: NativeMachine, host: HostCpu, seed: int, rounds: int) -> list[Judged]:
    """Cases with what the host made of them; their handlers are compiled."""
    maker, r = Generator(seed), random.Random(seed)
    known = {row.id for row in suitable(host.features())}
    rows = [
        row for row in [*FLOAT, *X87] if row.id in known and row.name not in AREAS and "gather" not in row.name
    ]  # those may read the oracle
    cases = [edged(g, r) for row in rows for g in maker.cases(row, rounds, modes=(64,))]
    native.compile(g.case for g in cases)
    return list(zip(cases, host.run_many([g.case for g in cases]), strict=True))


def compare(native: NativeMachine, cases: list[Judged], regions: bool) -> None:
    native.regions = regions
    found = mismatches(native, cases, PLAIN)
    native.regions = False
    assert not found, "\n".join([f"{len(found)} of {len(cases)} differ", *found[:20]])


@pytest.mark.timeout(900)
def test_handlers(native: NativeMachine, host: HostCpu) -> None:
    cases = judged(native, host, 31, 6)
    assert len(cases) > 5000
    compare(native, cases, False)


@pytest.mark.timeout(900)
def test_regions(native: NativeMachine, host: HostCpu) -> None:
    compare(native, judged(native, host, 32, 2)[::5], True)


@pytest.mark.timeout(900)
def test_where_the_host_is_no_help(host: HostCpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same without the host's own instructions, as on hosts that lack them."""
    monkeypatch.setattr(floats, "host", lambda: ("somewhere", frozenset()))
    native = NativeMachine(Store("x86-floats", tmp_path))
    compare(native, judged(native, host, 33, 3), False)
    compare(native, judged(native, host, 34, 1)[::5], True)
    native.close()


@pytest.mark.timeout(900)
def test_where_denormals_take_the_host_long(host: HostCpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The x87 where denormals, infinities and NaNs are left to the functions, whatever this host does."""
    triple, features = instructions.host()
    monkeypatch.setattr(floats, "host", lambda: (triple, features - {"clzero"}))
    native = NativeMachine(Store("x86-denormals", tmp_path))
    cases = [c for c in judged(native, host, 35, 3) if c[0].row.name[0] == "f"]
    compare(native, cases, False)
    compare(native, cases[::15], True)
    native.close()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_at_length(native: NativeMachine, host: HostCpu) -> None:
    """Some 300,000 runs."""
    first = random.randrange(1 << 32)
    for seed in range(first, first + 20):
        cases = judged(native, host, seed, 40)
        compare(native, cases, False)
        compare(native, cases[::20], True)
