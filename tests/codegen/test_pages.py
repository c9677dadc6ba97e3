"""Regions over several pages: a loop with an instruction over a page's end, a call into the next page and data beside its code.

The second page lies elsewhere in RAM than the first, and what it holds changes while the region stands.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

import pytest

from exuvia.codegen.hot import OFTEN
from exuvia.codegen.layout import HEAD, NO_ENTRY, REASON
from exuvia.codegen.making import Wanted
from exuvia.codegen.store import Store
from tests.codegen.native import CODE_AT, NativeMachine, heads
from tests.codegen.test_blocks import CODE_TABLE, SECOND, crossing, registers
from tests.oracle.case import CODE_PAGE, WINDOW

BEFORE = 11  # bytes on the first page
START = CODE_PAGE + 4096 - BEFORE
IMMEDIATE, DATA = 0, 64  # where the second page has the end of ADD, and what F reads
THIRD = SECOND + 0x1000


def program(step: int = 5, data: int = 7, more: str = "48 FF C2") -> bytes:
    """L: add rax, rcx; call F; add rbx, step (over the end); dec rcx; jnz L; int3; F: inc rdx; add rsi, [rip + ..]; ret"""
    head = bytes.fromhex("48 01 C8 E8 23 00 00 00 48 81 C3") + struct.pack("<I", step) + bytes.fromhex("48 FF C9 75 EC CC")
    f = bytes.fromhex(more + "48 03 35 16 00 00 00 C3")
    code = head.ljust(BEFORE + 32, b"\xcc") + f
    return code.ljust(BEFORE + DATA, b"\xcc") + struct.pack("<Q", data)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("x86-pages", tmp_path_factory.mktemp("store")))
    yield machine
    machine.close()


def begin(native: NativeMachine, rounds: int) -> None:
    struct.pack_into("<16Q", native.view, 0, *registers(rcx=rounds, rsp=WINDOW + 8192 - 64))
    native.vcpu.pc, native.vcpu.event, native.vcpu.icount, native.vcpu.resume = START, 0, 0, 0


def go(native: NativeMachine, rounds: int) -> tuple[int, ...]:
    """rax, rbx, rdx, rsi and rcx at the end, and the instruction count."""
    begin(native, rounds)
    native.go()
    g = native.vcpu.gpr
    return g[0], g[3], g[2], g[6], g[1], native.vcpu.icount


def expected(rounds: int, step: int = 5, data: int = 7) -> tuple[int, ...]:
    return rounds * (rounds + 1) // 2, step * rounds, rounds, data * rounds, 0, 8 * rounds + 1


def stand(native: NativeMachine) -> Wanted:
    """The program in place, run once, and the region that comes of it."""
    crossing(native, program(), BEFORE)
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    native.vcpu.first_look = 0
    assert go(native, 3) == expected(3)
    begin(native, 1)
    hot = native.engine.hot
    head = hot.head(native.engine.block(native.at))
    for page in (CODE_AT, SECOND):
        for h in heads(hot, native.ram.address + page, head.mode):
            ctypes.c_uint32.from_address(h.address + HEAD["samples"]).value = 1
    wanted = hot.grow(head.address, hot.near(native.state, head, START))
    assert wanted is not None
    hot.make_now(wanted)
    assert all(hot.head(a).region for a in wanted.heads)
    return wanted


def test_it_is_one_region(native: NativeMachine) -> None:
    wanted = stand(native)
    at = -BEFORE + 4096
    assert [b.offset - at for b in wanted.blocks] == [0, 8, 15, 20, 43]
    assert [b.crosses for b in wanted.blocks] == [False, True, False, False, False]
    assert wanted.blocks[1].code == program()[8:15]
    for rounds in (1, 2, 1000):
        assert go(native, rounds) == expected(rounds)


def test_it_comes_back_from_the_store(native: NativeMachine) -> None:
    """Also through the decoder's bit, before its first block has run."""
    stand(native)
    found = native.engine.hot.found
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    native.vcpu.first_look = 1
    assert go(native, 100) == expected(100)
    assert native.engine.hot.found == found + 1


def test_the_second_page_is_another(native: NativeMachine) -> None:
    stand(native)
    other = program(step=9, data=11)[BEFORE:]
    native.ram.view[THIRD : THIRD + len(other)] = other
    native.engine.written(native.at, native.ram.address + THIRD, 4096)
    native.map(CODE_TABLE, (CODE_PAGE >> 12 & 511) + 1, THIRD)
    native.engine.flush(native.at, 1)
    assert go(native, 50) == expected(50, 9, 11)
    native.map(CODE_TABLE, (CODE_PAGE >> 12 & 511) + 1, SECOND)
    native.engine.flush(native.at, 1)
    assert go(native, 50) == expected(50)


def test_the_second_page_is_gone(native: NativeMachine) -> None:
    stand(native)
    native.ram.view[CODE_TABLE + 8 * ((CODE_PAGE >> 12 & 511) + 1)] &= ~1 & 0xFF
    native.engine.flush(native.at, 1)
    begin(native, 50)
    native.go()
    assert native.vcpu.vector == 14 and native.vcpu.cr2 == CODE_PAGE + 4096 + 32 and native.vcpu.icount == 2


@pytest.mark.parametrize(("place", "value"), [(IMMEDIATE, 9), (32 + 2, 0xC7)])
def test_the_second_page_is_written(native: NativeMachine, place: int, value: int) -> None:
    """The end of the instruction over the page's end, where no block begins; and INC RDX becomes INC RDI."""
    wanted = stand(native)
    native.ram.view[SECOND + place] = value
    native.engine.written(native.at, native.ram.address + SECOND + place, 1)
    assert not any(native.engine.hot.head(a).region for a in wanted.heads)
    rax, rbx, rdx, *_ = go(native, 50)
    assert (rax, rbx, rdx) == ((1275, 450, 50) if place == IMMEDIATE else (1275, 250, 0))


def test_it_can_be_left_wherever_it_looks_at_the_clock(native: NativeMachine) -> None:
    """With the count of instructions at hand, the state is the interpreter's."""

    def states(budgets: int) -> dict[int, tuple[int, ...]]:
        found = {}
        for budget in range(1, budgets):
            begin(native, 50)
            native.vcpu.budget_end = budget
            while (reason := native.engine.run(native.at)) != REASON["budget"]:
                native.vcpu.exit_handlers[reason]()
            cpu = native.vcpu
            found[cpu.icount] = cpu.pc, cpu.flags, *struct.unpack_from("<16Q", native.view, 0)
        native.vcpu.budget_end = (1 << 63) - 1
        return found

    crossing(native, program(), BEFORE)
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    native.vcpu.first_look = 0
    plain = states(60)
    stand(native)
    regions = states(42)
    assert len(regions) > 3 and regions.items() <= plain.items()


def test_a_block_that_is_met_often_becomes_an_entry(native: NativeMachine) -> None:
    wanted = stand(native)
    hot = native.engine.hot
    inner = next(h for a in wanted.heads if (h := hot.head(a)).entry == NO_ENTRY)
    ctypes.c_uint32.from_address(inner.address + HEAD["samples"]).value = OFTEN
    again = hot.again(hot.head(inner.address))
    assert again is not None and again.replaces == inner.region and len(again.entries) > len(wanted.entries)
    hot.make_now(again)
    after = hot.head(inner.address)
    assert after.entry != NO_ENTRY and after.region not in (0, inner.region)
    assert go(native, 100) == expected(100)
    struct.pack_into("<16Q", native.view, 0, *registers(rcx=1, rsp=WINDOW + 8192 - 64))
    native.vcpu.pc, native.vcpu.icount = (
        CODE_PAGE + wanted.blocks[wanted.heads.index(inner.address)].offset,
        0,
    )  # and it can be entered there
    native.go()
    assert native.vcpu.gpr[1] == 0
