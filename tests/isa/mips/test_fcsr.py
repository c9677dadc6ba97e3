"""FCSR's exceptions of one instruction after the other (vol. I, 5.8): the host's flags collect, the cause is the last one's alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from exuvia.isa.mips.state import CU1
from tests.isa.mips.assembler import BREAK, word
from tests.isa.mips.machine import KSEG0, Machine

CODE = 0x1000
I, U, O, Z, V = (1 << i for i in range(5))
VALUES = {0: 1.0, 2: 3.0, 4: 1e300, 6: 0.0, 8: -1.0, 10: 1e-200}
QUIET, SIGNALLING = 0x7FF7_FFFF_FFFF_FFFF, 0x7FF8_0000_0000_0000
STEPS = [
    (word("div.d", fs=0, ft=2, fd=20), I),
    (word("add.d", fs=0, ft=2, fd=22), 0),
    (word("c.lt.d", fs=0, ft=2), 0),
    (word("mul.d", fs=4, ft=4, fd=22), O | I),
    (word("add.d", fs=12, ft=0, fd=22), 0),
    (word("c.olt.d", fs=12, ft=0), 0),
    (word("div.d", fs=0, ft=6, fd=22), Z),
    (word("cvt.s.d", fs=20, fd=22), I),
    (word("mul.d", fs=10, ft=10, fd=22), U | I),
    (word("madd.d", fs=20, ft=20, fr=0, fd=22), I),
    (word("trunc.w.d", fs=2, fd=22), 0),
    (word("sqrt.d", fs=8, fd=22), V),
    (word("sub.d", fs=14, ft=0, fd=22), V),
    (word("c.lt.d", fs=12, ft=0), V),
    (word("trunc.w.d", fs=4, fd=22), V),
    (word("sqrt.d", fs=0, fd=22), 0),
]
FIRST, LAST = 8, 8 + len(STEPS) - 1
"""Registers that get FCSR after each step."""


def cfc1(rt: int) -> int:
    return 0x4440_F800 | rt << 16


def ctc1(rt: int) -> int:
    return 0x44C0_F800 | rt << 16


@pytest.fixture(scope="module")
def m() -> Iterator[Machine]:
    made = Machine()
    made.cpu.reset()
    made.cpu.status = CU1
    yield made
    made.close()


def ready(m: Machine, *code: int, region: bool = False) -> None:
    """Registers with the values, and a program that ends in a BREAK, to be run."""
    for number, value in VALUES.items():
        m.cpu.f[number], m.cpu.f[number + 1] = struct.unpack("<II", struct.pack("<d", value))
    for number, nan in ((12, QUIET), (14, SIGNALLING)):
        m.cpu.f[number], m.cpu.f[number + 1] = nan & 0xFFFF_FFFF, nan >> 32
    m.put(CODE, *code, BREAK)
    m.start(KSEG0 + CODE)
    if region:
        m.compile_region()


@pytest.mark.parametrize("region", [False, True], ids=["interpreter", "region"])
@pytest.mark.parametrize("flushing", [0, 1 << 24], ids=["host", "functions"])
def test_each_cause_and_all_flags(m: Machine, region: bool, flushing: int) -> None:
    """Where denormals are flushed the functions compute all of it; here there are none but the underflow, whose result is 0 anyhow."""
    m.cpu.r[4] = flushing
    ready(m, ctc1(4), *(w for i, (step, _) in enumerate(STEPS) for w in (step, cfc1(FIRST + i))), region=region)
    m.run()
    flags = 0
    for i, (step, cause) in enumerate(STEPS):
        flags |= cause
        assert m.cpu.r[FIRST + i] & 0x3_F07C == cause << 12 | flags << 2, f"{i}: {step:#x}"


def test_what_is_written_stays_until_the_next_instruction(m: Machine) -> None:
    m.cpu.r[4], m.cpu.r[5] = 0, 0x1_0040  # no flags; cause and flag of an invalid operation
    ready(m, STEPS[0][0], ctc1(4), cfc1(8), ctc1(5), cfc1(9), STEPS[1][0], cfc1(10), STEPS[0][0], cfc1(11))
    m.run()
    assert [m.cpu.r[n] & 0x3_F07C for n in range(8, 12)] == [0, 0x1_0040, 0x40, 0x1044]


def test_a_trap_leaves_the_cause_that_was_written(m: Machine) -> None:
    """Flags that the host had before are not FCSR's."""
    m.cpu.r[4], m.cpu.r[5] = 0, 0x1_0800  # an invalid operation, enabled
    ready(m, ctc1(4), STEPS[0][0], ctc1(5), BREAK)
    code, where = m.run()
    assert (code, where) == (15, KSEG0 + CODE + 8)
    ready(m, cfc1(8))
    m.run()
    assert m.cpu.r[8] == 0x1_0800
