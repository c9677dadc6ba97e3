"""Copied blocks that jump to one another: when they begin to, and that they stop when the other is no more what is to run."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.codegen.heads import Head
from exuvia.codegen.layout import CACHE, LINK_EXIT
from exuvia.codegen.stencil import DIVERTED, ENTERED, ENTRY_AT
from exuvia.codegen.store import Store
from exuvia.dsl.record import LINK, RECORD
from tests.codegen.copying import begin, copy
from tests.codegen.native import CODE_AT, TABLES, NativeMachine
from tests.codegen.test_blocks import registers
from tests.oracle.case import CODE, CODE_PAGE, Case

CODES = bytes.fromhex("48 FF C0 EB 05 90 90 90 90 90 48 83 C1 01 48 FF CB 75 ED CC")
"""1: inc rax; jmp 2f; nops; 2: add rcx, 1; dec rbx; jnz 1b; int3"""
FIRST, SECOND = CODE, CODE + 10
BEYOND = 0x7000  # guest-physical address of a page behind the code's


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("x86-chains", tmp_path_factory.mktemp("handlers")))
    begin(machine.engine)
    yield machine
    machine.close()


def put(native: NativeMachine, code: bytes = CODES) -> None:
    """The code, new."""
    native.run(Case(code, gprs=registers(rbx=2)))  # its handlers are compiled by then
    native.put(Case(code, gprs=registers()))


def block(native: NativeMachine, linear: int) -> Head:
    """The block at an address, decoded."""
    native.vcpu.pc = linear
    address = native.engine.block(native.at)
    assert address
    return native.engine.hot.head(address)


def copied(native: NativeMachine, *linear: int) -> list[Head]:
    """The blocks at these addresses, as copies."""
    heads = [block(native, at) for at in linear]
    assert copy(native.engine, native.at, heads) == len(heads)
    return [native.engine.hot.head(h.address) for h in heads]


def loop(native: NativeMachine, turns: int) -> tuple[int, int]:
    """Run the code; rax and rcx after it."""
    cpu = native.vcpu
    cpu.pc, cpu.resume, cpu.icount = CODE, 0, 0
    struct.pack_into("<16Q", native.view, 0, *registers(rbx=turns))
    native.go()
    return cpu.gpr[0], cpu.gpr[1]


def place(native: NativeMachine, head: Head, k: int = 0) -> int:
    """Where the copy of a block has the number of the jump by link k."""
    at = head.body + RECORD * head.n + LINK * k + LINK_EXIT
    return native.engine.arena.words[(at - native.engine.arena.address) // 8]


def leads(native: NativeMachine, head: Head, k: int = 0) -> int:
    """Where the jump by a link leads, from behind itself."""
    return ctypes.c_int32.from_address(place(native, head, k)).value


def way(native: NativeMachine, head: Head, to: Head, k: int = 0) -> int:
    """Where it leads if it is chained to another's copy."""
    return ctypes.c_int32(writable(native, to) - (ENTRY_AT - ENTERED) - (place(native, head, k) + 4)).value


def writable(native: NativeMachine, head: Head) -> int:
    """Where the copy of a block can be written."""
    return head.handler - native.engine.cache[CACHE["copies_run"] // 8] & (1 << 64) - 1


def at_entry(native: NativeMachine, head: Head) -> int:
    """What the copy has there that a head stands for."""
    return ctypes.c_uint32.from_address(writable(native, head)).value


def test_copies_jump_to_each_other(native: NativeMachine) -> None:
    put(native)
    first, second = copied(native, FIRST, SECOND)
    assert [leads(native, first), leads(native, second)] == [0, 0]
    assert loop(native, 3) == (3, 3)
    assert leads(native, first) == way(native, first, second) and leads(native, second) == way(native, second, first)
    assert leads(native, second, 1) == 0, "what stands there is no copy"
    assert loop(native, 1000) == (1000, 1000)
    assert native.vcpu.icount == 5 * 1000 + 1


def test_one_that_is_copied_later(native: NativeMachine) -> None:
    put(native)
    (first,) = copied(native, FIRST)
    assert loop(native, 2) == (2, 2)
    assert leads(native, first) == 0
    (second,) = copied(native, SECOND)
    assert loop(native, 2) == (2, 2)
    assert leads(native, first) == way(native, first, second)


def test_code_that_is_written(native: NativeMachine) -> None:
    put(native)
    first, second = copied(native, FIRST, SECOND)
    loop(native, 3)
    at = CODE_AT + SECOND - CODE_PAGE
    native.ram.view[at + 3] = 5
    native.engine.written(native.at, native.ram.address + at, 4)
    assert at_entry(native, second) == DIVERTED
    assert loop(native, 10) == (10, 50)
    assert leads(native, first) == way(native, first, second), "it still jumps there"
    copied(native, FIRST, SECOND)
    assert loop(native, 10) == (10, 50)


def test_a_region_in_its_place(native: NativeMachine) -> None:
    put(native)
    first, second = copied(native, FIRST, SECOND)
    loop(native, 3)
    hot = native.engine.hot
    hot.asked.add(first.address)  # it stays out
    wanted = hot.grow(second.address)
    hot.asked.clear()
    assert wanted is not None and [b.offset for b in wanted.blocks] == [second.offset]
    hot.make_now(wanted)
    assert hot.head(second.address).handler != second.handler and at_entry(native, second) == DIVERTED
    assert at_entry(native, first) != DIVERTED
    assert loop(native, 100) == (100, 100)
    at = CODE_AT + SECOND - CODE_PAGE
    native.ram.view[at + 3] = 7
    native.engine.written(native.at, native.ram.address + at, 4)
    assert loop(native, 10) == (10, 70)


def test_another_page(native: NativeMachine, tmp_path: Path) -> None:
    """By the jump cache, where the copy itself looks; a page that is mapped anew is another."""
    code = bytes.fromhex("48 FF C0 E9") + (CODE_PAGE + 4096 - CODE - 8).to_bytes(4, "little")  # inc rax; jmp to the next page
    table, index = TABLES + 4096 * 3, (CODE_PAGE >> 12 & 511) + 1
    for page, added in ((BEYOND, 1), (BEYOND - 4096, 9)):
        native.ram.view[page : page + 5] = bytes.fromhex("48 83 C1") + bytes([added, 0xCC])
        native.engine.written(native.at, native.ram.address + page, 5)
    native.map(table, index, BEYOND)
    native.engine.flush(native.at, 1)
    put(native, code)
    (first, _) = copied(native, FIRST, CODE_PAGE + 4096)
    assert leads(native, first) != 0
    for _ in range(3):
        assert loop(native, 0) == (1, 1)
    native.map(table, index, BEYOND - 4096)
    native.engine.flush(native.at, 1)
    for _ in range(3):
        assert loop(native, 0) == (1, 9)


def test_where_others_run_jumps_lie_in_one_line(native: NativeMachine) -> None:
    """Of the host's cache; others stay as they are."""
    processors, seen = CACHE["processors"] // 8, set()
    for more in ("", "B0 01", "88 C3", "40 88 C7", "66 89 C7", "98", "99", "F5", "0F BE F8", "86 C4"):
        code = bytes.fromhex(more + "EB 00 FF C0 CC")
        put(native, code)
        for _ in range(4):
            native.put(Case(code, gprs=registers()))
            first, second = copied(native, FIRST, FIRST + len(code) - 3)
            native.engine.cache[processors] = 2  # nothing is decoded meanwhile: there is one TLB
            try:
                loop(native, 1)
            finally:
                native.engine.cache[processors] = 1
            whole = place(native, first) % 64 <= 60
            assert leads(native, first) == (way(native, first, second) if whole else 0)
            seen.add(whole)
    assert seen == {False, True}
