"""J and JAL in regions: where they lead is known while the code lies where it did, and in the store wherever a kernel lies next time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from exuvia.codegen.layout import HEAD
from exuvia.codegen.making import Wanted
from exuvia.isa.mips.state import ADEL, BP, MARK
from tests.codegen.native import heads
from tests.isa.mips.assembler import BREAK, word
from tests.isa.mips.machine import KSEG0, Machine
from tests.isa.mips.programs import USER, entry, lo

HERE, THERE, OTHER = 0x1_2000, 0x2_2000, 0x3_2000  # where a program lies: a page, and one with its subroutine
PAGE = 0x1000


@pytest.fixture(params=[False, True], ids=["little", "big"])
def m(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(big=request.param)
    yield machine
    machine.close()


def put(m: Machine, at: int, step: int = 1, to: int | None = None, slot: int = word("addiu", rt="t9", rs="t9", imm=-1)) -> None:
    """A loop that calls the next page's subroutine, and adds up a constant that says where the program lies."""
    target = (at + PAGE if to is None else to) >> 2
    loop = [word("jal", target=target), slot, word("bne", rs="t9", rt=0, branch=-3), word("addu", rd="t3", rs="t3", rt="t2"), BREAK]
    m.put(at, word("lui", rt="t2", upper=(KSEG0 + at) >> 16), *loop)
    m.put(at + PAGE, word("addiu", rt="t0", rs="t0", imm=step), word("jr", rs="ra"), word("addiu", rt="t1", rs="t1", imm=2))


def go(m: Machine, pc: int, rounds: int) -> tuple[int, ...]:
    """t0, t1, t3 and how many instructions that took."""
    cpu: Any = m.cpu
    cpu.status, cpu.r[25], cpu.icount = 0, rounds, 0
    for i in (8, 9, 11):
        cpu.r[i] = 0
    m.start(pc)
    assert m.run() == (BP, pc + 20)
    return cpu.r[8], cpu.r[9], cpu.r[11], cpu.icount


def expected(rounds: int, at: int = HERE, step: int = 1) -> tuple[int, ...]:
    return rounds * step, 2 * rounds, ((KSEG0 + at) >> 16 << 16) * rounds & 0xFFFF_FFFF, 1 + 10 * rounds


def compiled(m: Machine, at: int = HERE) -> Wanted:
    """The region of the loop, in place."""
    hot, pc = m.engine.hot, KSEG0 + at + 4
    m.start(pc)
    head = hot.head(m.engine.block(m.at))
    for page in (at, at + PAGE):
        for h in heads(hot, m.ram.address + page, head.mode):
            ctypes.c_uint32.from_address(h.address + HEAD["samples"]).value = 1
    wanted = hot.grow(head.address, hot.near(m.cpu.native, head, pc), pc & -PAGE)
    assert wanted is not None
    hot.make_now(wanted)
    assert all(hot.head(a).region for a in wanted.heads)
    return wanted


def remembered(m: Machine, at: int) -> bool:
    """Is a known region put into place for the loop?"""
    m.start(KSEG0 + at + 4)
    return m.engine.hot.remembered(m.cpu.native, m.engine.hot.head(m.engine.block(m.at)), m.cpu.pc)


def test_a_call_is_inside_of_its_region(m: Machine) -> None:
    put(m, HERE)
    assert go(m, KSEG0 + HERE, 3) == expected(3)
    wanted = compiled(m)
    assert wanted.page == KSEG0 + HERE and PAGE in [b.offset for b in wanted.blocks]
    for rounds in (1, 2, 1000):
        assert go(m, KSEG0 + HERE, rounds) == expected(rounds)
    assert m.cpu.then == 0


def test_another_kernel_finds_it(m: Machine) -> None:
    put(m, HERE)
    go(m, KSEG0 + HERE, 3)
    compiled(m)
    put(m, THERE)
    assert remembered(m, THERE)
    assert go(m, KSEG0 + THERE, 50) == expected(50, THERE)
    assert go(m, KSEG0 + HERE, 50) == expected(50)
    assert m.engine.hot.made == 1


def test_a_call_that_leads_elsewhere_is_another(m: Machine) -> None:
    put(m, HERE)
    go(m, KSEG0 + HERE, 3)
    compiled(m)
    put(m, OTHER, step=9)
    put(m, THERE, to=OTHER + PAGE)
    go(m, KSEG0 + THERE, 3)
    assert not remembered(m, THERE)
    assert go(m, KSEG0 + THERE, 50) == expected(50, THERE, 9)


def test_at_another_address_it_leads_elsewhere(m: Machine) -> None:
    """The same page in the user's segment."""
    put(m, HERE)
    go(m, KSEG0 + HERE, 3)
    compiled(m)
    put(m, OTHER, step=9)
    entry(m, 0, USER, lo(HERE, 3), lo(HERE + PAGE, 3))
    entry(m, 1, HERE & ~PAGE, lo(OTHER, 3), lo(OTHER + PAGE, 3))
    for _ in range(2):
        assert go(m, USER, 50) == expected(50, step=9)
        assert go(m, KSEG0 + HERE, 50) == expected(50)


def test_a_fault_in_its_slot_knows_where_it_leads(m: Machine) -> None:
    put(m, HERE, slot=word("lw", rt="t9", base="t4"))
    m.cpu.r[12] = KSEG0 + 0x8000
    m.put(0x8000, 0)
    go(m, KSEG0 + HERE, 0)
    compiled(m)
    m.cpu.r[12] += 1
    m.start(KSEG0 + HERE)
    assert m.run() == (ADEL, KSEG0 + HERE + 8)
    assert m.cpu.then == MARK | KSEG0 + HERE + PAGE
