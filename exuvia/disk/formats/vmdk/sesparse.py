"""A space-efficient sparse extent (ESXi 6.5 snapshots): 64-bit entries with a type in the highest digit. Read only, as in QEMU."""

import struct

from exuvia.disk.clusters import Clustered
from exuvia.disk.formats.vmdk.descriptor import SECTOR
from exuvia.disk.formats.vmdk.header import MOST_ENTRIES
from exuvia.disk.node import Extent, ImageError, Kind, Node
from exuvia.disk.pages import Pages
from exuvia.disk.structure import Structure, at

MAGIC = 0xCAFEBABE
VERSION = 0x0000000200000001
TABLE = 64 * SECTOR  # bytes of a grain table
ENTRIES = TABLE // 8
ABSENT, UNMAPPED, ZERO, ALLOCATED = range(4)  # types of a table's entries
TABLE_THERE = 0x1000000000000000  # what a directory's entry has above the table's number


class ConstHeader(Structure, order="<"):
    """Offsets and sizes in sectors."""

    magic: int = at("Q", MAGIC)
    version: int = at("Q", VERSION)
    capacity: int = at("Q")
    grain: int = at("Q", 8)
    table: int = at("Q", 64)
    flags: int = at("Q")
    reserved: bytes = at("32s", b"")
    volatile: int = at("Q")
    volatile_size: int = at("Q")
    journal_header: int = at("Q")
    journal_header_size: int = at("Q")
    journal: int = at("Q")
    journal_size: int = at("Q")
    directory: int = at("Q")
    directory_size: int = at("Q")
    tables: int = at("Q")
    tables_size: int = at("Q")
    free_bitmap: int = at("Q")
    free_bitmap_size: int = at("Q")
    backmap: int = at("Q")
    backmap_size: int = at("Q")
    grains: int = at("Q")
    grains_size: int = at("Q")


class SeSparse(Clustered):
    """`size` bytes of `file` from its own offset 0 on."""

    def __init__(self, file: Node, size: int) -> None:
        self.size = size
        super().__init__(file)

    def open(self) -> None:
        header = ConstHeader.unpack(self.file.read(0, SECTOR))
        if header.magic != MAGIC:
            raise ImageError(f"{self.filename}: invalid seSparse header: magic {header.magic:#x}")
        if header.version != VERSION:
            raise ImageError(f"{self.filename}: unsupported seSparse version {header.version:#x}")
        if (header.grain, header.table) != (8, 64):
            raise ImageError(f"{self.filename}: unsupported seSparse grains of {header.grain} sectors, tables of {header.table}")
        if header.flags:
            raise ImageError(f"{self.filename}: unsupported seSparse flags {header.flags:#x}")
        if self.file.read(header.volatile * SECTOR, 8) != (0xCAFECAFE).to_bytes(8, "little"):
            raise ImageError(f"{self.filename}: invalid seSparse volatile header")
        if int.from_bytes(self.file.read(header.volatile * SECTOR + 24, 1), "little"):
            raise ImageError(f"{self.filename}: the seSparse journal must be replayed first, which VMware does")
        self.cluster: int = header.grain * SECTOR
        self.span = self.cluster * ENTRIES
        count = -(-header.capacity * SECTOR // self.span)
        if self.size > header.capacity * SECTOR or count > MOST_ENTRIES or count * 8 > header.directory_size * SECTOR:
            raise ImageError(f"{self.filename}: the seSparse grain directory is too small for the disk, or too large")
        if max(header.directory * SECTOR + count * 8, header.tables * SECTOR, header.grains * SECTOR) > self.file.size:
            raise ImageError(f"{self.filename}: the file is cut off: structures lie past its end ({self.file.size})")
        self.directory = struct.unpack(f"<{count}Q", self.file.read(header.directory * SECTOR, count * 8))
        self.header = header
        self.tables = Pages(self.file, TABLE, 256)

    def lookup(self, offset: int, length: int) -> Extent:
        index, within = divmod(offset, self.cluster)
        table, slot = divmod(index, ENTRIES)
        count = min(-(-(within + length) // self.cluster), ENTRIES - slot)
        entry = self.directory[table]
        if not entry:
            return Extent(Kind.ABSENT, min(length, (ENTRIES - slot) * self.cluster - within))
        place = (self.header.tables + (entry & 0xFFFFFFFF) * 64) * SECTOR
        if entry >> 32 != TABLE_THERE >> 32 or place + TABLE > self.file.size:
            raise ImageError(f"{self.filename}: the seSparse directory's entry {table} is {entry:#x}, which cannot be")
        entries = struct.unpack_from(f"<{count}Q", self.tables.page(place), slot * 8)
        kind, host = self._decode(entries[0])
        run = 1
        while run < count:
            other, there = self._decode(entries[run])
            if other is not kind or (host is not None and there != host + run * self.cluster):
                break
            run += 1
        if host is not None and host + (run - 1) * self.cluster >= self.file.size:
            raise ImageError(f"{self.filename}: a grain of the disk's offset {offset} lies past the file's end")
        return Extent(kind, min(length, run * self.cluster - within), None if host is None else host + within, self.file)

    def _decode(self, entry: int) -> tuple[Kind, int | None]:
        """What an entry says, with the grain's place."""
        kind = entry >> 60
        if kind == ALLOCATED:  # the number's low 12 bits stand above the others
            grain = (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12
            return Kind.DATA, (self.header.grains + grain * self.header.grain) * SECTOR
        if kind in (UNMAPPED, ZERO):
            return Kind.ZERO, None
        if entry:
            raise ImageError(f"{self.filename}: a seSparse grain table's entry is {entry:#x}, which cannot be")
        return Kind.ABSENT, None
