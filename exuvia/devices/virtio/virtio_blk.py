"""virtio-blk-pci and virtio-blk-device: a disk on PCI or on virtio-mmio (VIRTIO 1.2, section 5.2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from exuvia.devices.device import Backend, Choice, Property, State
from exuvia.devices.virtio.mmio import VirtioMmio
from exuvia.devices.virtio.pci import VirtioPci
from exuvia.devices.virtio.virtio import Pending, Virtio
from exuvia.devices.virtio.virtqueue import LARGEST, Broken, Chain, Virtqueue
from exuvia.memory.dma import Stretch

SECTOR = 512
SEG_MAX, RO, BLK_SIZE, FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES = (1 << bit for bit in (2, 5, 6, 9, 11, 13, 14))
OK, IOERR, UNSUPP = 0, 1, 2
HEADER = struct.Struct("<IIQ")  # type, reserved, sector
SEGMENT = struct.Struct("<QII")  # sector, sectors, flags
UNMAP = 1
ID_LENGTH = 20
MOST_SECTORS = (1 << 31) // SECTOR  # of one discard or write zeroes
CONFIG = struct.Struct("<Q4xI4xI8xBxHIIIIIB3x")  # capacity, seg_max, blk_size, writeback, num_queues; discard: 3; write zeroes: 3
WRITEBACK_AT = 32


class Kind(IntEnum):
    """What a request asks for (5.2.6)."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class Drive(Protocol):
    """The host's side of a disk. Requests lie inside `size`; what is pending ends with None or an OSError."""

    size: int  # bytes
    read_only: bool
    writeback: bool  # whether writes may wait for a flush, until the driver decides
    cluster: int  # bytes that it keeps together

    def read(self, offset: int, into: Sequence[memoryview]) -> Pending: ...
    def write(self, offset: int, data: Sequence[memoryview], through: bool) -> Pending: ...
    def flush(self) -> Pending: ...
    def discard(self, offset: int, length: int) -> Pending: ...
    def zero(self, offset: int, length: int, unmap: bool, through: bool) -> Pending: ...


class VirtioBlk(Virtio):
    """A disk for drivers that know virtio 1.0 or later."""

    device_type = 2

    drive = Backend("the ID of the drive", "drives")
    serial = Property(str, "", "its serial number, 20 characters at most")
    bootindex = Property(int, -1, "its place among what firmware tries to boot from, -1 for none")
    write_cache = Choice(
        "auto", "whether writes may wait for a flush, until the driver decides; auto is as the drive's cache=", "on", "off"
    )
    queue_number = Choice("1", "there is one queue", name="num-queues")
    logical_block_size = Choice("512", "there is no other size")
    physical_block_size = Choice("512", "there is no other size")
    werror = Choice("report", "the guest is told of errors")
    rerror = Choice("report", "the guest is told of errors")
    packed = Choice("off", "queues are split ones")
    scsi = Choice("off", "SCSI commands do not go through")
    iothread = Property(str, "", "no effect: each disk has threads of its own")
    ioeventfd = Property(bool, True, "no effect: no queue waits for another device")

    writeback = State(-1)  # what the driver chose; -1: nothing yet

    def offered(self) -> int:
        """A drive that cannot be written takes no discards either."""
        if self.drive is None:
            return 0
        common = SEG_MAX | BLK_SIZE | FLUSH | CONFIG_WCE
        return common | (RO if self.drive.read_only else DISCARD | WRITE_ZEROES)

    def config(self) -> bytes:
        """Sizes are sectors of 512 bytes."""
        drive: Drive | None = self.drive
        size, cluster = (drive.size, drive.cluster) if drive is not None else (0, SECTOR)
        limits = (MOST_SECTORS, 1, max(1, cluster // SECTOR), MOST_SECTORS, 1, 1)
        return CONFIG.pack(size // SECTOR, LARGEST - 2, SECTOR, self._cached(), 1, *limits)

    def _cached(self) -> bool:
        if self.writeback >= 0:
            return bool(self.writeback)
        if self.write_cache != "auto":
            return self.write_cache == "on"
        return self.drive is not None and bool(self.drive.writeback)

    def _through(self) -> bool:
        """A driver that cannot flush, or does not want to, has its writes safe when they complete (5.2.6.2)."""
        return not self.features & FLUSH or not self._cached()

    def set_config(self, offset: int, value: int) -> None:
        """Only `writeback` can be written."""
        if offset == WRITEBACK_AT and self.features & CONFIG_WCE:
            self.writeback = value & 1

    def serve(self, queue: Virtqueue, chain: Chain) -> None:
        """A header of 16 bytes and what is written; then what is read, and the status in the last byte."""
        dma, drive = self.dma, self.drive
        if dma is None or drive is None:
            return
        if sum(part.length for part in chain.readable) < HEADER.size or not sum(part.length for part in chain.writable):
            raise Broken("a request without room for header and status")
        header, data = _split(chain.readable, HEADER.size)
        kind, _, sector = HEADER.unpack(dma.read(header))
        into, status = _split(chain.writable, sum(part.length for part in chain.writable) - 1)
        answer = self._begin(drive, kind, sector * SECTOR, data, into)
        if isinstance(answer, int):
            dma.load(status[0].offset, bytes([answer]))
            dma.written(into)
            self.finish(queue, chain, 1 + (sum(part.length for part in into) if answer == OK else 0))
        else:
            self.later(queue, chain, answer)

    def _begin(self, drive: Drive, kind: int, offset: int, data: list[Stretch], into: list[Stretch]) -> Pending | int:
        """Begin a request, or its status where that is known at once."""
        assert self.dma is not None
        match kind:
            case Kind.IN:
                length = sum(part.length for part in into)
                return drive.read(offset, self.dma.views(into)) if self._inside(drive, offset, length) else IOERR
            case Kind.OUT:
                length = sum(part.length for part in data)
                if drive.read_only or not self._inside(drive, offset, length):
                    return IOERR
                return drive.write(offset, self.dma.views(data), self._through())
            case Kind.FLUSH:
                return drive.flush()
            case Kind.GET_ID:
                return self._identify(into)
            case Kind.DISCARD | Kind.WRITE_ZEROES:
                return self._clear(drive, kind, data)
        return UNSUPP

    @staticmethod
    def _inside(drive: Drive, offset: int, length: int) -> bool:
        return not length % SECTOR and offset + length <= drive.size // SECTOR * SECTOR

    def _identify(self, into: list[Stretch]) -> int:
        assert self.dma is not None
        text = self.serial.encode("ascii", "replace")[:ID_LENGTH].ljust(ID_LENGTH, b"\0")
        room, _ = _split(into, min(ID_LENGTH, sum(part.length for part in into)))
        for view in self.dma.views(room):
            view[:], text = text[: len(view)], text[len(view) :]
        return OK

    def _clear(self, drive: Drive, kind: int, data: list[Stretch]) -> Pending | int:
        """Discard or write zeroes, of one segment."""
        assert self.dma is not None
        if drive.read_only or sum(part.length for part in data) != SEGMENT.size:
            return IOERR
        sector, count, flags = SEGMENT.unpack(self.dma.read(data))
        if flags & ~UNMAP or (flags and kind == Kind.DISCARD):
            return UNSUPP
        if count > MOST_SECTORS or not self._inside(drive, sector * SECTOR, count * SECTOR):
            return IOERR
        if kind == Kind.DISCARD:
            return drive.discard(sector * SECTOR, count * SECTOR)
        return drive.zero(sector * SECTOR, count * SECTOR, bool(flags & UNMAP), self._through())

    def finished(self, chain: Chain, future: Pending) -> int:
        """The status goes into the last byte."""
        assert self.dma is not None
        failed = future.exception() is not None
        last = chain.writable[-1]
        self.dma.written(chain.writable)
        self.dma.load(last.offset + last.length - 1, bytes([IOERR if failed else OK]))
        return sum(part.length for part in chain.writable)

    def restart(self) -> None:
        """A driver begins anew."""
        super().restart()
        self.writeback = -1


class VirtioBlkPci(VirtioBlk, VirtioPci):
    """A virtio disk on PCI."""

    name = "virtio-blk-pci"
    class_code = 0x010000


class VirtioBlkDevice(VirtioBlk, VirtioMmio):
    """A virtio disk on virtio-mmio."""

    name = "virtio-blk-device"


def _split(stretches: list[Stretch], count: int) -> tuple[list[Stretch], list[Stretch]]:
    """The first `count` bytes, and the rest."""
    first: list[Stretch] = []
    for number, (offset, length) in enumerate(stretches):
        if length > count:
            if count:
                first.append(Stretch(offset, count))
            return first, [Stretch(offset + count, length - count), *stretches[number + 1 :]]
        first.append(Stretch(offset, length))
        count -= length
    return first, []
