"""qed: QEMU Enhanced Disk (QEMU's docs/interop/qed_spec): two levels of tables of 64-bit offsets, everything made of whole clusters.

Tables are written in an order that needs no check after a crash, so the "need check" bit is honoured, but never set.
"""

from __future__ import annotations

import struct

from exuvia.disk.blocks import CACHED, PAGE, Seen
from exuvia.disk.clusters import Room, Writable
from exuvia.disk.format import Found, Opener
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.pages import Pages
from exuvia.disk.structure import Structure, at
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"QED\0"
BACKING_FILE, NEED_CHECK, NO_PROBE = 1, 2, 4
KNOWN = BACKING_FILE | NEED_CHECK | NO_PROBE
SMALLEST, LARGEST, DEFAULT = 4 << 10, 64 << 20, 64 << 10  # bytes of a cluster
TABLES, DEFAULT_TABLE = (1, 2, 4, 8, 16), 4  # clusters of a table
ZERO = 1  # an entry that says "zeros"
LONGEST_NAME = 1023
MOST = 64 << 20  # bytes of room that are given at once
SECTOR = 512


class Header(Structure, order="<"):
    """Fields are named as in the specification."""

    magic: bytes = at("4s", MAGIC)
    cluster_size: int = at("I")
    table_size: int = at("I")
    header_size: int = at("I", 1)
    features: int = at("Q")
    compat_features: int = at("Q")
    autoclear_features: int = at("Q")
    l1_table_offset: int = at("Q")
    image_size: int = at("Q")
    backing_filename_offset: int = at("I")
    backing_filename_size: int = at("I")


def largest(cluster: int, table: int) -> int:
    """Bytes of the largest disk that such tables reach."""
    return (cluster * table // 8) ** 2 * cluster


class Qed(Writable):
    """QED images."""

    name = "qed"
    suffixes = (".qed",)
    CREATE = (
        Option("backing_file", str, None, "File name of a base image"),
        Option("backing_fmt", str, None, "Image format of the base image"),
        Option("cluster_size", "size", DEFAULT, "Cluster size (in bytes)"),
        Option("table_size", "size", None, "L1/L2 table size (in clusters)"),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head.startswith(MAGIC) else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        cluster, table = options["cluster_size"], options["table_size"] or DEFAULT_TABLE
        size += -size % SECTOR
        name = file.filename
        if not SMALLEST <= cluster <= LARGEST or cluster & (cluster - 1):
            raise UserError(f"{name}: QED cluster size must be within range [{SMALLEST}, {LARGEST}] and power of 2")
        if table not in TABLES:
            raise UserError(f"{name}: QED table size must be within range [1, 16] and power of 2")
        if size > largest(cluster, table):
            most = largest(cluster, table)
            raise UserError(f"{name}: QED image size must be a non-zero multiple of cluster size and less than {most} bytes")
        header = Header(cluster_size=cluster, table_size=table, l1_table_offset=cluster, image_size=size)
        file.resize(cluster + table * cluster)
        file.write(0, _with_backing(header, name, options["backing_file"], options["backing_fmt"]))

    def open(self) -> None:
        header = self.header = Header.unpack(self.file.read(0, Header.SIZE))
        self._believe(header)
        self.size, self.cluster = header.image_size, header.cluster_size
        self.entries = self.cluster * header.table_size // 8
        self.reach = self.entries * self.cluster  # bytes of the disk under one L2 table
        if header.features & BACKING_FILE:
            at, length = header.backing_filename_offset, header.backing_filename_size
            if at + length > self.cluster * header.header_size or length > LONGEST_NAME:
                raise ImageError(f"{self.filename}: the backing file's name does not lie in the header")
            self.backing_file = self.file.read(at, length).decode("utf-8", "surrogateescape")
            self.backing_format = "raw" if header.features & NO_PROBE else None
        self.l1, self.l2 = Pages(self.file, PAGE, CACHED), Pages(self.file, PAGE, CACHED)
        self.dirty = bool(header.features & NEED_CHECK)
        if self.writable and header.autoclear_features:
            header.autoclear_features = 0
            self._write_header()

    def _believe(self, header: Header) -> None:
        """Raise ImageError for a header that cannot be."""
        wrong = ""
        cluster = header.cluster_size
        if header.magic != MAGIC:
            wrong = "Image not in QED format"
        elif header.features & ~KNOWN:
            wrong = f"Unsupported QED features: {header.features & ~KNOWN:x}"
        elif not SMALLEST <= cluster <= LARGEST or cluster & (cluster - 1):
            wrong = f"the cluster size {cluster} is no power of two from {SMALLEST} to {LARGEST}"
        elif header.table_size not in TABLES:
            wrong = f"the table size {header.table_size} is no power of two from 1 to 16"
        elif header.image_size > largest(cluster, header.table_size) or header.image_size % SECTOR:
            wrong = f"the size {header.image_size} is not whole sectors, or more than the tables reach"
        elif header.header_size < 1 or header.header_size > (1 << 31) // cluster:
            wrong = f"a header of {header.header_size} clusters"
        elif header.l1_table_offset % cluster or not self._table_lies(header, header.l1_table_offset):
            wrong = f"the L1 table at {header.l1_table_offset:#x} is unaligned or outside the file"
        if wrong:
            raise ImageError(f"{self.filename}: {wrong}")

    def _table_lies(self, header: Header, offset: int) -> bool:
        """Whether a table at `offset` would lie behind the header and inside the file."""
        first = header.header_size * header.cluster_size
        return offset % header.cluster_size == 0 and first <= offset <= self.file.size - header.table_size * header.cluster_size

    def _write_header(self) -> None:
        self.file.write(0, self.header.pack())
        self.file.flush()

    def _entry(self, pages: Pages, table: int, index: int) -> tuple[bytearray, int, int]:
        """The page that holds an entry, the entry's place in it, and the page's own place."""
        page, inside = divmod(index * 8, PAGE)
        return pages.page(table + page * PAGE), inside, table + page * PAGE

    def _table(self, offset: int) -> int:
        """Where the L2 table for a byte of the disk lies, 0 for nowhere. Raises ImageError where that cannot be."""
        page, inside, _ = self._entry(self.l1, self.header.l1_table_offset, offset // self.reach)
        table = int.from_bytes(page[inside : inside + 8], "little")
        if table and not self._table_lies(self.header, table):
            raise ImageError(f"{self.filename}: L1 entry {offset // self.reach} points to {table:#x}, where no table can be")
        return table

    def lookup(self, offset: int, length: int) -> Extent:
        length = min(length, self.reach - offset % self.reach)
        table = self._table(offset)
        if not table:
            return Extent(Kind.ABSENT, length)
        first, inside = divmod(offset % self.reach, self.cluster)
        page, at, _ = self._entry(self.l2, table, first)
        count = min(-(-(inside + length) // self.cluster), (PAGE - at) // 8)
        values = struct.unpack_from(f"<{count}Q", page, at)
        value = expected = values[0]
        step = self.cluster if value > ZERO else 0
        run = 0
        for each in values:
            if each != expected:
                break
            run, expected = run + 1, expected + step
        length = min(length, run * self.cluster - inside)
        if not step:
            return Extent(Kind.ZERO if value == ZERO else Kind.ABSENT, length)
        if value % self.cluster or value < self.cluster * self.header.header_size or value + (run - 1) * self.cluster >= self.file.size:
            raise ImageError(f"{self.filename}: the cluster at byte {offset - inside} of the disk points to {value:#x}, outside the image")
        return Extent(Kind.DATA, length, value + inside, self.file)

    def _grow(self, length: int) -> int:
        """New clusters at the end of the file, all zeros."""
        end = self.file.size
        end += -end % self.cluster
        self.file.resize(end + length)
        return end

    def place(self, offset: int, length: int) -> Room:
        if self.dirty:
            self._settle()
        length = min(length, self.reach - offset % self.reach, max(MOST, self.cluster))
        return Room(self._grow(length), length, True, self.file)

    def link(self, offset: int, room: Room) -> None:
        self._set(offset, room.host, self.cluster, room.length // self.cluster)

    def _set(self, offset: int, first: int, step: int, count: int) -> None:
        """Entries from the disk's byte `offset` on, under one L2 table, which is made where there is none."""
        table = self._table(offset)
        if not table:
            table = self._grow(self.entries * 8)
            page, inside, place = self._entry(self.l1, self.header.l1_table_offset, offset // self.reach)
            page[inside : inside + 8] = table.to_bytes(8, "little")
            self.l1.dirty(place)
            self.l1.after(self.l2)
        index = offset % self.reach // self.cluster
        self.l2.after_data()
        self.l1.after_data()
        while count:
            page, inside, place = self._entry(self.l2, table, index)
            part = min(count, (PAGE - inside) // 8)
            struct.pack_into(f"<{part}Q", page, inside, *[first + each * step for each in range(part)])
            self.l2.dirty(place)
            index, count, first = index + part, count - part, first + part * step

    def erase(self, offset: int, length: int, unmap: bool) -> bool:
        """Clusters that are there keep their room; in front of a backing image an entry says "zeros"."""
        for extent in list(self.extents(offset, length)):
            if extent.kind is Kind.DATA:
                assert extent.host is not None
                self.file.zero(extent.host, extent.length, unmap)
            elif extent.kind is Kind.ABSENT and self.backing is not None:
                self._set(offset, ZERO, 0, -(-extent.length // self.cluster))
            offset += extent.length
        return True

    def flush(self) -> None:
        with self.lock:
            self.l2.write()
            self.l1.write()
        self.file.flush()

    def resize(self, size: int, preallocation: str = "off") -> None:
        if preallocation != "off":
            raise Unsupported(f"Unsupported preallocation mode '{preallocation}'")
        if size < self.size:
            raise Unsupported("Shrinking images is currently not supported")
        if size % SECTOR or size > largest(self.cluster, self.header.table_size):
            raise UserError("Invalid image size specified")
        with self.lock:
            self.header.image_size = self.size = size
            self._write_header()

    def set_backing(self, file: str | None, format: str | None) -> None:
        with self.lock:
            self.header.features &= ~(BACKING_FILE | NO_PROBE)
            self.file.write(0, _with_backing(self.header, self.filename, file, format))
            self.file.flush()
            self.backing_file, self.backing_format = file, "raw" if format == "raw" else None

    def _settle(self) -> None:
        """An image that needs a check gets it before the first change that could make things worse. Raises ImageError."""
        found = self.check(False, True)
        if found.corruptions > found.corruptions_fixed:
            raise ImageError(f"{self.filename}: the image was not closed and is damaged: run check -r all")

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """Every cluster has one use, and lies in the file. Clusters without one are leaks, which stay (as with QEMU)."""
        found = Found(total=-(-self.size // self.cluster), allocated=0, fragmented=0)
        used, size = Seen(), self.file.size
        clusters, table_size = -(-size // self.cluster), self.header.table_size
        with self.lock:
            for cluster in (*range(self.header.header_size), *self._span(self.header.l1_table_offset, table_size)):
                used.add(cluster)
            for index in range(-(-self.size // self.reach)):
                page, inside, place = self._entry(self.l1, self.header.l1_table_offset, index)
                table = int.from_bytes(page[inside : inside + 8], "little")
                if not table:
                    continue
                fine = self._table_lies(self.header, table) and sum(map(used.add, self._span(table, table_size))) == table_size
                if not fine:
                    found.corruptions += 1
                    found.messages.append(f"ERROR L1 entry {index} points to {table:#x}, which is no place for a table or used twice")
                    if fix_errors:
                        page[inside : inside + 8] = bytes(8)
                        self.l1.dirty(place)
                        found.corruptions_fixed += 1
                    continue
                self._check_table(found, used, table, index, size, fix_errors)
            found.leaks = max(clusters - used.count, 0)
            if fix_errors:
                self.flush()
                if self.dirty and found.corruptions == found.corruptions_fixed:
                    self.dirty = False
                    self.header.features &= ~NEED_CHECK
                    self._write_header()
        return found

    def _span(self, offset: int, clusters: int) -> range:
        return range(offset // self.cluster, offset // self.cluster + clusters)

    def _check_table(self, found: Found, used: Seen, table: int, index: int, size: int, fix: bool) -> None:
        """The entries of one L2 table."""
        first = self.cluster * self.header.header_size
        last = 0
        for start in range(table, table + self.entries * 8, PAGE):
            page = self.l2.page(start)
            for entry, value in enumerate(struct.unpack(f"<{PAGE // 8}Q", page)):
                if value <= ZERO:
                    continue
                found.allocated = (found.allocated or 0) + 1
                found.fragmented = (found.fragmented or 0) + (0 < last != value - self.cluster)
                last = value
                if value % self.cluster == 0 and first <= value < size and used.add(value // self.cluster):
                    continue
                found.corruptions += 1
                where = (index * self.entries + (start - table) // 8 + entry) * self.cluster
                found.messages.append(f"ERROR cluster at {where:#x} of the disk points to {value:#x}, outside the image or used twice")
                if fix:
                    struct.pack_into("<Q", page, entry * 8, 0)
                    self.l2.dirty(start)
                    found.corruptions_fixed += 1


def _with_backing(header: Header, filename: str, file: str | None, format: str | None) -> bytes:
    """The header, and behind it the backing file's name. Raises UserError for a name that is too long."""
    name = (file or "").encode("utf-8", "surrogateescape")
    if len(name) > LONGEST_NAME:
        raise UserError(f"{filename}: the backing file's name has {len(name)} bytes, {LONGEST_NAME} are the most")
    if name:
        header.features |= BACKING_FILE | (NO_PROBE if format == "raw" else 0)
    header.backing_filename_offset, header.backing_filename_size = (Header.SIZE, len(name)) if name else (0, 0)
    return header.pack() + name
