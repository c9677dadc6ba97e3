"""virtio-blk-pci under the hand of a driver written in Python: queues, requests, interrupts; and drivers that break every rule."""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import setitem

import pytest

from exuvia.devices.pci.bus import PciBus
from exuvia.devices.virtio.virtio_blk import VirtioBlkPci
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace

MIB = 1 << 20
SECTOR = 512
DISK = 8 * MIB
BAR1, BAR4 = 0xE0000000, 0xE0010000
DESC, AVAIL, USED, TABLE, HEADER, STATUS, DATA = 0x10000, 0x12000, 0x13000, 0x14000, 0x18000, 0x19000, 0x20000
NEXT, WRITE, INDIRECT = 1, 2, 4
IN, OUT, FLUSH_, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
F_RO, F_FLUSH, F_WCE, F_DISCARD, F_INDIRECT, F_EVENT, F_VERSION = (1 << bit for bit in (5, 9, 11, 13, 28, 29, 32))


class Disk:
    """The host's side, in memory. `held` keeps futures back until the test says so."""

    def __init__(self, size: int = DISK) -> None:
        self.size, self.read_only, self.writeback, self.cluster = size, False, True, 65536
        self.bytes = bytearray(random.Random(1).randbytes(size))
        self.log: list[str] = []
        self.failing = False
        self.hold = False
        self.held: list[tuple[Future[None], Callable[[], None]]] = []

    def _do(self, what: str, work: Callable[[], None]) -> Future[None]:
        self.log.append(what)
        future: Future[None] = Future()
        if self.failing:
            future.set_exception(OSError(5, "Input/output error"))
        elif self.hold:
            self.held.append((future, work))
        else:
            work()
            future.set_result(None)
        return future

    def release(self) -> None:
        for future, work in self.held:
            work()
            future.set_result(None)
        self.held = []

    def read(self, offset: int, into: Sequence[memoryview]) -> Future[None]:
        def work() -> None:
            at = offset
            for part in into:
                part[:] = self.bytes[at : at + len(part)]
                at += len(part)

        return self._do("read", work)

    def write(self, offset: int, data: Sequence[memoryview], through: bool) -> Future[None]:
        def work() -> None:
            content = b"".join(data)
            self.bytes[offset : offset + len(content)] = content

        return self._do("write through" if through else "write", work)

    def flush(self) -> Future[None]:
        return self._do("flush", lambda: None)

    def discard(self, offset: int, length: int) -> Future[None]:
        return self._do(f"discard {offset} {length}", lambda: None)

    def zero(self, offset: int, length: int, unmap: bool, through: bool) -> Future[None]:
        return self._do(f"zero {offset} {length} {unmap}", lambda: setitem(self.bytes, slice(offset, offset + length), bytes(length)))


class Board:
    """RAM, a bus, the device in slot 4, and the driver: it finds the structures through the capabilities, as a driver does."""

    def __init__(self, disk: Disk | None = None, **properties: object) -> None:
        self.disk = disk or Disk()
        self.memory, self.ports = AddressSpace(), AddressSpace("ports")
        self.ram = Ram(4 * MIB)
        self.memory.map_ram(0, MIB, self.ram)
        self.memory.map_ram(MIB, MIB, self.ram, MIB, writable=False)
        self.memory.map_ram(8 * MIB, MIB, self.ram, 2 * MIB)
        self.changed: list[tuple[int, int]] = []
        self.ram.on_write.append(lambda offset, length: self.changed.append((offset, length)))
        self.lines = [False] * 4
        self.messages: list[tuple[int, int]] = []
        self.bus = PciBus(
            self.memory,
            self.ports,
            [partial(setitem, self.lines, n) for n in range(4)],
            lambda requester, address, data: self.messages.append((address, data)),
        )
        self.bus.dma = Dma(self.memory, self.ram)
        self.device = VirtioBlkPci(drive=self.disk, **properties)
        self.posted: deque[Callable[[], object]] = deque()
        self.device.post = self.posted.append
        self.bus.attach(self.device, 4)
        self.device.write_config(0x14, 4, BAR1)
        self.device.write_config(0x20, 4, BAR4)
        self.device.write_config(4, 2, 6)
        self.where: dict[int, int] = {}
        at = self.device.read_config(0x34, 1)
        while at:
            if self.device.read_config(at, 1) == 9:
                kind, bar = self.device.read_config(at + 3, 1), self.device.read_config(at + 4, 1)
                self.where[kind] = {1: BAR1, 4: BAR4, 0: 0}[bar] + self.device.read_config(at + 8, 4)
                if kind == 5:
                    self.window = at
            elif self.device.read_config(at, 1) == 0x11:
                self.msix = at
            at = self.device.read_config(at + 1, 1)
        self.common, self.config, self.notify_at, self.isr = self.where[1], self.where[4], self.where[2], self.where[3]
        self.size, self.next, self.seen = 8, 0, 0

    def features(self) -> int:
        self.memory.write(self.common, 4, 1)
        high = self.memory.read(self.common + 4, 4)
        self.memory.write(self.common, 4, 0)
        return high << 32 | self.memory.read(self.common + 4, 4)

    def start(self, features: int = F_VERSION | F_FLUSH | F_INDIRECT) -> int:
        """What a driver does (3.1.1); the status that it ends with."""
        for status in (0, 1, 3):
            self.memory.write(self.common + 0x14, 1, status)
        for half in (0, 1):
            self.memory.write(self.common + 8, 4, half)
            self.memory.write(self.common + 12, 4, features >> 32 * half & 0xFFFFFFFF)
        self.memory.write(self.common + 0x14, 1, 11)
        if not self.memory.read(self.common + 0x14, 1) & 8:
            return 0
        self.memory.write(self.common + 0x16, 2, 0)
        self.memory.write(self.common + 0x18, 2, self.size)
        for offset, address in ((0x20, DESC), (0x28, AVAIL), (0x30, USED)):
            self.memory.write(self.common + offset, 8, address)
        self.ram.view[AVAIL : AVAIL + 0x1000] = bytes(0x1000)
        self.ram.view[USED : USED + 0x1000] = bytes(0x1000)
        self.memory.write(self.common + 0x1C, 2, 1)
        self.memory.write(self.common + 0x14, 1, 15)
        self.next = self.seen = 0
        return self.memory.read(self.common + 0x14, 1)

    def describe(self, index: int, address: int, length: int, flags: int, following: int = 0, table: int = DESC) -> None:
        struct.pack_into("<QIHH", self.ram.view, table + 16 * index, address, length, flags, following)

    def offer(self, head: int, notify: bool = True) -> None:
        struct.pack_into("<H", self.ram.view, AVAIL + 4 + 2 * (self.next % self.size), head)
        self.next = self.next + 1 & 0xFFFF
        struct.pack_into("<H", self.ram.view, AVAIL + 2, self.next)
        if notify:
            self.notify()

    def notify(self) -> None:
        self.memory.write(self.notify_at, 2, 0)

    def run(self) -> None:
        """What was posted, as the machine thread does."""
        while self.posted:
            self.posted.popleft()()

    def used(self) -> tuple[int, int] | None:
        """The next finished request: its head and how much was written."""
        (index,) = struct.unpack_from("<H", self.ram.view, USED + 2)
        if index == self.seen:
            return None
        head, length = struct.unpack_from("<II", self.ram.view, USED + 4 + 8 * (self.seen % self.size))
        self.seen = self.seen + 1 & 0xFFFF
        return head, length

    def request(self, kind: int, sector: int, parts: Sequence[tuple[int, int]], out: bool = False, indirect: bool = False) -> int:
        """Carry one out, its data at `parts`; its status."""
        struct.pack_into("<IIQ", self.ram.view, HEADER, kind, 0, sector)
        self.ram.view[STATUS] = 0xEE
        pieces = [(HEADER, 16, 0), *((at, length, 0 if out else WRITE) for at, length in parts), (STATUS, 1, WRITE)]
        for number, (at, length, flags) in enumerate(pieces):
            last = number == len(pieces) - 1
            self.describe(number, at, length, flags | (0 if last else NEXT), number + 1, TABLE if indirect else DESC)
        if indirect:
            self.describe(0, TABLE, 16 * len(pieces), INDIRECT)
        self.offer(0)
        self.run()
        done = self.used()
        assert done is not None and done[0] == 0
        status = self.ram.view[STATUS]
        if status == 0:
            assert done[1] == 1 + (0 if out else sum(length for _, length in parts))
        return status

    def broken(self) -> bool:
        return bool(self.memory.read(self.common + 0x14, 1) & 64)


@pytest.fixture
def board() -> Board:
    made = Board(serial="EXUVIA0123456789abcdefgh")
    assert made.start() == 15
    return made


def test_what_it_says_of_itself(board: Board) -> None:
    assert board.device.read_config(0, 4) == 0x10421AF4
    assert set(board.where) == {1, 2, 3, 4, 5}
    assert board.features() & (F_VERSION | F_FLUSH | F_WCE | F_DISCARD | F_INDIRECT | F_EVENT) == (
        F_VERSION | F_FLUSH | F_WCE | F_DISCARD | F_INDIRECT | F_EVENT
    )
    assert not board.features() & F_RO
    assert board.memory.read(board.config, 8) == DISK // SECTOR
    assert board.memory.read(board.config + 20, 4) == SECTOR
    assert board.memory.read(board.config + 32, 1) == 1, "writeback"
    assert board.memory.read(board.config + 44, 4) == 128, "discards aligned to clusters"
    assert board.memory.read(board.common + 0x12, 2) == 1


def test_features_that_are_not_offered_are_refused(board: Board) -> None:
    assert board.start(F_VERSION | 1 << 12) == 0
    assert board.start(F_FLUSH) == 0, "VERSION_1 is a must"
    assert board.start(F_VERSION) == 15


@pytest.mark.parametrize("indirect", [False, True])
def test_reads_and_writes_are_scattered(board: Board, indirect: bool) -> None:
    parts = [(DATA, 512), (DATA + 0x3000, 100), (8 * MIB + 5, 924)]  # the last lies elsewhere in the RAM
    assert board.request(IN, 3, parts, indirect=indirect) == 0
    content = bytes(board.ram.view[DATA : DATA + 512]) + bytes(board.ram.view[DATA + 0x3000 :][:100])
    content += bytes(board.ram.view[2 * MIB + 5 :][:924])
    assert content == board.disk.bytes[3 * SECTOR : 6 * SECTOR]
    assert {(DATA, 512), (DATA + 0x3000, 100), (2 * MIB + 5, 924)} <= set(board.changed), "decoded code there is to be dropped"
    board.ram.view[DATA : DATA + 1024] = bytes(range(256)) * 4
    assert board.request(OUT, 7, [(DATA, 512), (DATA + 512, 512)], out=True, indirect=indirect) == 0
    assert board.disk.bytes[7 * SECTOR : 9 * SECTOR] == bytes(range(256)) * 4
    assert board.disk.log == ["read", "write"]


def test_the_framing_is_the_drivers_own(board: Board) -> None:
    """Header, data and status may share descriptors and be cut anywhere (2.7.4)."""
    struct.pack_into("<IIQ", board.ram.view, HEADER, OUT, 0, 1)
    board.ram.view[HEADER + 16 : HEADER + 16 + 512] = b"\xab" * 512
    board.describe(0, HEADER, 7, NEXT, 1)
    board.describe(1, HEADER + 7, 521, NEXT, 2)
    board.describe(2, STATUS, 1, WRITE)
    board.offer(0)
    board.run()
    assert board.used() == (0, 1)
    assert board.disk.bytes[512:1024] == b"\xab" * 512
    struct.pack_into("<I", board.ram.view, HEADER, IN)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, 513, WRITE)
    board.offer(0)
    board.run()
    assert board.used() == (0, 513)
    assert bytes(board.ram.view[DATA : DATA + 513]) == b"\xab" * 512 + b"\0"


def test_other_requests(board: Board) -> None:
    assert board.request(FLUSH_, 0, []) == 0
    assert board.request(GET_ID, 0, [(DATA, 20)]) == 0
    assert bytes(board.ram.view[DATA : DATA + 20]) == b"EXUVIA0123456789abcd"
    struct.pack_into("<QII", board.ram.view, DATA, 128, 256, 0)
    assert board.request(DISCARD, 0, [(DATA, 16)], out=True) == 0
    struct.pack_into("<QII", board.ram.view, DATA, 2, 3, 1)
    assert board.request(WRITE_ZEROES, 0, [(DATA, 16)], out=True) == 0
    assert board.disk.log == ["flush", "discard 65536 131072", "zero 1024 1536 True"]
    assert not any(board.disk.bytes[1024 : 5 * SECTOR]) and any(board.disk.bytes[5 * SECTOR : 6 * SECTOR])
    assert board.request(DISCARD, 0, [(DATA, 16)], out=True) == 2, "a flag that discards do not have"
    assert board.request(10, 0, [(DATA, 16)]) == 2
    assert board.request(0xFFFFFFFF, 0, []) == 2


@pytest.mark.parametrize(
    ("kind", "sector", "length"),
    [(IN, DISK // SECTOR, 512), (IN, DISK // SECTOR - 1, 1024), (OUT, DISK // SECTOR, 512), (IN, (1 << 64) - 1, 512), (IN, 0, 511)],
)
def test_outside_the_disk(board: Board, kind: int, sector: int, length: int) -> None:
    assert board.request(kind, sector, [(DATA, length)], out=kind == OUT) == 1
    assert board.disk.log == []


def test_clearing_outside_the_disk(board: Board) -> None:
    for sector, count in ((DISK // SECTOR, 1), (0, 0xFFFFFFFF), ((1 << 64) - 1, 1)):
        struct.pack_into("<QII", board.ram.view, DATA, sector, count, 0)
        assert board.request(DISCARD, 0, [(DATA, 16)], out=True) == 1
        assert board.request(WRITE_ZEROES, 0, [(DATA, 16)], out=True) == 1
    assert board.request(DISCARD, 0, [(DATA, 15)], out=True) == 1
    assert board.disk.log == []


def test_errors_of_the_host_are_the_guests(board: Board) -> None:
    board.disk.failing = True
    assert board.request(IN, 0, [(DATA, 512)]) == 1
    assert board.request(FLUSH_, 0, []) == 1
    assert not board.broken()


def test_a_disk_that_is_not_written() -> None:
    disk = Disk()
    disk.read_only = True
    board = Board(disk)
    assert board.features() & (F_RO | F_DISCARD) == F_RO
    assert board.start(F_VERSION | F_RO) == 15
    assert board.request(OUT, 0, [(DATA, 512)], out=True) == 1
    assert board.request(IN, 0, [(DATA, 512)]) == 0
    assert disk.log == ["read"]


def test_who_cannot_flush_writes_through(board: Board) -> None:
    board.start(F_VERSION)
    assert board.request(OUT, 0, [(DATA, 512)], out=True) == 0
    board.start(F_VERSION | F_FLUSH | F_WCE)
    assert board.request(OUT, 0, [(DATA, 512)], out=True) == 0
    board.memory.write(board.config + 32, 1, 0)
    assert board.memory.read(board.config + 32, 1) == 0
    assert board.request(OUT, 0, [(DATA, 512)], out=True) == 0
    assert board.disk.log == ["write through", "write", "write through"]


def test_the_users_word_on_caching_counts_until_the_drivers() -> None:
    for word, before, cached in (("auto", False, 0), ("on", False, 1), ("off", True, 0)):
        disk = Disk()
        disk.writeback = before
        board = Board(disk, write_cache=word)
        board.start(F_VERSION | F_FLUSH | F_WCE)
        assert board.memory.read(board.config + 32, 1) == cached
        board.memory.write(board.config + 32, 1, 1 - cached)
        assert board.memory.read(board.config + 32, 1) == 1 - cached


def test_intx_and_its_suppression(board: Board) -> None:
    board.request(FLUSH_, 0, [])
    assert board.lines[board.bus.line(4, 1)]
    assert board.memory.read(board.isr, 1) == 1
    assert not any(board.lines)
    struct.pack_into("<H", board.ram.view, AVAIL, 1)  # no interrupts
    board.request(FLUSH_, 0, [])
    assert not any(board.lines)


def test_event_indexes(board: Board) -> None:
    board.start(F_VERSION | F_FLUSH | F_EVENT)
    event = AVAIL + 4 + 2 * board.size
    asked = USED + 4 + 8 * board.size
    for number in range(20):
        struct.pack_into("<H", board.ram.view, event, number if number % 5 == 4 else number + 100)
        board.request(FLUSH_, 0, [])
        assert struct.unpack_from("<H", board.ram.view, asked) == (number + 1,), "to be told of the next"
        assert board.memory.read(board.isr, 1) == (number % 5 == 4), number
    board.next = 20


def test_messages_masks_and_pending(board: Board) -> None:
    write, device = board.memory.write, board.device
    for vector in (0, 1):
        write(BAR1 + 16 * vector, 8, 0xFEE00000)
        write(BAR1 + 16 * vector + 8, 4, 0x40 + vector)
    device.write_config(board.msix + 2, 2, 0x8000)
    board.start()
    write(board.common + 0x16, 2, 0)
    write(board.common + 0x1A, 2, 2)
    assert board.memory.read(board.common + 0x1A, 2) == 0xFFFF, "there is no vector 2"
    write(board.common + 0x1A, 2, 1)
    board.request(FLUSH_, 0, [])
    assert board.messages == [] and board.memory.read(BAR1 + 0x800, 8) == 2, "masked since reset"
    write(BAR1 + 16 + 12, 4, 0)
    assert board.messages == [(0xFEE00000, 0x41)] and board.memory.read(BAR1 + 0x800, 8) == 0
    device.write_config(board.msix + 2, 2, 0xC000)
    board.request(FLUSH_, 0, [])
    assert len(board.messages) == 1
    device.write_config(board.msix + 2, 2, 0x8000)
    assert len(board.messages) == 2
    assert not any(board.lines)


def test_the_window_in_configuration_space(board: Board) -> None:
    device, at = board.device, board.window
    device.write_config(at + 4, 1, 4)
    device.write_config(at + 8, 4, board.config - BAR4)
    device.write_config(at + 12, 4, 4)
    assert device.read_config(at + 16, 4) == DISK // SECTOR
    device.write_config(at + 8, 4, 0x14)
    device.write_config(at + 12, 4, 1)
    device.write_config(at + 16, 4, 0)
    assert board.memory.read(board.common + 0x14, 1) == 0, "a reset through the window"
    for bar, offset, length in ((0, 0, 4), (4, 0x4000, 4), (4, 0xFFFFFFFF, 1), (1, 0xFFC, 8), (4, 2, 4)):
        device.write_config(at + 4, 1, bar)
        device.write_config(at + 8, 4, offset)
        device.write_config(at + 12, 4, length)
        device.read_config(at + 16, 4)
        device.write_config(at + 16, 4, 0)


def test_the_index_wraps(board: Board) -> None:
    board.device.queues[0].taken = board.device.queues[0].given = board.device.queues[0].told = 0xFFFC
    board.next = board.seen = 0xFFFC
    struct.pack_into("<H", board.ram.view, USED + 2, 0xFFFC)
    for _ in range(10):
        assert board.request(IN, 1, [(DATA, 512)]) == 0
    assert board.next == 6


def test_a_reset_waits_for_what_is_under_way(board: Board) -> None:
    board.disk.hold = True
    struct.pack_into("<IIQ", board.ram.view, HEADER, IN, 0, 0)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, 513, WRITE)
    board.offer(0)
    with ThreadPoolExecutor(1) as pool:
        reset = pool.submit(board.memory.write, board.common + 0x14, 1, 0)
        with pytest.raises(TimeoutError):
            reset.result(0.1)
        board.disk.release()
        reset.result(10)
    board.run()
    assert board.used() is None, "nobody is told"
    assert (DATA, 513) in board.changed


def test_save_finishes_what_is_under_way(board: Board) -> None:
    board.disk.hold = True
    struct.pack_into("<IIQ", board.ram.view, HEADER, IN, 0, 0)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, 513, WRITE)
    board.offer(0)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(board.device.save)
        board.disk.release()
        saved = saving.result(10)
    assert board.used() == (0, 513)
    board.disk.hold = False
    board.device.reset()
    assert not board.device.queues[0].enabled
    board.device.load(saved)
    board.run()
    assert board.request(FLUSH_, 0, []) == 0


def test_no_more_is_under_way_than_the_queue_holds(board: Board) -> None:
    board.disk.hold = True
    struct.pack_into("<IIQ", board.ram.view, HEADER, IN, 0, 0)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, 513, WRITE)
    for _ in range(1000):
        board.offer(0)
    assert len(board.disk.held) == 256
    board.disk.hold = False
    board.disk.release()
    board.run()
    assert board.broken(), "1000 requests in a queue of 8"


def _loop(board: Board) -> None:
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, 512, NEXT, 0)


def _indirect_in_indirect(board: Board) -> None:
    board.describe(0, TABLE, 32, INDIRECT)
    board.describe(0, TABLE, 32, INDIRECT, 0, TABLE)


def _indirect_loop(board: Board) -> None:
    board.describe(0, TABLE, 32, INDIRECT)
    board.describe(0, HEADER, 16, NEXT, 1, TABLE)
    board.describe(1, DATA, 512, NEXT, 1, TABLE)


def _ahead(board: Board) -> None:
    board.describe(0, HEADER, 16, 0)
    board.next = 500


def _chain_of(*descriptors: tuple[int, int, int]) -> Callable[[Board], None]:
    def make(board: Board) -> None:
        for number, (address, length, flags) in enumerate(descriptors):
            board.describe(number, address, length, flags, number + 1)

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_loop, id="a loop"),
        pytest.param(_indirect_in_indirect, id="an indirect table in another"),
        pytest.param(_indirect_loop, id="a loop in an indirect table"),
        pytest.param(_ahead, id="an index far ahead"),
        pytest.param(_chain_of((HEADER, 16, NEXT), (STATUS, 1, WRITE | NEXT), (DATA, 512, 0)), id="read after written"),
        pytest.param(_chain_of((HEADER, 16, 0)), id="no status"),
        pytest.param(_chain_of((HEADER, 15, NEXT), (STATUS, 1, WRITE)), id="a short header"),
        pytest.param(_chain_of((HEADER, 16, NEXT), (STATUS, 0, WRITE)), id="a status of no bytes"),
        pytest.param(_chain_of((BAR4, 16, NEXT), (STATUS, 1, WRITE)), id="a header in the device itself"),
        pytest.param(_chain_of((HEADER, 16, NEXT), (MIB - 1, 512, WRITE)), id="into ROM"),
        pytest.param(_chain_of((HEADER, 16, NEXT), (9 * MIB - 1, 512, WRITE)), id="past the end"),
        pytest.param(_chain_of((HEADER, 16, NEXT), ((1 << 64) - 1, 512, WRITE)), id="around the end of addresses"),
        pytest.param(_chain_of((HEADER, 16, NEXT), (DATA, 0xFFFFFFFF, WRITE)), id="4 GiB"),
        pytest.param(_chain_of((TABLE, 8, INDIRECT)), id="half a descriptor"),
        pytest.param(_chain_of((TABLE, 0, INDIRECT)), id="an empty table"),
        pytest.param(_chain_of((BAR4, 32, INDIRECT)), id="a table in the device"),
        pytest.param(_chain_of((TABLE, 0xFFFFFFF0, INDIRECT)), id="a huge table"),
        pytest.param(_chain_of((TABLE, 32, INDIRECT | NEXT)), id="more after a table"),
    ],
)
def test_a_broken_ring_stops_the_device(board: Board, make: Callable[[Board], None]) -> None:
    make(board)
    board.offer(0)
    board.run()
    assert board.broken()
    assert board.memory.read(board.isr, 1) & 2, "the driver is told that the configuration changed"
    assert board.disk.log == []
    board.notify()
    assert board.used() is None
    assert board.start() == 15
    assert board.request(IN, 0, [(DATA, 512)]) == 0


@pytest.mark.parametrize("offset", [0x20, 0x28, 0x30])
@pytest.mark.parametrize("address", [BAR4, 9 * MIB - 4, (1 << 64) - 16, MIB])
def test_rings_where_no_memory_is(board: Board, offset: int, address: int) -> None:
    board.start()
    board.memory.write(board.common + 0x14, 1, 0)
    board.size, common = 8, board.common
    for status in (1, 3):
        board.memory.write(common + 0x14, 1, status)
    board.memory.write(common + 8, 4, 1)
    board.memory.write(common + 12, 4, 1)
    board.memory.write(common + 0x14, 1, 11)
    board.memory.write(common + 0x18, 2, 8)
    for at, where in ((0x20, DESC), (0x28, AVAIL), (0x30, USED), (offset, address)):
        board.memory.write(common + at, 8, where)
    board.memory.write(common + 0x1C, 2, 1)
    board.memory.write(common + 0x14, 1, 15)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, STATUS, 1, WRITE)
    board.offer(0)
    board.run()
    assert board.used() is None


@pytest.mark.parametrize("seed", range(20))
def test_a_guest_may_write_anything(seed: int) -> None:
    """Random rings, tables and registers: the device neither raises nor touches what is not RAM, and comes back after a reset."""
    chance = random.Random(seed)
    board = Board(Disk(MIB))
    before = bytes(board.ram.view[MIB : 2 * MIB]), bytes(board.ram.view[3 * MIB :])
    places = [HEADER, STATUS, DATA, DESC, AVAIL, USED, TABLE, BAR4, BAR1, 8 * MIB, MIB - 3, 9 * MIB - 9, (1 << 64) - 5]
    for _ in range(60):
        board.start(F_VERSION | F_FLUSH | (F_EVENT if chance.random() < 0.5 else 0) | F_WCE)
        for _ in range(chance.randrange(1, 6)):
            struct.pack_into(
                "<IIQ", board.ram.view, HEADER, chance.choice((0, 1, 4, 8, 11, 13, 99)), 0, chance.choice((0, 1, 2047, 1 << 60))
            )
            for index in range(8):
                for table in (DESC, TABLE):
                    where = chance.choice(places) + chance.choice((0, 0, 0, 1, 600))
                    length = chance.choice((0, 1, 16, 16, 512, 513, 4096, 0xFFFFFFFF))
                    board.describe(index, where & (1 << 64) - 1, length, chance.choice((0, 1, 1, 2, 3, 4, 5)), chance.randrange(10), table)
            board.describe(0, HEADER, 16, NEXT, 1)
            board.offer(chance.choice((0, 0, 0, 1, 9)), notify=False)
            if chance.random() < 0.1:
                board.next = chance.getrandbits(16)
            if chance.random() < 0.2:
                at = chance.randrange(0x38)
                board.memory.write(board.common + at, chance.choice((1, 2, 4)), chance.getrandbits(32))
            board.notify()
            board.run()
    assert (bytes(board.ram.view[MIB : 2 * MIB]), bytes(board.ram.view[3 * MIB :])) == before
    assert board.start() == 15
    assert board.request(IN, 0, [(DATA, 512)]) == 0
