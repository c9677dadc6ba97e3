"""Formats that keep a disk in clusters found through tables: reading, writing, copy on write and zeroing in terms of three methods.

A format says where things are (`lookup`), gives room (`place`) and makes tables point there (`link`); this file does the rest.
"""

from __future__ import annotations

from abc import abstractmethod

from exuvia.disk.format import Format
from exuvia.disk.node import CHUNK, ZEROS, Extent, Kind, Node
from exuvia.disk.processors import COUNT, share
from exuvia.disk.vector import Vector
from exuvia.support.record import NamedTuple

PART = 64 << 10  # bytes that are unpacked at once: malloc gives larger pieces back to the host each time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Room(NamedTuple):
    """`length` bytes at `host` of `file`. `clear`: they read as zeros already."""

    host: int
    length: int
    clear: bool
    file: Node


class Columns(NamedTuple):
    """Extents that follow one another, and their end as one place more: each begins at a place, is of a kind, lies at a host (or None)."""

    places: list[int]
    kinds: list[Kind]
    hosts: list[int | None]


class Clustered(Format):
    """`cluster` is set by `open`; `grain`, what is allocated at once, is the same but for a format with subclusters."""

    cluster: int

    @property
    def grain(self) -> int:
        """Bytes that are allocated at once."""
        return self.cluster

    @abstractmethod
    def lookup(self, offset: int, length: int) -> Extent:
        """The first extent of [offset, offset+length): as long as one kind lies together. Raises ImageError where tables lie."""

    def unpack(self, offset: int, length: int) -> bytes:
        """The content of a COMPRESSED extent's bytes."""
        raise NotImplementedError

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        while length:
            with self.lock:
                found = self.several(offset, length)
            for extent in found:
                yield extent
                offset += extent.length
                length -= extent.length

    def several(self, offset: int, length: int) -> list[Extent]:
        """`lookup`, and extents behind that one where they cost little more."""
        return [self.lookup(offset, length)]

    def columns(self, offset: int, length: int) -> Iterator[Columns] | None:
        """`extents` many at once, neighbours of a column as one where they can be; None where the format or the image has no such way."""
        return None

    def units(self, unit: int, length: int) -> int | None:
        """How many units of `unit` bytes, from 0 on, have data in the first `length`, by this layer's tables; None as with `columns`."""
        return None

    def readv(self, offset: int, into: Vector) -> None:
        if not into.length:
            return
        with self.lock:
            extent = self.lookup(offset, into.length)
        if extent.length == into.length:
            self._fill(extent, offset, into)
            return
        at = 0
        for extent in self.extents(offset, into.length):
            self._fill(extent, offset + at, into.slice(at, extent.length))
            at += extent.length

    def _fill(self, extent: Extent, offset: int, into: Vector) -> None:
        """Read one extent."""
        if extent.kind is Kind.DATA:
            assert extent.host is not None
            self.file.event("read_aio")
            (extent.file or self.file).readv(extent.host, into)
        elif extent.kind is Kind.COMPRESSED:
            self._unpack(offset, into)
        elif extent.kind is Kind.ABSENT and self.backing is not None:
            self._read_backing(offset, into)
        else:
            into.clear()

    def _unpack(self, offset: int, into: Vector) -> None:
        """Unpack on every processor where there is much of it, each taking the next part when it is done with one."""
        step = max(self.cluster, PART)
        starts = iter([0, *range(step - offset % step, into.length, step)])

        def work() -> None:
            for at in starts:
                count = min(step - (offset + at) % step, into.length - at)
                into.slice(at, count).scatter(self.unpack(offset + at, count))

        share(work, min(COUNT, into.length // (4 * step)))

    def _read_backing(self, offset: int, into: Vector) -> None:
        """The backing image may be shorter: what it lacks reads as zeros."""
        assert self.backing is not None
        there = max(0, min(into.length, self.backing.size - offset))
        if there:
            self.backing.readv(offset, into.slice(0, there))
        if there < into.length:
            into.slice(there, into.length - there).clear()


class Writable(Clustered):
    """A clustered format that can be written: one writer at a time makes clusters, any number write into those that are."""

    @abstractmethod
    def place(self, offset: int, length: int) -> Room:
        """Room for new content of whole clusters from `offset` on, maybe for fewer bytes than `length`. Tables do not point there yet.

        Called with `lock` held, for what `lookup` does not call unfrozen DATA.
        """

    @abstractmethod
    def link(self, offset: int, room: Room) -> None:
        """The room's content was written: tables point there now, and what they pointed to is given up. Called with `lock` held."""

    def unplace(self, offset: int, room: Room) -> None:
        """The room could not be filled and will not be linked. Called with `lock` held."""

    def erase(self, offset: int, length: int, unmap: bool) -> bool:
        """Make whole clusters read as zeros by tables alone; False where the format has no way. Called with `lock` held."""
        return False

    def writev(self, offset: int, data: Vector) -> None:
        at = 0
        while at < data.length:
            self.file.event("write_aio")
            with self.lock:
                extent = self.lookup(offset + at, data.length - at)
            if extent.kind is Kind.DATA and not extent.frozen:
                assert extent.host is not None
                (extent.file or self.file).writev(extent.host, data.slice(at, extent.length))
                at += extent.length
            else:
                with self.placing:
                    at += self._write_new(offset + at, data.slice(at, extent.length))

    def _write_new(self, offset: int, data: Vector) -> int:
        """Write into clusters that have no room of their own yet; the number of bytes of `data` that were taken."""
        with self.lock:
            extent = self.lookup(offset, data.length)  # somebody may have been faster
            if extent.kind is Kind.DATA and not extent.frozen:
                return 0
            first = offset - offset % self.grain
            end = offset + extent.length
            room = self.place(first, end - first + -end % self.grain)
        head = offset - first
        count = min(extent.length, room.length - head)
        tail = room.length - head - count
        try:
            before = self._old(first, head, room, extent)
            behind = self._old(offset + count, tail, room, extent)
            pieces = data.slice(0, count)
            if before or behind:
                pieces = Vector((*before, *pieces, *behind))
            room.file.writev(room.host + (0 if before else head), pieces)
        except BaseException:
            with self.lock:
                self.unplace(first, room)
            raise
        with self.lock:
            self.link(first, room)
        return count

    def _old(self, offset: int, length: int, room: Room, extent: Extent) -> list[memoryview]:
        """What stands beside new data in its cluster; nothing where the room has it already."""
        if not length:
            return []
        if extent.kind is Kind.ZERO or (extent.kind is Kind.ABSENT and (self.backing is None or offset >= self.backing.size)):
            return [] if room.clear else [memoryview(ZEROS)[:length]] if length <= CHUNK else [memoryview(bytes(length))]
        buffer = bytearray(length)
        there = max(0, min(length, self.size - offset))  # the last cluster may reach past the end
        self.readv(offset, Vector((memoryview(buffer)[:there],)))
        return [memoryview(buffer)]

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        end = offset + length
        first = offset + -offset % self.grain
        last = end if end == self.size else end - end % self.grain
        if first < last:
            with self.placing, self.lock:
                erased = self.erase(first, last - first, unmap)
            if erased:
                self._write_zeros(offset, first - offset)
                self._write_zeros(last, end - last)
                return
        self._write_zeros(offset, length)

    def _write_zeros(self, offset: int, length: int) -> None:
        """Write zeros where something else reads, and no more than that."""
        for extent in list(self.extents(offset, length)):
            silent = extent.kind is Kind.ABSENT and (self.backing is None or offset >= self.backing.size)
            if extent.kind is Kind.DATA and not extent.frozen:
                assert extent.host is not None
                (extent.file or self.file).zero(extent.host, extent.length)
            elif extent.kind is not Kind.ZERO and not silent:
                Node.zero(self, offset, extent.length)
            offset += extent.length
