"""The GT-64120 as a processor of either byte order sees it; power-on values are those that QEMU's malta shows."""

from __future__ import annotations

import pytest

from exuvia.devices.device import Reg
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import Bar, PciDevice
from exuvia.devices.pci.gt64120 import Gt64120, Gt64120Pci
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from tests.devices.timing import ManualClock

CPU, IO_LOW, IO_HIGH, MEMORY0_LOW, MEMORY0_HIGH, ISD, IO_REMAP, MEMORY0_REMAP = 0x000, 0x048, 0x050, 0x058, 0x060, 0x068, 0x0F0, 0x0F8
COMMAND, CAUSE, MASK, ACKNOWLEDGE, ADDRESS, DATA = 0xC00, 0xC18, 0xC1C, 0xC34, 0xCF8, 0xCFC
MASTER_ABORT = 1 << 18


class Card(PciDevice):
    """A card with a BAR of each kind."""

    name = "card"
    vendor_id, device_id, class_code = 0x1234, 0x5678, 0xFF0000
    interrupt_pin = 1
    bars = {0: Bar(0x1000), 1: Bar(0x20, io=True)}
    scratch = Reg(0, 32)


class Board:
    """A controller with a card in slot 18, and the accesses of a processor."""

    def __init__(self, big_endian: bool) -> None:
        self.order = "big" if big_endian else "little"
        self.big_endian, self.base = big_endian, 0x14000000
        self.memory, self.ports = AddressSpace("memory"), AddressSpace("ports")
        self.pci = PciBus(AddressSpace("pci"), self.ports, [bool] * 4, first=18, inta=18)
        self.gt, self.card = Gt64120(big_endian=big_endian, clock=ManualClock()), Card()
        self.gt.connect(self.memory, self.pci, Gt64120Pci())
        self.pci.attach(self.card)

    def load(self, address: int, size: int = 4) -> int:
        return int.from_bytes(self.memory.read(address, size).to_bytes(size, "little"), self.order)  # type: ignore[arg-type]

    def store(self, address: int, value: int, size: int = 4) -> None:
        self.memory.write(address, size, int.from_bytes(value.to_bytes(size, self.order), "little"))  # type: ignore[arg-type]

    def turned(self, value: int) -> int:
        """As Linux's GT_READ and GT_WRITE turn what they load and store (le32_to_cpu)."""
        return int.from_bytes(value.to_bytes(4, self.order), "little")  # type: ignore[arg-type]

    def read(self, register: int) -> int:
        return self.turned(self.load(self.base + register))

    def write(self, register: int, value: int) -> None:
        self.store(self.base + register, self.turned(value))

    def config(self, slot: int, offset: int, value: int | None = None) -> int:
        """A configuration cycle as Linux makes it: only the controller's own data is turned."""
        self.write(ADDRESS, 1 << 31 | slot << 11 | offset)
        turn = self.turned if slot == 0 else int
        if value is None:
            return turn(self.load(self.base + DATA))
        self.store(self.base + DATA, turn(value))
        return 0


@pytest.fixture(params=[False, True], ids=["little", "big"])
def board(request: pytest.FixtureRequest) -> Board:
    return Board(request.param)


def test_power_on(board: Board) -> None:
    expected = {CPU: 0 if board.big_endian else 0x1000, 0x038: 0xF8, IO_LOW: 0x80, IO_HIGH: 0x0F, MEMORY0_LOW: 0x90, MEMORY0_HIGH: 0x1F}
    expected |= {ISD: 0xA0, 0x080: 0x790, IO_REMAP: 0x80, MEMORY0_REMAP: 0x90, 0x100: 0x790, 0x448: 0x200, 0x468: 0x386FFFFF, 0x47C: 2}
    expected |= {COMMAND: 0 if board.big_endian else 0x10001, 0xC04: 0x70F, 0xC10: 0x01FFF000, 0xC3C: 0x0F, CAUSE: 0, ADDRESS: 0}
    assert {register: board.read(register) for register in expected} == expected


def test_configuration_cycles(board: Board) -> None:
    assert board.config(0, 0) == 0x462011AB
    assert board.config(0, 8) == 0x06000010
    assert board.config(18, 0) == 0x56781234
    board.config(18, 0x10, 0xFFFFFFFF)
    assert board.config(18, 0x10) == 0xFFFFF000
    board.config(0, 0x20, 0x1BE00000)
    assert board.config(0, 0x20) == 0x1BE00000
    board.write(COMMAND, 0x10000 if board.read(COMMAND) & 1 else 0x10001)
    assert board.config(18, 0) == 0x34127856, "the other byte order on PCI"
    assert board.config(0, 0) == 0x462011AB


def test_a_cycle_that_nobody_takes_is_a_master_abort(board: Board) -> None:
    assert board.read(CAUSE) == 0
    assert board.config(3, 0) == 0xFFFFFFFF
    assert board.read(CAUSE) == MASTER_ABORT | 1
    masked = board.gt.irq.level
    board.write(MASK, 0xFFFFFFFF)
    levels = [masked, board.gt.irq.level]
    assert board.read(CAUSE) == MASTER_ABORT | 1 | 1 << 30
    board.write(CAUSE, ~MASTER_ABORT & 0xFFFFFFFF)
    assert board.read(CAUSE) == 0
    assert [*levels, board.gt.irq.level] == [False, True, False]
    board.write(ADDRESS, 3 << 11)  # not enabled: no cycle
    assert board.load(board.base + DATA) == 0xFFFFFFFF
    assert board.read(CAUSE) == 0


def test_the_banks_have_the_sizes_of_their_registers(board: Board) -> None:
    def size(index: int) -> int:
        before = board.config(0, 0x10 + 4 * index)
        board.config(0, 0x10 + 4 * index, 0xFFFFFFFF)
        found = board.config(0, 0x10 + 4 * index)
        board.config(0, 0x10 + 4 * index, before)
        return -(found & ~0xF) & 0xFFFFFFFF

    assert [size(index) for index in range(5)] == [0x1000000, 0x1000000, 0x2000000, 0x1000000, 0x1000]
    board.write(0xC08, 0x07FFF000)
    assert size(0) == 0x8000000
    board.gt.reset()
    assert size(0) == 0x1000000


def test_the_registers_move(board: Board) -> None:
    board.write(ISD, 0x0DF)
    assert board.memory.device_at(0x14000000) is None
    board.base = 0x1BE00000
    assert board.read(ISD) == 0x0DF
    board.gt.reset()
    board.base = 0x14000000
    assert board.read(ISD) == 0x0A0


def test_windows(board: Board) -> None:
    for register, value in ((IO_LOW, 0x0C0), (IO_HIGH, 0x40), (MEMORY0_LOW, 0x080), (MEMORY0_HIGH, 0x3F)):
        board.write(register, value)
    assert (board.read(IO_REMAP), board.read(MEMORY0_REMAP)) == (0x0C0, 0x080), "low decode goes to remap too, which says nothing of ports"
    board.config(18, 0x10, 0x10240000)
    board.config(18, 0x14, 0x1020)
    board.config(18, 0x04, 3)
    # PCI's devices are little-endian, each byte at its address
    board.store(0x10240000, board.turned(0xCAFE0123))
    assert board.card.scratch == 0xCAFE0123
    assert board.turned(board.load(0x18001020)) == 0xCAFE0123
    assert board.load(0x18001020, 1) == 0x23
    board.write(MEMORY0_REMAP, 0x100)
    board.config(18, 0x10, 0x20240000)
    assert board.turned(board.load(0x10240000)) == 0xCAFE0123
    assert board.memory.device_at(0x18200000) is None, "the window is 2 MiB"
    board.write(IO_HIGH, 0x3F)
    assert board.memory.device_at(0x18000000) is None, "a window that ends before it begins is none"


def test_ram_lies_over_windows(board: Board) -> None:
    board.memory.map_ram(0, 0x100000, Ram(0x100000))
    board.write(MEMORY0_LOW, 0)
    board.write(MEMORY0_HIGH, 0x7F)
    board.memory.write(0x1000, 4, 0x11223344)
    assert board.memory.read(0x1000, 4) == 0x11223344


def test_interrupt_acknowledge(board: Board) -> None:
    assert board.read(ACKNOWLEDGE) == 0
    board.gt.interrupt_vector = lambda: 0x24
    assert board.read(ACKNOWLEDGE) == 0x24


def test_byte_order_of_the_registers_is_switched(board: Board) -> None:
    assert board.read(CPU) == (0 if board.big_endian else 0x1000)
    board.write(CPU, 0x1000 if board.big_endian else 0)
    assert board.load(board.base + ISD) == (0xA0 if board.big_endian else 0xA0000000)


def test_save_and_load_show_the_same_windows(board: Board) -> None:
    board.write(IO_LOW, 0x0C0)
    board.write(IO_HIGH, 0x40)
    board.write(ISD, 0x0DF)
    other = Board(board.big_endian)
    other.gt.load(board.gt.save())
    for address in (0x14000000, 0x18000000, 0x1BE00000, 0x10000000, 0x12000000):
        assert (board.memory.device_at(address) is None) == (other.memory.device_at(address) is None)


def test_a_guest_may_write_anything(board: Board) -> None:
    import random

    chance = random.Random(3)
    registers = [register.offset for register in Gt64120.registers.values() if register.offset is not None]
    for _ in range(2000):
        size = chance.choice((1, 2, 4, 8))
        board.gt.write(chance.choice(registers) & -size, size, chance.getrandbits(8 * size))
        address = chance.choice((0x14000000, 0x10000000, chance.getrandbits(36) & ~7))
        assert 0 <= board.memory.read(address, size) < 1 << 8 * size
    assert len(board.memory._mappings) <= 4
