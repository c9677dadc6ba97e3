"""vdi: VirtualBox's disk image (facts of its VDICore.h). A header, a map of 32-bit block numbers, then the blocks.

Images with a parent are refused: VirtualBox finds parents through its registry of UUIDs, not through anything in the file.
"""

from __future__ import annotations

from exuvia.disk.blocks import Blocks, BlockTable, Seen
from exuvia.disk.clusters import Room
from exuvia.disk.format import Found, Opener
from exuvia.disk.node import ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.pages import Pages
from exuvia.disk.structure import Structure, at
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid
    from typing import Any
else:
    uuid = Later("uuid")

SIGNATURE, VERSION = 0xBEDA107F, 0x00010001
DYNAMIC, STATIC = 1, 2
FREE, DISCARDED = 0xFFFFFFFF, 0xFFFFFFFE  # never written; given up, reads as zeros
SECTOR, BLOCK = 512, 1 << 20
MOST_BLOCKS = 0x3FFFFFFF  # QEMU's limit, which keeps every offset below 2**63
TEXT = b"<<< QEMU VM Virtual Disk Image >>>\n"


class Header(Structure, order="<"):
    """VDIPREHEADER and VDIHEADER1PLUS."""

    text: bytes = at("64s", TEXT)
    signature: int = at("I", SIGNATURE)
    version: int = at("I", VERSION)
    header_size: int = at("I", 0x180)
    image_type: int = at("I", DYNAMIC)
    image_flags: int = at("I")
    description: bytes = at("256s", b"")
    offset_blocks: int = at("I", SECTOR)
    offset_data: int = at("I")
    geometry: bytes = at("12s", b"")
    sector_size: int = at("I", SECTOR)
    unused: int = at("I")
    disk_size: int = at("Q")
    block_size: int = at("I", BLOCK)
    block_extra: int = at("I")
    blocks: int = at("I")
    blocks_allocated: int = at("I")
    uuid_image: bytes = at("16s", b"")
    uuid_snapshot: bytes = at("16s", b"")
    uuid_link: bytes = at("16s", b"")
    uuid_parent: bytes = at("16s", b"")
    rest: bytes = at("56s", b"")  # a second geometry, and nothing up to the sector's end


class Vdi(Blocks):
    """VirtualBox Disk Image, version 1.1, dynamic or static."""

    name = "vdi"
    suffixes = (".vdi",)
    CREATE = (Option("static", bool, False, "VDI static (pre-allocated) image"),)

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head[64:68] == SIGNATURE.to_bytes(4, "little") else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        size += -size % SECTOR
        blocks = -(-size // BLOCK)
        if blocks > MOST_BLOCKS:
            raise UserError(f"{file.filename}: Unsupported VDI image size (size is {size:#x}, max supported is {MOST_BLOCKS * BLOCK:#x})")
        table = blocks * 4 + -(blocks * 4) % SECTOR
        static = options["static"]
        header = Header(
            image_type=STATIC if static else DYNAMIC,
            offset_data=SECTOR + table,
            disk_size=size,
            blocks=blocks,
            blocks_allocated=blocks if static else 0,
            uuid_image=uuid.uuid4().bytes_le,
            uuid_snapshot=uuid.uuid4().bytes_le,
        )
        file.write(0, header.pack())
        file.resize(SECTOR + table + (blocks * BLOCK if static else 0))
        for first in range(0, blocks, 1 << 18):
            part = range(first, min(blocks, first + (1 << 18)))
            entries = b"".join(each.to_bytes(4, "little") for each in part) if static else b"\xff" * 4 * len(part)
            file.write(SECTOR + first * 4, entries)

    def open(self) -> None:
        header = self.header = Header.unpack(self.file.read(0, Header.SIZE))
        self._believe(header)
        self.size = header.disk_size + -header.disk_size % SECTOR
        self.cluster, self.step = header.block_size, 1
        self.must_fit("block map", header.offset_blocks, header.blocks * 4)
        self.table = BlockTable(self.file, header.offset_blocks, header.blocks, "<I")
        self.counter = Pages(self.file, SECTOR, 2)
        self.recurse = header.image_type == STATIC
        if self.writable:  # a crash may have left the counter behind, and QEMU puts the next block where it points
            self._count(max(header.blocks_allocated, 1 + self.table.highest(DISCARDED)))

    def _believe(self, header: Header) -> None:
        """Raise ImageError for a header that is not one of ours."""
        wrong = ""
        if header.signature != SIGNATURE:
            wrong = f"Image not in VDI format (bad signature {header.signature:08x})"
        elif header.version != VERSION:
            wrong = f"unsupported VDI image (version {header.version >> 16}.{header.version & 0xFFFF})"
        elif header.offset_blocks % SECTOR or header.offset_blocks < SECTOR:
            wrong = f"unsupported VDI image (unaligned block map offset {header.offset_blocks:#x})"
        elif header.offset_data % SECTOR or header.offset_data < header.offset_blocks + header.blocks * 4:
            wrong = f"unsupported VDI image (data offset {header.offset_data:#x} is unaligned or inside the block map)"
        elif header.sector_size != SECTOR:
            wrong = f"unsupported VDI image (sector size {header.sector_size} is not {SECTOR})"
        elif header.block_size != BLOCK:
            wrong = f"unsupported VDI image (block size {header.block_size} is not {BLOCK})"
        elif header.image_type not in (DYNAMIC, STATIC):
            wrong = f"unsupported VDI image (type {header.image_type} is neither dynamic nor static)"
        elif header.disk_size > header.blocks * BLOCK:
            wrong = f"unsupported VDI image (disk size {header.disk_size}, image bitmap has room for {header.blocks * BLOCK})"
        elif header.blocks > MOST_BLOCKS:
            wrong = f"unsupported VDI image (too many blocks {header.blocks}, max is {MOST_BLOCKS})"
        elif any(header.uuid_link):
            wrong = "unsupported VDI image (non-NULL link UUID)"
        elif any(header.uuid_parent):
            wrong = "unsupported VDI image (non-NULL parent UUID)"
        if wrong:
            raise ImageError(f"{self.filename}: {wrong}")

    def _count(self, blocks: int) -> None:
        """Note in the header that so many blocks have a place."""
        self.end = self.header.offset_data + blocks * BLOCK
        if blocks != self.header.blocks_allocated:
            self.header.blocks_allocated = blocks
            self.counter.fresh(0, self.header.pack())
            self.table.pages.after(self.counter)

    def meaning(self, entry: int) -> tuple[Kind, int | None]:
        """There are no parents, so what was never written is zeros like what was given up."""
        if entry >= DISCARDED:
            return Kind.ZERO, None
        if entry >= self.header.blocks:
            raise ImageError(f"{self.filename}: the block map points to block {entry}, the image has {self.header.blocks}")
        return Kind.DATA, self.header.offset_data + entry * BLOCK

    def entry(self, host: int) -> int:
        entry = (host - self.header.offset_data) // BLOCK
        if entry >= self.header.blocks:
            raise ImageError(f"{self.filename}: there is no room for another block, {self.header.blocks_allocated} are taken (see check)")
        return entry

    def place(self, offset: int, length: int) -> Room:
        left = self.header.offset_data + self.header.blocks * BLOCK - self.end
        if left <= 0:
            return self._left_behind()
        room = super().place(offset, min(length, left))
        self._count((self.end - self.header.offset_data) // BLOCK)
        return room

    def _left_behind(self) -> Room:
        """A number that no block has: a crash left it counted and unused."""
        used = Seen()
        for _, entry in self.table.used(FREE, DISCARDED):
            used.add(entry)
        number = next((each for each in range(self.header.blocks) if used.add(each)), self.header.blocks)
        host = self.header.offset_data + number * BLOCK
        self.entry(host)  # says so where there is none
        if self.file.size < host + BLOCK:
            self.file.resize(host + BLOCK)
        return Room(host, BLOCK, False, self.file)

    def unplace(self, offset: int, room: Room) -> None:
        """The next block takes that place, so that errors do not use up the numbers that blocks can have."""
        if room.host + room.length == self.end:
            self._count((room.host - self.header.offset_data) // BLOCK)

    def flush(self) -> None:
        with self.lock:
            self.table.pages.write()
            self.counter.write()
        self.file.flush()

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """A counter that is too high is room that leaks; one that is too low would make the next block overwrite another."""
        if fix_leaks or fix_errors:
            raise Unsupported("This image format does not support checks")
        found = Found()
        used = Seen()
        allocated = 0
        with self.lock:
            for index, entry in self.table.used(FREE, DISCARDED):
                if entry >= self.header.blocks:
                    found.corruptions += 1
                    found.messages.append(f"ERROR: block index {index} too large, is {entry}")
                    continue
                allocated += 1
                if not used.add(entry):
                    found.corruptions += 1
                    found.messages.append(f"ERROR: block index {entry} also used by {entry}")
        if allocated != self.header.blocks_allocated:
            found.messages.append(f"ERROR: allocated blocks mismatch, is {allocated}, should be {self.header.blocks_allocated}")
            if used.highest < self.header.blocks_allocated and allocated < self.header.blocks_allocated:
                found.leaks += self.header.blocks_allocated - allocated
            else:
                found.corruptions += 1
        return found
