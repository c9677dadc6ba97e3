"""vpc: Microsoft's Virtual Hard Disk (Virtual Hard Disk Image Format Specification, 1.0): fixed, dynamic, differencing for reading.

Data is followed by a footer. Dynamic images begin with a copy of it, then a header and a table of blocks; each block begins with a
bitmap of its sectors, which says in a differencing image which of them are not the parent's.
"""

from __future__ import annotations

import time

from exuvia.disk.blocks import Blocks, BlockTable
from exuvia.disk.clusters import Room
from exuvia.disk.format import Opener
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.structure import Structure, at
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid
    from typing import Any
else:
    uuid = Later("uuid")

COOKIE, DYNAMIC_COOKIE = b"conectix", b"cxsparse"
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
NONE, NOWHERE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
SECTOR, BLOCK = 512, 2 << 20
MOST_SECTORS = 0xFF000000  # 2040 GiB, the specification's limit
CYLINDERS, HEADS, TRACK = 65535, 16, 255  # the largest geometry; with it, and from creators that never round, the size field counts
EXACT = (b"qem2", b"win ", b"d2v ", b"tap\0", b"CTXS")
YEAR_2000 = 946684800
RELATIVE, ABSOLUTE = b"W2ru", b"W2ku"  # parent locators, UTF-16


class Footer(Structure, order=">"):
    """Hard disk footer."""

    cookie: bytes = at("8s", COOKIE)
    features: int = at("I", 2)
    version: int = at("I", 0x10000)
    data_offset: int = at("Q", NOWHERE)
    timestamp: int = at("I")
    creator: bytes = at("4s", b"qemu")
    creator_version: int = at("I", 0x50003)
    creator_host: bytes = at("4s", b"Wi2k")
    original_size: int = at("Q")
    current_size: int = at("Q")
    cylinders: int = at("H")
    heads: int = at("B")
    track: int = at("B")
    kind: int = at("I", FIXED)
    checksum: int = at("I")
    unique_id: bytes = at("16s", b"")
    saved_state: int = at("B")
    reserved: bytes = at("427s", b"")


class DynamicHeader(Structure, order=">"):
    """Dynamic disk header; `locators` are 8 of `Locator`."""

    cookie: bytes = at("8s", DYNAMIC_COOKIE)
    data_offset: int = at("Q", NOWHERE)
    table_offset: int = at("Q")
    version: int = at("I", 0x10000)
    entries: int = at("I")
    block_size: int = at("I", BLOCK)
    checksum: int = at("I")
    parent_id: bytes = at("16s", b"")
    parent_time: int = at("I")
    reserved: int = at("I")
    parent_name: bytes = at("512s", b"")
    locators: bytes = at("192s", b"")
    rest: bytes = at("256s", b"")


class Locator(Structure, order=">"):
    """Parent locator entry."""

    platform: bytes = at("4s")
    space: int = at("I")
    length: int = at("I")
    reserved: int = at("I")
    offset: int = at("Q")


def signed(structure: Footer | DynamicHeader) -> bytes:
    """Its bytes with the checksum, the complement of the sum of all other bytes."""
    structure.checksum = 0
    structure.checksum = ~sum(structure.pack()) & 0xFFFFFFFF
    return structure.pack()


def intact(structure: Footer | DynamicHeader) -> bool:
    """Whether the checksum is right."""
    return ~(sum(structure.pack()) - sum(structure.checksum.to_bytes(4, "big"))) & 0xFFFFFFFF == structure.checksum


def geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors of a track: the specification's "CHS Calculation", which may cover less than `sectors`."""
    sectors = min(sectors, CYLINDERS * HEADS * TRACK)
    if sectors >= 65535 * 16 * 63:
        return sectors // TRACK // HEADS, HEADS, TRACK
    track = 17
    tracks = sectors // track
    heads = max((tracks + 1023) // 1024, 4)
    if tracks >= heads * 1024 or heads > 16:
        track, heads = 31, 16
        tracks = sectors // track
    if tracks >= heads * 1024:
        track, heads = 63, 16
        tracks = sectors // track
    return tracks // heads, heads, track


def covering(sectors: int) -> tuple[int, int, int]:
    """The smallest such geometry that has at least `sectors`; the largest there is when none has."""
    wanted = sectors
    while True:
        cylinders, heads, track = geometry(wanted)
        if cylinders * heads * track >= min(sectors, CYLINDERS * HEADS * TRACK):
            return cylinders, heads, track
        wanted += 1


class Vpc(Blocks):
    """VHD images."""

    name = "vpc"
    suffixes = (".vhd", ".vpc")
    OPTIONS = (
        Option("force_size_calc", ("auto", "chs", "current_size"), None, "whether the geometry or the size field tells the disk's size"),
    )
    CREATE = (
        Option("subformat", str, None, "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} "),
        Option(
            "force_size",
            bool,
            None,
            "Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based calculation",
        ),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        """Fixed images begin with the disk's content, so they are recognized only by being told."""
        return 100 if head.startswith(COOKIE) else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        subformat = options["subformat"] or "dynamic"
        if subformat not in ("dynamic", "fixed"):
            raise UserError(f"{file.filename}: Invalid subformat '{subformat}' (write dynamic or fixed)")
        sectors = -(-size // SECTOR)
        if options["force_size"]:
            cylinders, heads, track = CYLINDERS, HEADS, TRACK
        else:
            cylinders, heads, track = covering(sectors)
            if (cylinders, heads, track) != (CYLINDERS, HEADS, TRACK):
                sectors = cylinders * heads * track
        if sectors > MOST_SECTORS:
            raise UserError(f"{file.filename}: The image size is too large for file format 'vpc' (2040 GiB at most)")
        footer = Footer(
            timestamp=int(time.time()) - YEAR_2000 & 0xFFFFFFFF,
            creator=b"qem2" if options["force_size"] else b"qemu",
            original_size=sectors * SECTOR,
            current_size=sectors * SECTOR,
            cylinders=cylinders,
            heads=heads,
            track=track,
            unique_id=uuid.uuid4().bytes,
        )
        if subformat == "fixed":
            file.resize(sectors * SECTOR)
            file.write(sectors * SECTOR, signed(footer))
            return
        footer.kind, footer.data_offset = DYNAMIC, Footer.SIZE
        entries = -(-sectors * SECTOR // BLOCK)
        table = Footer.SIZE + DynamicHeader.SIZE
        file.write(0, signed(footer) + signed(DynamicHeader(table_offset=table, entries=entries)))
        room = entries * 4 + -(entries * 4) % SECTOR
        file.write(table, b"\xff" * room)
        file.write(table + room, footer.pack())

    def open(self) -> None:
        self.footer = self._find_footer()
        self.fixed = self.whole = self.footer.kind == FIXED
        self.differing = self.footer.kind == DIFFERENCING
        if self.footer.kind not in (FIXED, DYNAMIC, DIFFERENCING):
            raise ImageError(f"{self.filename}: disk type {self.footer.kind} is none of fixed, dynamic and differencing")
        self.size = self._disk_size()
        if self.size > MOST_SECTORS * SECTOR:
            raise ImageError(f"{self.filename}: the disk has {self.size} bytes, 2040 GiB are the most")
        if self.fixed:
            self.cluster = SECTOR
            return
        self._open_dynamic(self.footer.data_offset)
        if self.differing:
            if self.writable:
                raise Unsupported(f"{self.filename}: differencing VHD images can only be read")
            self.backing_file, self.backing_format = self._parent(), "vpc"

    def _find_footer(self) -> Footer:
        """The copy at the beginning, the footer itself where there is none or it is damaged. Raises ImageError."""
        found = [Footer.unpack(self.file.read(offset, Footer.SIZE)) for offset in (0, self.file.size - Footer.SIZE) if offset >= 0]
        found = [each for each in found if each.cookie == COOKIE]
        if not found:
            raise ImageError(f"{self.filename}: invalid VPC image (neither begins nor ends with a footer)")
        for each in found:
            if intact(each):
                return each
        raise ImageError(f"{self.filename}: Incorrect header checksum")

    def _disk_size(self) -> int:
        footer, how = self.footer, self.options.get("force_size_calc") or "auto"
        largest = (footer.cylinders, footer.heads, footer.track) == (CYLINDERS, HEADS, TRACK)
        if how == "current_size" or (how == "auto" and (footer.creator in EXACT or largest)):
            return footer.current_size - footer.current_size % SECTOR
        return footer.cylinders * footer.heads * footer.track * SECTOR

    def _open_dynamic(self, offset: int) -> None:
        self.must_fit("dynamic disk header", offset, DynamicHeader.SIZE)
        header = self.header = DynamicHeader.unpack(self.file.read(offset, DynamicHeader.SIZE))
        if header.cookie != DYNAMIC_COOKIE:
            raise ImageError(f"{self.filename}: Invalid header magic")
        if not intact(header):
            raise ImageError(f"{self.filename}: Incorrect dynamic header checksum")
        if header.block_size < SECTOR or header.block_size & (header.block_size - 1):
            raise ImageError(f"{self.filename}: Invalid block size {header.block_size}")
        if header.entries * header.block_size < self.size:
            raise ImageError(f"{self.filename}: Page table too small")
        self.must_fit("block allocation table", header.table_offset, header.entries * 4)
        self.cluster, self.step = header.block_size, None
        bits = self.cluster // SECTOR // 8
        self.bitmap = bits + -bits % SECTOR or SECTOR
        self.table = BlockTable(self.file, header.table_offset, header.entries, ">I")
        self.full: set[int] = set()  # blocks whose bitmap is known to have no gap
        self.gaps: dict[int, str] = {}  # of a differencing image: bitmaps as strings of 0 and 1
        if self.writable:
            behind = header.table_offset + header.entries * 4
            highest = self.table.highest(NONE)
            self.end = max(behind + -behind % SECTOR, (highest * SECTOR + self.bitmap + self.cluster) if highest >= 0 else 0)

    def _parent(self) -> str:
        """The parent's name: relative where a locator says so. Raises ImageError where there is none."""
        names = {}
        for first in range(0, 8 * Locator.SIZE, Locator.SIZE):
            locator = Locator.unpack(self.header.locators, first)
            if locator.platform in (RELATIVE, ABSOLUTE) and 0 < locator.length <= 4096:
                names[locator.platform] = self.file.read(locator.offset, locator.length).decode("utf-16-le", "replace")
        name = names.get(RELATIVE) or names.get(ABSOLUTE) or self.header.parent_name.decode("utf-16-be", "replace").split("\0")[0]
        name = name.rstrip("\0").replace("\\", "/").removeprefix("./")
        if not name or "\0" in name:
            raise ImageError(f"{self.filename}: a differencing image that does not name its parent")
        return name

    def meaning(self, entry: int) -> tuple[Kind, int | None]:
        """A table cannot say "zeros": a block that is not there is the parent's, or zeros where no parent can be."""
        if entry == NONE:
            return Kind.ABSENT if self.differing else Kind.ZERO, None
        return Kind.DATA, entry * SECTOR + self.bitmap

    def entry(self, host: int) -> int:
        return (host - self.bitmap) // SECTOR

    def lookup(self, offset: int, length: int) -> Extent:
        if self.fixed:
            return Extent(Kind.DATA, length, offset, self.file)
        extent = super().lookup(offset, length)
        if not self.differing or extent.kind is not Kind.DATA:
            return extent
        assert extent.host is not None
        inside = offset % self.cluster
        bits = self._bits(extent.host - inside - self.bitmap)
        first = inside // SECTOR
        mine = bits[first] == "1"
        end = bits.find("0" if mine else "1", first)
        length = min(extent.length, (end if end >= 0 else self.cluster // SECTOR) * SECTOR - inside)
        return Extent(Kind.DATA, length, extent.host, self.file) if mine else Extent(Kind.ABSENT, length)

    def _bits(self, at: int) -> str:
        """A block's bitmap, the first sector's bit first."""
        bits = self.gaps.get(at)
        if bits is None:
            if len(self.gaps) >= 1024:
                self.gaps.clear()
            sectors = self.cluster // SECTOR
            value = int.from_bytes(self.file.read(at, self.bitmap), "big")
            bits = self.gaps[at] = f"{value:0{self.bitmap * 8}b}"[:sectors]
        return bits

    def writev(self, offset: int, data: Vector) -> None:
        """Where another program left gaps in a block's bitmap, they are closed before the block is written."""
        if not self.fixed and data.length:
            for index in range(offset // self.cluster, (offset + data.length - 1) // self.cluster + 1):
                if index not in self.full:
                    self._close_gaps(index)
        super().writev(offset, data)

    def _close_gaps(self, index: int) -> None:
        ones = b"\xff" * self.bitmap
        with self.lock:
            entry = self.table[index]
            if entry != NONE:
                if self.file.read(entry * SECTOR, self.bitmap) != ones:
                    self.file.write(entry * SECTOR, ones)
                self.full.add(index)

    def place(self, offset: int, length: int) -> Room:
        """One block: its bitmap, its room, and the footer behind it. Cutting the file off first makes all that zeros."""
        start, host = self.end, self.end + self.bitmap
        if host // SECTOR >= NONE:
            raise ImageError(f"{self.filename}: the image has grown to 2 TiB, where block numbers end")
        behind = host + self.cluster
        if self.file.size > start:
            self.file.resize(start)
        self.file.resize(behind + Footer.SIZE)
        self.file.write(start, b"\xff" * self.bitmap)
        self.file.write(behind, self.footer.pack())
        self.end = behind
        return Room(host, self.cluster, True, self.file)

    def flush(self) -> None:
        if self.fixed:
            self.file.flush()
        else:
            super().flush()
