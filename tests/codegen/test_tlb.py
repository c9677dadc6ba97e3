"""The TLB where pages want the same entry: none is forgotten at once, and each is where it has to be dropped from."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from exuvia.codegen.layout import ACCESS_WRITE, ADDEND, LARGE, TLB_ENTRIES, TLB_SIZE, TLBS, WRITE
from exuvia.codegen.store import Store
from tests.codegen.native import CODE_AT, TABLES, NativeMachine
from tests.codegen.test_blocks import DIRECTORY, registers
from tests.oracle.case import CODE_PAGE, Case

APART = TLB_ENTRIES << 12  # bytes between pages that want the same entry
A, B, C = (CODE_PAGE + APART * k for k in (1, 2, 3))
FRAMES = {A: 0x20000, B: 0x21000, C: 0x22000}
OTHER = 0x23000
PAGE_SIZE = 1 << 7  # in an entry of a directory: it is a page of 2 MiB
READ_ONE, WRITE_ONE = 1 << 8, 1 << 8 | ACCESS_WRITE


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    made = NativeMachine(Store("x86-tlb", tmp_path_factory.mktemp("store")))
    yield made
    made.close()


def table(page: int) -> int:
    """The page table that has a page."""
    return TABLES + 0x10000 + 0x1000 * [A, B, C].index(page)


@pytest.fixture
def native(machine: NativeMachine) -> NativeMachine:
    """With the three pages, and nothing of them in the TLB."""
    machine.run(Case(b"\x90", gprs=registers()))
    for page, frame in FRAMES.items():
        machine.map(DIRECTORY, page >> 21 & 511, table(page))
        move(machine, page, frame)
    machine.engine.flush(machine.at, 1)
    return machine


def move(machine: NativeMachine, page: int, frame: int) -> None:
    machine.map(table(page), page >> 12 & 511, frame)


def frame(native: NativeMachine, page: int, access: int = READ_ONE) -> int:
    """Where an access finds a page in RAM."""
    return int(native.engine.translate(native.at, page, access)) - native.ram.address


def misses(native: NativeMachine) -> int:
    return int(native.vcpu.tlb_misses)


def writable(native: NativeMachine, at: int) -> list[int]:
    """The pages under which RAM can be written without a walk."""
    words = (ctypes.c_uint64 * (TLBS * TLB_SIZE // 8)).from_address(native.vcpu.tlb_base)
    tags = ((words[k + WRITE // 8], words[k + ADDEND // 8]) for k in range(0, len(words), 4))
    return [tag for tag, addend in tags if tag & 0xFFF == 0 and (tag + addend) % (1 << 64) == native.ram.address + at]


def test_two_pages_that_want_one_entry_miss_once_each(native: NativeMachine) -> None:
    before = misses(native)
    assert [frame(native, page) for page in (A, B) * 20] == [FRAMES[A], FRAMES[B]] * 20
    assert misses(native) == before + 2


def test_three_of_them_are_right(native: NativeMachine) -> None:
    order = [A, B, C, A, A, C, B, B, A, C]
    assert [frame(native, page) for page in order] == [FRAMES[page] for page in order]


def test_a_right_that_came_later(native: NativeMachine) -> None:
    """What was read first is written, at the first place and at the second."""
    for page in (A, B, A, B):
        assert frame(native, page) == FRAMES[page]
        assert frame(native, page, WRITE_ONE) == FRAMES[page]
    before = misses(native)
    for page in (A, B, A, B):
        assert frame(native, page, WRITE_ONE) == frame(native, page) == FRAMES[page]
    assert misses(native) == before


@pytest.mark.parametrize("dropped", [A, B])
def test_a_page_that_is_dropped(native: NativeMachine, dropped: int) -> None:
    kept = A + B - dropped
    for page in (A, B):
        frame(native, page)
    move(native, dropped, OTHER)
    native.engine.flush_page(native.at, dropped)
    before = misses(native)
    assert frame(native, kept) == FRAMES[kept] and misses(native) == before
    assert frame(native, dropped) == OTHER and frame(native, kept) == FRAMES[kept]


@pytest.mark.parametrize("everything", [0, 1])
def test_all_that_is_dropped(native: NativeMachine, everything: int) -> None:
    for page in (A, B, C, B):
        frame(native, page)
    for page in (A, B, C):
        move(native, page, OTHER)
    native.engine.flush(native.at, everything)
    assert [frame(native, page) for page in (A, B, C)] == [OTHER] * 3


def test_code_takes_the_right_to_write_from_both_places(native: NativeMachine) -> None:
    for page in (A, B):
        move(native, page, CODE_AT)
        assert frame(native, page, WRITE_ONE) == CODE_AT
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    native.engine.flush(native.at, 1)
    for page in (A, B):
        frame(native, page, WRITE_ONE)
    assert sorted(writable(native, CODE_AT)) == [A, B]
    native.vcpu.pc = CODE_PAGE + 0x800
    assert native.engine.block(native.at)
    assert writable(native, CODE_AT) == []


def large(native: NativeMachine, page: int) -> None:
    """The 2 MiB around a page are the first of memory, as one page."""
    native.map(DIRECTORY, page >> 21 & 511, PAGE_SIZE)


def test_pieces_of_a_large_page_are_dropped_together(native: NativeMachine) -> None:
    pieces = [(A & -LARGE) + at for at in (0x20000, 0x21000, 0x80000)]
    large(native, A)
    assert [frame(native, piece) for piece in pieces] == [0x20000, 0x21000, 0x80000]
    native.map(DIRECTORY, A >> 21 & 511, table(A))
    for piece in pieces:
        native.map(table(A), piece >> 12 & 511, OTHER)
    native.engine.flush_page(native.at, pieces[1])
    assert [frame(native, piece) for piece in pieces] == [OTHER] * 3


def test_small_pages_between_large_ones_are_dropped_alone(native: NativeMachine) -> None:
    beside = B + 0x1000
    native.map(table(B), beside >> 12 & 511, OTHER)
    for page in (A, C):
        large(native, page)
        frame(native, page)
    assert [frame(native, page) for page in (B, beside)] == [FRAMES[B], OTHER]
    before = misses(native)
    move(native, B, OTHER)
    native.engine.flush_page(native.at, B)
    assert frame(native, beside) == OTHER and misses(native) == before
    assert frame(native, B) == OTHER


def test_everything_that_is_dropped_is_large_no_more(native: NativeMachine) -> None:
    large(native, A)
    frame(native, A)
    native.map(DIRECTORY, A >> 21 & 511, table(A))
    native.engine.flush(native.at, 1)
    beside = A + 0x1000
    native.map(table(A), beside >> 12 & 511, OTHER)
    assert [frame(native, page) for page in (A, beside)] == [FRAMES[A], OTHER]
    before = misses(native)
    native.engine.flush_page(native.at, A)
    assert frame(native, beside) == OTHER and misses(native) == before


def test_the_jump_cache_forgets_only_what_it_may_know(native: NativeMachine) -> None:
    """Dropping a page of data costs no block; code that stands elsewhere from now on is found there, in large pages too."""
    native.vcpu.pc = CODE_PAGE + 0x800
    first = native.engine.block(native.at)
    frame(native, A)
    before = native.vcpu.generation
    native.engine.flush_page(native.at, A)
    assert native.vcpu.generation == before and native.engine.block(native.at) == first
    native.vcpu.pc = A + 0x800
    move(native, A, CODE_AT)
    native.engine.flush_page(native.at, A)
    assert native.engine.block(native.at) == first  # blocks are found by where they are in RAM
    move(native, A, OTHER)
    native.engine.flush_page(native.at, A)
    assert native.vcpu.generation != before and native.engine.block(native.at) != first
    large(native, B)
    native.engine.flush(native.at, 1)
    native.vcpu.pc = (B & -LARGE) + OTHER
    there = native.engine.block(native.at)
    before = native.vcpu.generation
    native.map(DIRECTORY, B >> 21 & 511, table(B))
    native.map(table(B), native.vcpu.pc >> 12 & 511, CODE_AT)
    native.engine.flush_page(native.at, B)
    assert native.vcpu.generation != before and native.engine.block(native.at) != there
