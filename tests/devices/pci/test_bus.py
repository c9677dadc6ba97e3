"""Configuration mechanism #1, BARs, INTx and MSI, as a guest sees them."""

from __future__ import annotations

import random
from functools import partial
from operator import setitem

import pytest

from exuvia.devices.device import Reg
from exuvia.devices.pci.allocate import allocate
from exuvia.devices.pci.bus import PciBus, PciConfigPorts
from exuvia.devices.pci.device import Bar, Msi, PciDevice
from exuvia.memory.space import AddressSpace
from exuvia.support.errors import UserError


class Card(PciDevice):
    """A card with one BAR of each kind and an interrupt."""

    name = "card"
    vendor_id, device_id, class_code = 0x1234, 0x5678, 0xFF0000
    interrupt_pin = 1
    bars = {0: Bar(0x1000), 1: Bar(0x20, io=True), 2: Bar(0x100000, wide=True, prefetchable=True)}
    scratch = Reg(0, 32)


class Board:
    """A bus behind its ports."""

    def __init__(self) -> None:
        self.memory, self.ports = AddressSpace("memory"), AddressSpace("ports")
        self.lines = [False] * 4
        self.messages: list[tuple[int, int]] = []
        sinks = [partial(setitem, self.lines, n) for n in range(4)]
        self.bus = PciBus(self.memory, self.ports, sinks, lambda requester, address, data: self.messages.append((address, data)))
        self.host = PciConfigPorts()
        self.host.pci = self.bus
        self.ports.map_device(0xCF8, 8, self.host)

    def read(self, slot: int, offset: int, size: int = 4) -> int:
        self.ports.write(0xCF8, 4, 1 << 31 | slot << 11 | offset & 0xFC)
        return self.ports.read(0xCFC + (offset & 3), size)

    def write(self, slot: int, offset: int, value: int, size: int = 4) -> None:
        self.ports.write(0xCF8, 4, 1 << 31 | slot << 11 | offset & 0xFC)
        self.ports.write(0xCFC + (offset & 3), size, value)


@pytest.fixture
def board() -> Board:
    board = Board()
    board.bus.attach(Card(), 3)
    return board


def test_identity_and_empty_slots(board: Board) -> None:
    assert board.read(3, 0) == 0x56781234
    assert board.read(3, 2, 2) == 0x5678
    assert board.read(3, 1, 1) == 0x12
    assert board.read(4, 0) == 0xFFFFFFFF
    board.ports.write(0xCF8, 4, 1 << 31 | 1 << 16 | 3 << 11)  # bus 1
    assert board.ports.read(0xCFC, 4) == 0xFFFFFFFF
    board.ports.write(0xCF8, 4, 3 << 11)  # not enabled
    assert board.ports.read(0xCFC, 4) == 0xFFFFFFFF
    board.write(3, 0, 0)
    assert board.read(3, 0) == 0x56781234


def test_only_doublewords_reach_the_address_register(board: Board) -> None:
    board.ports.write(0xCF8, 4, 0xFFFFFFFF)
    assert board.ports.read(0xCF8, 4) == 0x80FFFFFC
    board.ports.write(0xCF8, 2, 0)
    board.ports.write(0xCFB, 1, 0)
    assert board.ports.read(0xCF8, 4) == 0x80FFFFFC


def test_bars_say_their_size(board: Board) -> None:
    for offset in range(0x10, 0x28, 4):
        board.write(3, offset, 0xFFFFFFFF)
    assert [board.read(3, offset) for offset in range(0x10, 0x28, 4)] == [0xFFFFF000, 0xFFFFFFE1, 0xFFF0000C, 0xFFFFFFFF, 0, 0]


def test_bars_follow_the_command_register(board: Board) -> None:
    board.write(3, 0x10, 0xE0000000)
    board.write(3, 0x14, 0xC000)
    assert board.memory.read(0xE0000000, 4) == 0xFFFFFFFF
    board.write(3, 4, 3, 2)
    board.memory.write(0xE0000000, 4, 0x12345678)
    assert board.memory.read(0xE0000000, 4) == board.ports.read(0xC000, 4) == 0x12345678
    board.write(3, 0x10, 0xE0001000)
    assert board.memory.read(0xE0000000, 4) == 0xFFFFFFFF
    assert board.memory.read(0xE0001000, 4) == 0x12345678
    board.write(3, 0x18, 0x4)
    board.write(3, 0x1C, 0x10)  # 64-bit
    assert board.memory.read(0x1000000000, 4) == 0x12345678
    board.write(3, 4, 0, 2)
    assert board.memory.read(0xE0001000, 4) == 0xFFFFFFFF
    assert board.ports.read(0xC000, 4) == 0xFFFFFFFF


def test_sizing_with_decoding_on_maps_nothing(board: Board) -> None:
    board.write(3, 4, 3, 2)
    board.write(3, 0x10, 0xFFFFFFFF)
    board.write(3, 0x14, 0xFFFFFFFF)
    board.write(3, 0x18, 0xFFFFFFFF)
    board.write(3, 0x1C, 0xFFFFFFFF)
    assert board.memory.read(0xFFFFF000, 4) == 0xFFFFFFFF


def test_a_guest_may_write_anything(board: Board) -> None:
    random_ = random.Random(2)
    card = board.bus.functions[3, 0]
    for _ in range(3000):
        size = random_.choice((1, 2, 4))
        board.write(3, random_.randrange(0, 256, size), random_.getrandbits(8 * size), size)
    saved = card.save()
    other = Card()
    other.load(saved)
    assert other.save() == saved
    card.reset()
    assert board.read(3, 0x10) == 0
    assert board.memory.slots == []


def test_intx_is_swizzled_shared_and_masked(board: Board) -> None:
    card, other = board.bus.functions[3, 0], Card()
    board.bus.attach(other, 7)
    assert board.bus.line(3, 1) == board.bus.line(7, 1) == 2
    card.interrupt(True)
    assert [n for n, level in enumerate(board.lines) if level] == [2]
    assert board.read(3, 6, 2) & 8
    other.interrupt(True)
    card.interrupt(False)
    assert board.lines[2]
    board.write(7, 4, 0x400, 2)
    masked = [*board.lines]
    assert board.read(7, 6, 2) & 8, "the status bit shows what the disable bit hides"
    assert not masked[2]
    board.write(7, 4, 0, 2)
    assert board.lines[2]
    other.reset()
    assert not any(board.lines)


def test_msi(board: Board) -> None:
    card = Card()
    msi = Msi(card, 0x50, vectors=4)
    board.bus.attach(card, 5)
    assert board.read(5, 0x34, 1) == 0x50
    assert board.read(5, 6, 2) & 0x10
    assert board.read(5, 0x50) == 0x00840005
    board.write(5, 0x54, 0xFEE01003)
    assert board.read(5, 0x54) == 0xFEE01000
    board.write(5, 0x58, 0)
    board.write(5, 0x5C, 0x41, 2)
    board.write(5, 0x52, 0x21, 2)  # enable, 4 messages
    msi.send(3)  # bus mastering is off
    board.write(5, 4, 4, 2)
    msi.send(3)
    msi.send(6)
    assert board.messages == [(0xFEE01000, 0x43), (0xFEE01000, 0x42)]
    board.write(5, 0x52, 0x7F, 2)  # more than it has: must not reach past 32
    msi.send(1)
    assert board.messages[-1][1] == 0x41


def test_firmware_allocation(board: Board) -> None:
    allocate(board.bus, (0xC000, 0x10000), (0xE0000000, 0xFEC00000), (10, 10, 11, 11))
    assert board.read(3, 0x18) & ~0xF == 0xE0000000
    assert board.read(3, 0x10) == 0xE0100000
    assert board.read(3, 0x14) == 0xC001
    assert board.read(3, 4, 2) == 3
    assert board.read(3, 0x3C, 2) == 0x010B
    with pytest.raises(UserError, match="no room for"):
        allocate(board.bus, (0xC000, 0xC010), (0xE0000000, 0xFEC00000), (10, 10, 11, 11))


def test_places_run_out(board: Board) -> None:
    for _ in range(31):
        board.bus.attach(Card())
    with pytest.raises(UserError, match="no free place"):
        board.bus.attach(Card())
