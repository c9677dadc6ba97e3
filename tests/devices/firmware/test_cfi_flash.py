"""Flash memory as a driver finds and changes it, and what of it lasts."""

from __future__ import annotations

from typing import Any

import pytest

from exuvia.devices.firmware.cfi_flash import CfiFlash
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support.errors import UserError
from tests.devices.virtio.test_virtio_blk import Disk

MIB = 1 << 20
SIZE = 64 * MIB
START = 0x4000000
BOTH = 0x00010001


class Board:
    def __init__(self, disk: Disk | None = None, **settings: Any) -> None:
        self.memory, self.ram = AddressSpace(), Ram(SIZE)
        self.flash = CfiFlash(drive=disk, **settings)
        self.flash.place(self.memory, START, self.ram, 0)

    def command(self, *words: int, at: int = 0) -> None:
        for word in words:
            self.memory.write(START + at, 4, word * BOTH)

    def read(self, at: int, size: int = 4) -> int:
        return self.memory.read(START + at, size)

    def status(self) -> int:
        self.command(0x70)
        return self.read(0)

    def in_array(self) -> bool:
        return any(slot.start == START for slot in self.memory.slots)


@pytest.fixture
def board() -> Board:
    return Board()


def test_the_array_is_memory(board: Board) -> None:
    assert board.in_array()
    assert board.read(0x1234, 8) == (1 << 64) - 1
    board.command(0x70)
    assert not board.in_array()
    assert board.read(0) == 0x80 * BOTH
    assert board.read(2, 2) == 0x80
    board.command(0xFF)
    assert board.in_array()


def test_identification(board: Board) -> None:
    board.command(0x98)
    assert [board.read(4 * n) for n in (0x10, 0x11, 0x12)] == [ord(letter) * BOTH for letter in "QRY"]
    table = [board.read(4 * n, 1) for n in range(0x40)]
    assert table[0x13] == 1, "Intel's command set"
    assert 2 * (1 << table[0x27]) == SIZE, "two chips"
    blocks, size = table[0x2D] + 256 * table[0x2E] + 1, 2 * 256 * (table[0x2F] + 256 * table[0x30])
    assert (blocks, size) == (256, 256 << 10)
    assert bytes(table[table[0x15] :][:3]) == b"PRI"
    board.command(0x90)
    assert (board.read(0), board.read(4), board.read(8)) == (0x89 * BOTH, 0x18 * BOTH, 0)


def test_programming_clears_bits(board: Board) -> None:
    for value in (0x12345678, 0xFF00FF00):
        board.command(0x40)
        board.memory.write(START + 0x100, 4, value)
    assert board.status() == 0x80 * BOTH
    board.command(0xFF)
    assert board.read(0x100) == 0x12345678 & 0xFF00FF00
    board.command(0x20, 0xD0, at=0x100)
    board.command(0xFF)
    assert board.read(0x100) == 0xFFFFFFFF


def test_the_write_buffer(board: Board) -> None:
    board.command(0xE8, 2, at=0x40000)
    for n in range(3):
        board.memory.write(START + 0x40000 + 4 * n, 4, n)
    board.command(0xD0, at=0x40000)
    assert board.status() == 0x80 * BOTH
    board.command(0xFF)
    assert [board.read(0x40000 + 4 * n) for n in range(4)] == [0, 1, 2, 0xFFFFFFFF]
    board.command(0xE8, 0x400)
    assert board.status() == 0x90 * BOTH, "too many words"
    board.command(0x50)
    assert board.status() == 0x80 * BOTH
    board.command(0x20, 0x11)
    assert board.status() == 0xB0 * BOTH, "a sequence that is none"


def test_the_write_buffer_is_programmed_at_once() -> None:
    disk = Disk(512 << 10)
    board = Board(disk)
    board.command(0x20, 0xD0, at=0x40000)
    del disk.log[:]
    board.command(0xE8, 0x1FF, at=0x40000)
    for n in range(0x200):
        board.memory.write(START + 0x40000 + 4 * n, 4, n)
    board.command(0xD0, at=0x40000)
    assert board.status() == 0x80 * BOTH
    assert len(disk.log) == 1
    assert disk.bytes[0x407FC:0x40800] == b"\xff\1\0\0"


@pytest.mark.parametrize("places", [(4, 0), (0, 0x800), (0, 0x7FE)])
def test_the_write_buffer_has_an_end(board: Board, places: tuple[int, int]) -> None:
    board.command(0xE8, 1, at=0x40000)
    for at in places:
        board.memory.write(START + 0x40000 + at, 4, 0)
    assert board.status() == 0x90 * BOTH
    board.command(0xFF)
    assert board.memory.read_bytes(START + 0x40000, 0x810) == b"\xff" * 0x810


def test_a_big_endian_bus() -> None:
    disk = Disk(512 << 10)
    board = Board(disk, big_endian=True, size=4 << 20, sector=64 << 10)
    swapped = BOTH << 8
    board.memory.write(START, 4, 0x70 * swapped)
    assert board.read(0) == 0x80 * swapped
    assert (board.read(0, 1), board.read(1, 1), board.read(2, 2)) == (0, 0x80, 0x8000)
    for command in (0x20, 0xD0, 0xE8, 0):
        board.memory.write(START + 0x10000, 4, command * swapped)
    board.memory.write(START + 0x10000, 4, 0x78563412)
    for command in (0xD0, 0xFF):
        board.memory.write(START + 0x10000, 4, command * swapped)
    assert disk.bytes[0x10000:0x10008] == b"\x12\x34\x56\x78\xff\xff\xff\xff"


def test_an_image_of_turned_words() -> None:
    disk = Disk(512 << 10)
    disk.bytes[:8] = b"abcdefgh"
    board = Board(disk, turned=True)
    assert board.memory.read_bytes(START, 8) == b"dcbahgfe"
    board.command(0x40)
    board.memory.write(START + 6, 1, 0)
    assert disk.bytes[:8] == b"abcde\0gh"
    board.command(0xFF)
    assert board.memory.read_bytes(START, 8) == b"dcbahg\0e"


def test_what_lasts() -> None:
    disk = Disk(512 << 10)
    before = bytes(disk.bytes)
    board = Board(disk)
    assert board.memory.read_bytes(START, 64) == before[:64]
    assert board.read(512 << 10) == 0xFFFFFFFF
    board.command(0x20, 0xD0, at=0x40000)
    board.command(0x40)
    board.memory.write(START + 0x40000, 4, 0xCAFE)
    assert disk.bytes[0x40000:0x40008] == b"\xfe\xca\0\0\xff\xff\xff\xff"
    assert disk.bytes[:0x40000] == before[:0x40000]
    board.command(0x40)
    board.memory.write(START + (512 << 10), 4, 0)
    assert board.status() == 0x90 * BOTH, "past the end of the image"
    board.command(0x50)
    disk.read_only = True
    board.command(0x20, 0xD0)
    assert board.status() == 0xA0 * BOTH
    board.command(0xFF)
    assert board.memory.read_bytes(START, 64) == before[:64]


def test_an_image_that_cannot_be() -> None:
    disk = Disk(512)
    disk.size = SIZE + 512
    with pytest.raises(UserError, match="64 MiB at most"):
        Board(disk)
    disk = Disk(512)
    disk.failing = True
    with pytest.raises(UserError, match="cannot be read: "):
        Board(disk)


def test_a_reset_reads_the_array(board: Board) -> None:
    board.command(0xE8, 5)
    board.flash.reset()
    assert board.in_array()
    assert board.flash.save()["buffer"] == ""
