"""virtio-mmio with a disk behind it: what the registers say, a request, the interrupt, a driver that begins anew."""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable

import pytest

from exuvia.devices.virtio.mmio import VacantMmio
from exuvia.devices.virtio.virtio_blk import VirtioBlkDevice
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from tests.devices.timing import high
from tests.devices.virtio.test_virtio_blk import (
    AVAIL,
    DATA,
    DESC,
    DISK,
    F_FLUSH,
    F_VERSION,
    HEADER,
    IN,
    MIB,
    NEXT,
    SECTOR,
    STATUS,
    USED,
    WRITE,
    Disk,
)

FEATURES, FEATURES_SEL, ACCEPT, ACCEPT_SEL, SEL, MAX, NUM, READY, NOTIFY = 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50
CAUSE, ACK, DEVICE_STATUS, QUEUE, CONFIG = 0x60, 0x64, 0x70, 0x80, 0x100


class Board:
    def __init__(self) -> None:
        self.memory, self.ram, self.disk = AddressSpace(), Ram(MIB), Disk()
        self.memory.map_ram(0, MIB, self.ram)
        self.device = VirtioBlkDevice(drive=self.disk)
        self.device.dma = Dma(self.memory, self.ram)
        self.posted: deque[Callable[[], object]] = deque()
        self.device.post = self.posted.append

    def read(self, offset: int) -> int:
        return self.device.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)

    def start(self, features: int = F_VERSION | F_FLUSH) -> int:
        self.write(DEVICE_STATUS, 0)
        self.write(DEVICE_STATUS, 3)
        for half in range(2):
            self.write(ACCEPT_SEL, half)
            self.write(ACCEPT, features >> 32 * half & 0xFFFFFFFF)
        self.write(DEVICE_STATUS, 11)
        self.write(SEL, 0)
        self.write(NUM, 8)
        for number, address in enumerate((DESC, AVAIL, USED)):
            self.write(QUEUE + 16 * number, address)
            self.write(QUEUE + 16 * number + 4, 0)
        self.write(READY, 1)
        self.write(DEVICE_STATUS, 15)
        self.ram.view[AVAIL : AVAIL + 4] = bytes(4)
        return self.read(DEVICE_STATUS)

    def request(self, sector: int, index: int) -> None:
        struct.pack_into("<IIQ", self.ram.view, HEADER, IN, 0, sector)
        for number, (at, length, flags) in enumerate(((HEADER, 16, NEXT), (DATA, 512, NEXT | WRITE), (STATUS, 1, WRITE))):
            struct.pack_into("<QIHH", self.ram.view, DESC + 16 * number, at, length, flags, number + 1)
        struct.pack_into("<H", self.ram.view, AVAIL + 4 + 2 * index, 0)
        struct.pack_into("<H", self.ram.view, AVAIL + 2, index + 1)
        self.write(NOTIFY, 0)
        while self.posted:
            self.posted.popleft()()


@pytest.fixture
def board() -> Board:
    return Board()


def test_what_it_says_of_itself(board: Board) -> None:
    assert bytes.fromhex(f"{board.read(0):08x}")[::-1] == b"virt"
    assert (board.read(4), board.read(8)) == (2, 2)
    board.write(FEATURES_SEL, 1)
    assert board.read(FEATURES) & 1, "VERSION_1"
    assert board.read(MAX) == 256
    board.write(SEL, 1)
    assert board.read(MAX) == 0
    assert board.read(CONFIG) == DISK // SECTOR
    assert board.device.read(CONFIG + 32, 1) == 1
    assert VacantMmio().read(8, 4) == 0


def test_a_request_and_its_interrupt(board: Board) -> None:
    assert board.start() == 15
    assert board.read(READY) == 1
    board.request(5, 0)
    assert board.ram.view[STATUS] == 0
    assert bytes(board.ram.view[DATA : DATA + 512]) == board.disk.bytes[5 * SECTOR : 6 * SECTOR]
    assert high(board.device.irq)
    assert board.read(CAUSE) == 1
    board.write(ACK, 1)
    assert not high(board.device.irq)


def test_what_is_refused(board: Board) -> None:
    assert board.start(F_VERSION | 1 << 12) & 8 == 0
    assert board.start(F_FLUSH) & 8 == 0
    board.start()
    board.write(QUEUE, 0x5000)
    board.write(NUM, 4)
    board.request(1, 0)
    assert board.ram.view[STATUS] == 0, "a queue that runs stays as it is"


def test_a_broken_ring_needs_a_reset(board: Board) -> None:
    board.start()
    struct.pack_into("<H", board.ram.view, AVAIL + 2, 100)
    board.write(NOTIFY, 0)
    assert board.read(DEVICE_STATUS) & 64
    assert board.read(CAUSE) == 2
    assert board.start() == 15
    board.request(1, 0)
    assert board.ram.view[STATUS] == 0


def test_save_and_go_on(board: Board) -> None:
    board.start()
    board.request(1, 0)
    other = Board()
    other.ram.load(0, bytes(board.ram.view))
    other.device.load(board.device.save())
    other.write(ACK, 1)
    other.request(9, 1)
    assert bytes(other.ram.view[DATA : DATA + 512]) == other.disk.bytes[9 * SECTOR : 10 * SECTOR]


def test_any_use(board: Board) -> None:
    chance = random.Random(5)
    for _ in range(3000):
        size = chance.choice((1, 2, 4))
        board.device.write(chance.randrange(0, 0x200, size), size, chance.choice((0, 1, 15, chance.getrandbits(8 * size))))
        board.device.read(chance.randrange(0, 0x200, size), size)
        while board.posted:
            board.posted.popleft()()
