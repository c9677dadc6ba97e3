"""A sparse extent: grains found through a directory of tables, written verbatim or, in streams, compressed behind a marker."""

from __future__ import annotations

import errno
import os
import struct
import sys
from array import array
from collections import OrderedDict

from exuvia.disk.clusters import Room, Writable
from exuvia.disk.formats.vmdk.descriptor import SECTOR
from exuvia.disk.formats.vmdk.header import Geometry, tables
from exuvia.disk.node import Extent, ImageError, Kind, Node
from exuvia.disk.pages import Pages
from exuvia.disk.vector import Buffer, Vector
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exuvia.support import deflate
else:
    deflate = Later("exuvia.support.deflate")

CACHE = 8 << 20  # bytes of grain tables
UNPACKED = 16  # grains
GRAIN_HEAD = struct.Struct("<QI")  # a compressed grain's first sector on the disk, its packed size


class Twin(Node):
    """The grain tables in `file`, each with a copy elsewhere in it that is kept alike."""

    name = "grain tables"

    def __init__(self, file: Node) -> None:
        self.file, self.filename, self.copies = file, file.filename, dict[int, int]()

    def readv(self, offset: int, into: Vector) -> None:
        self.file.readv(offset, into)

    def writev(self, offset: int, data: Vector) -> None:
        self.file.writev(offset, data)
        if copy := self.copies.get(offset):
            self.file.writev(copy, data)

    def flush(self) -> None:
        self.file.flush()


class Sparse(Writable):
    """`size` bytes of `file` from its own offset 0 on. `has_parent` says whether absent grains may stand for a parent's."""

    def __init__(
        self, file: Node, geometry: Geometry, size: int, *, writable: bool, has_parent: bool, first_write: Callable[[], None]
    ) -> None:
        self.geometry, self.size, self.has_parent, self.first_write = geometry, size, has_parent, first_write
        super().__init__(file, writable=writable)

    def open(self) -> None:
        geometry = self.geometry
        self.cluster: int = geometry.grain
        self.span = geometry.grain * geometry.entries  # bytes of the disk that a table covers
        self.end = self.file.size + -self.file.size % (SECTOR if geometry.compressed else self.cluster)
        self.directory = self._directory(geometry.directory)
        twin = Twin(self.file)
        if geometry.copy is not None:
            self.copy = self._directory(geometry.copy)
            twin.copies = {first * SECTOR: second * SECTOR for first, second in zip(self.directory, self.copy) if first and second}
        self.twin = twin
        self.tables = Pages(twin, geometry.entries * 4, CACHE // (geometry.entries * 4))
        self.unpacked: OrderedDict[int, bytes] = OrderedDict()

    def _directory(self, offset: int) -> array[int]:
        found = array("I", self.file.read(offset, tables(self.geometry) * 4))
        if sys.byteorder == "big":
            found.byteswap()
        size = self.geometry.entries * 4
        if found and max(found) * SECTOR + size > self.file.size:
            raise ImageError(f"{self.filename}: a grain table lies at {max(found) * SECTOR}, past the file's end ({self.file.size})")
        return found

    # --- reading

    def lookup(self, offset: int, length: int) -> Extent:
        index, within = divmod(offset, self.cluster)
        table, slot = divmod(index, self.geometry.entries)
        at = self.directory[table] * SECTOR
        if not at:
            end = table + 1
            while end < len(self.directory) and not self.directory[end] and end * self.span < offset + length:
                end += 1
            return Extent(Kind.ABSENT, min(length, end * self.span - offset))
        count = min(-(-(within + length) // self.cluster), self.geometry.entries - slot)
        entries = struct.unpack_from(f"<{count}I", self.tables.page(at), slot * 4)
        first = entries[0]
        kind = self._kind(first)
        if kind is Kind.COMPRESSED:
            run = next((n for n, entry in enumerate(entries) if self._kind(entry) is not kind), count)
            return Extent(kind, min(length, run * self.cluster - within))
        if kind is not Kind.DATA:
            run = count if entries.count(first) == count else next(n for n, entry in enumerate(entries) if entry != first)
            return Extent(kind, min(length, run * self.cluster - within))
        step = self.cluster // SECTOR
        run = 1
        if count > 1:
            wanted = range(first, first + count * step, step)
            run = count if entries == tuple(wanted) else next(n for n, entry in enumerate(entries) if entry != wanted[n])
        if (first + (run - 1) * step) * SECTOR >= self.end:
            raise ImageError(f"{self.filename}: a grain of the disk's offset {offset} lies past the file's end ({self.end})")
        return Extent(kind, min(length, run * self.cluster - within), first * SECTOR + within, self.file)

    def _kind(self, entry: int) -> Kind:
        if not entry:
            return Kind.ABSENT
        if entry == 1 and self.geometry.zero_grains:
            return Kind.ZERO
        return Kind.COMPRESSED if self.geometry.compressed else Kind.DATA

    def unpack(self, offset: int, length: int) -> bytes:
        pieces = []
        while length:
            index, within = divmod(offset, self.cluster)
            count = min(length, self.cluster - within)
            pieces.append(self._grain(index)[within : within + count])
            offset += count
            length -= count
        return b"".join(pieces)

    def _grain(self, index: int) -> bytes:
        """A compressed grain's content."""
        with self.lock:
            if found := self.unpacked.get(index):
                return found
            host = self._entry(index) * SECTOR
        data = self.file.read(host, max(0, min(self.cluster + SECTOR, self.end - host)))
        if self.geometry.markers:
            _, size = GRAIN_HEAD.unpack(data[:12].ljust(12, b"\0"))
            if size > 2 * self.cluster or host + 12 + size > self.end:
                raise ImageError(f"{self.filename}: the compressed grain at {host} has {size} bytes, which cannot be")
            data = data[12 : 12 + size] if 12 + size <= len(data) else self.file.read(host + 12, size)
        try:
            content = deflate.unpack(data, self.cluster)
        except ValueError as error:
            raise ImageError(f"{self.filename}: the compressed grain at {host} is damaged: {error}") from None
        if len(content) < min(self.cluster, self.size - index * self.cluster):
            raise ImageError(f"{self.filename}: the compressed grain at {host} is too short")
        with self.lock:
            if self._entry(index) * SECTOR == host:
                self.unpacked[index] = content
                if len(self.unpacked) > UNPACKED:
                    self.unpacked.popitem(last=False)
        return content

    def _entry(self, index: int) -> int:
        """The grain table's entry of a grain, 0 where it has no table."""
        table, slot = divmod(index, self.geometry.entries)
        at = self.directory[table] * SECTOR
        return int.from_bytes(self.tables.page(at)[slot * 4 : slot * 4 + 4], "little") if at else 0

    # --- writing

    def writev(self, offset: int, data: Vector) -> None:
        self.first_write()
        if not self.geometry.compressed:
            super().writev(offset, data)
            return
        at = 0
        while at < data.length:
            index, within = divmod(offset + at, self.cluster)
            piece = data.slice(at, min(data.length - at, self.cluster - within))
            whole = min(self.cluster, self.size - index * self.cluster)
            packed = self._pack(index, piece.gather()) if piece.length == whole else None
            with self.placing:
                if packed is None:
                    content = bytearray(self.read(index * self.cluster, whole))
                    content[within : within + piece.length] = piece.gather()
                    packed = self._pack(index, content)
                self._append(index, packed)
            at += piece.length

    def _pack(self, index: int, content: Buffer) -> bytes:
        packed = deflate.packer(raw=False)(bytes(content).ljust(self.cluster, b"\0"))
        head = GRAIN_HEAD.pack(index * (self.cluster // SECTOR), len(packed)) if self.geometry.markers else b""
        return (head + packed).ljust(-(-(len(head) + len(packed)) // SECTOR) * SECTOR, b"\0")

    def _append(self, index: int, packed: bytes) -> None:
        """Give a grain new compressed content, at the file's end; what it had is lost room."""
        with self.lock:
            self._make_tables(index * self.cluster, 1)
            host = self._extend(len(packed))
        self.file.write(host, packed)
        with self.lock:
            self.unpacked.pop(index, None)
            self._set(index, (host // SECTOR,))

    def place(self, offset: int, length: int) -> Room:
        self._make_tables(offset, length)
        return Room(self._extend(length), length, True, self.file)

    def link(self, offset: int, room: Room) -> None:
        count, step, first = room.length // self.cluster, self.cluster // SECTOR, room.host // SECTOR
        self._set(offset // self.cluster, range(first, first + count * step, step))

    def _extend(self, length: int) -> int:
        """Room at the file's end."""
        host = self.end
        if (host + length) // SECTOR > 0xFFFFFFFF:
            raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)} (a sparse VMDK extent has 2 TiB at most)", self.filename)
        self.end += length
        return host

    def _set(self, index: int, entries: range | tuple[int, ...]) -> None:
        """Write entries of consecutive grains, whose tables exist; they reach the file after what was written so far."""
        done = 0
        while done < len(entries):
            table, slot = divmod(index + done, self.geometry.entries)
            part = entries[done : done + self.geometry.entries - slot]
            at = self.directory[table] * SECTOR
            struct.pack_into(f"<{len(part)}I", self.tables.page(at), slot * 4, *part)
            self.tables.dirty(at)
            done += len(part)
        self.tables.after_data()

    def _make_tables(self, offset: int, length: int) -> None:
        """Grain tables for [offset, offset+length), where the directory has none: zeros first, then what points there."""
        missing = [
            n for n in range(offset // self.span, -(-(offset + length) // self.span)) if n < len(self.directory) and not self.directory[n]
        ]
        if not missing:
            return
        size = self.geometry.entries * 4
        directories = [(self.directory, self.geometry.directory)]
        if self.geometry.copy is not None:
            directories.append((self.copy, self.geometry.copy))
        room = -(-size // SECTOR) * SECTOR
        room += -room % (SECTOR if self.geometry.compressed else self.cluster)
        start = self._extend(len(missing) * len(directories) * room)
        self.file.write(start, bytes(len(missing) * len(directories) * room))
        self.file.flush()
        for number, table in enumerate(missing):
            for which, (directory, place) in enumerate(directories):
                at = start + (number * len(directories) + which) * room
                directory[table] = at // SECTOR
                self.file.write(place + table * 4, (at // SECTOR).to_bytes(4, "little"))
            if self.geometry.copy is not None:
                self.twin.copies[self.directory[table] * SECTOR] = self.copy[table] * SECTOR

    def erase(self, offset: int, length: int, unmap: bool) -> bool:
        if self.geometry.zero_grains:
            entry = 1
        elif not self.has_parent:
            entry = 0
        else:
            return False
        self.first_write()
        for start, extent in list(self._pieces(offset, length)):
            if extent.kind is Kind.ABSENT and not self.has_parent:
                continue
            self._make_tables(start, extent.length)
            first, last = start // self.cluster, -(-(start + extent.length) // self.cluster)
            for index in range(first, last):
                self.unpacked.pop(index, None)
            self._set(first, (entry,) * (last - first))
            if extent.host is not None:
                self.file.discard(extent.host, extent.length)
        return True

    def discard(self, offset: int, length: int) -> None:
        first, last = offset + -offset % self.cluster, offset + length
        last -= last % self.cluster if last != self.size else 0
        if first < last:
            with self.placing, self.lock:
                self.erase(first, last - first, True)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, Extent]]:
        for extent in self.extents(offset, length):
            yield offset, extent
            offset += extent.length

    def flush(self) -> None:
        with self.lock:
            self.tables.write()
        self.file.flush()

    def broken(self) -> Iterator[int]:
        """Offsets of the disk whose grains are not in the file."""
        last = (self.end - 1) // SECTOR
        for table, sector in enumerate(self.directory):
            if not sector:
                continue
            with self.lock:
                entries = struct.unpack(f"<{self.geometry.entries}I", self.tables.page(sector * SECTOR))
            if max(entries) > last:
                yield from (table * self.span + n * self.cluster for n, entry in enumerate(entries) if entry > last)
