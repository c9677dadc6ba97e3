"""Pointer authentication: our algorithm is our own, so what is tested is what the manual says of any (DDI 0487, D8.10)."""

from __future__ import annotations

import random

import pytest

from exuvia.isa.aarch64.state import layout
from tests.isa.aarch64.machine import MASK, Case, Native, native

PACIA, AUTIA, PACIB, AUTIB, PACDA, AUTDA = (0xDAC10000 | code << 10 | 1 << 5 for code in (0, 4, 1, 5, 2, 6))  # x0, x1
PACGA = 0x9AC03000 | 2 << 16 | 1 << 5  # x0, x1, x2
XPACI = 0xDAC143E0
ENABLED = 1 << 31 | 1 << 30 | 1 << 27 | 1 << 13
TCR = 16 | 16 << 16
USER, KERNEL = 0x0000_AAAA_1234_5678, 0xFFFF_8000_0801_0000


def run(n: Native, code: list[int], x0: int, x1: int = 0, x2: int = 0, *, sctlr: int = ENABLED, tcr: int = TCR) -> int:
    """x0 after the instructions."""
    rng = random.Random(5)
    case = Case(code, [x0, x1, x2] + [0] * 29)
    n["sctlr_el1"], n["tcr_el1"] = sctlr, tcr
    for name in layout.declared:
        if "key" in name:
            n[name] = rng.getrandbits(64)
    try:
        return n.run(case).x[0]
    finally:
        n["sctlr_el1"] = n["tcr_el1"] = 0


@pytest.mark.parametrize("pointer", [USER, KERNEL])
@pytest.mark.parametrize("tcr", [TCR, TCR | 3 << 37, 25 | 25 << 16])
def test_there_and_back(pointer: int, tcr: int) -> None:
    n = native()
    if tcr & 63 == 25:
        pointer = pointer & (1 << 39) - 1 | (MASK << 39 & MASK if pointer >> 63 else 0)
    signed = run(n, [PACIA], pointer, 77, tcr=tcr)
    assert signed != pointer
    bits = 64 - (tcr & 63)
    assert (signed ^ pointer) & ((1 << bits) - 1 | 1 << 55) == 0
    if tcr >> 37 & 1:
        assert signed >> 56 == pointer >> 56
    assert run(n, [AUTIA], signed, 77, tcr=tcr) == pointer
    assert run(n, [XPACI], signed, tcr=tcr) == pointer


def test_what_does_not_fit() -> None:
    """Another modifier, key or pointer gives one that no translation has, with the key's number in it."""
    n = native()
    signed = run(n, [PACIA], USER, 77)
    assert run(n, [AUTIA], signed, 78) == USER | 1 << 61
    assert run(n, [AUTIB], signed, 77) == USER | 2 << 61
    assert run(n, [AUTDA], signed, 77) == USER | 1 << 61
    assert run(n, [AUTIA], signed ^ 8, 77) == (USER ^ 8) | 1 << 61
    assert run(n, [AUTIA], signed, 78, tcr=TCR | 3 << 37) & ~(0xFF << 56) == USER | 1 << 53
    assert run(n, [AUTIA], run(n, [PACIA], KERNEL, 5), 6) == KERNEL ^ 1 << 62


def test_a_spoilt_pointer_stays_spoilt() -> None:
    n = native()
    spoilt = run(n, [AUTIA], run(n, [PACIA], USER, 1), 2)
    assert run(n, [PACIA, AUTIA], spoilt, 1) != USER


def test_keys_are_switched_on_one_by_one() -> None:
    n = native()
    for code, bit in ((PACIA, 31), (PACIB, 30), (PACDA, 27)):
        assert run(n, [code], USER, 1, sctlr=ENABLED ^ 1 << bit) == USER
        assert run(n, [code], USER, 1, sctlr=1 << bit) != USER


def test_generic_code() -> None:
    n = native()
    one, other = run(n, [PACGA], 0, 5, 6, sctlr=0), run(n, [PACGA], 0, 5, 7, sctlr=0)
    assert one != other
    assert (one | other) & 0xFFFFFFFF == 0
