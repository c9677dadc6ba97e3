"""vhdx: the format itself, from the parts in this folder."""

from __future__ import annotations

from exuvia.disk.blocks import Blocks, Seen
from exuvia.disk.clusters import Room
from exuvia.disk.format import Found, Opener
from exuvia.disk.formats.vhdx import metadata
from exuvia.disk.formats.vhdx.create import create
from exuvia.disk.formats.vhdx.header import BAT, IDENTIFIER, METADATA, MIB, Headers
from exuvia.disk.formats.vhdx.log import Log
from exuvia.disk.formats.vhdx.table import (
    BITMAP_PRESENT,
    FULLY_PRESENT,
    NOT_PRESENT,
    PARTIALLY_PRESENT,
    STATE,
    UNDEFINED,
    UNMAPPED,
    UNMAPPED_095,
    ZERO,
    ChunkTable,
    entries_for,
)
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid
    from typing import Any
else:
    uuid = Later("uuid")

BITS_KEPT = 1024  # blocks whose sector bitmaps are kept


class Vhdx(Blocks):
    """VHDX images: fixed and dynamic ones are written too, differencing ones read."""

    name = "vhdx"
    suffixes = (".vhdx", ".avhdx")
    CREATE = (
        Option("size", "size", None, "Virtual disk size; max of 64TB."),
        Option("log_size", "size", MIB, "Log size; min 1MB."),
        Option("block_size", "size", 0, "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size."),
        Option("subformat", str, None, "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'."),
        Option(
            "block_state_zero",
            bool,
            None,
            "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when using 'qemu-img convert' "
            "with subformat=dynamic.",
        ),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head.startswith(IDENTIFIER) else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        create(file, size, options)

    def open(self) -> None:
        self.headers = Headers(self.file)
        self.log = Log(self.file, self.headers)
        pending = self.log.pending()
        self.replayed = bool(pending)
        if pending and not self.writable:
            raise ImageError(
                f"VHDX image file '{self.filename}' opened read-only, but contains a log that needs to be replayed. "
                f"To replay the log, run: exuvia-img check -r all '{self.filename}'"
            )
        if pending:
            self.log.replay(pending)
            self.headers = self.log.headers = Headers(self.file)
        regions = self.headers.regions()
        said = metadata.read(self.file, regions[METADATA])
        self.size, self.cluster, self.step = said.disk_size, said.block_size, said.block_size
        self.sector, self.whole, self.backing_file = said.sector, said.fixed, said.parent
        if said.parent is not None:
            self.backing_format = "vhdx"
            if self.writable:
                raise Unsupported(f"{self.filename}: differencing VHDX images can only be read")
        blocks, ratio = -(-self.size // self.cluster), (1 << 23) * self.sector // self.cluster
        if entries_for(blocks, ratio, said.parent is not None) * 8 > regions[BAT].length:
            raise ImageError(f"{self.filename}: the block table is too small for a disk of {self.size} bytes")
        self.table = ChunkTable(self.file, regions[BAT].offset, blocks, ratio, self.log)
        self.fixed_parts = [(0, MIB), (self.log.offset, self.log.offset + self.log.length)]
        self.fixed_parts += [(each.offset, each.offset + each.length) for each in regions.values()]
        self.bits: dict[int, str] = {}
        self.changed = False
        self.end = max(end for _, end in self.fixed_parts)

    def meaning(self, entry: int) -> tuple[Kind, int | None]:
        state = entry & STATE
        if state in (FULLY_PRESENT, PARTIALLY_PRESENT):
            host = entry >> 20 << 20
            if host < MIB or host > self.file.size or (state == PARTIALLY_PRESENT and self.backing_file is None):
                raise ImageError(f"{self.filename}: the block table has {entry:#x}, which points out of the file or to a parent's block")
            return Kind.DATA, host
        if state == NOT_PRESENT and self.backing_file is not None:
            return Kind.ABSENT, None
        if state in (NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, UNMAPPED_095):
            return Kind.ZERO, None
        raise ImageError(f"{self.filename}: the block table has {entry:#x}, whose state {state} is reserved")

    def entry(self, host: int) -> int:
        return host | FULLY_PRESENT

    def lookup(self, offset: int, length: int) -> Extent:
        extent = super().lookup(offset, length)
        if self.backing_file is None or extent.kind is not Kind.DATA:
            return extent
        index, inside = divmod(offset, self.cluster)
        length = min(length, self.cluster - inside)
        if self.table[index] & STATE == FULLY_PRESENT:
            return Extent(Kind.DATA, length, extent.host, self.file)
        bits, first = self._bits(index), inside // self.sector
        mine = bits[first] == "1"
        end = bits.find("0" if mine else "1", first)
        length = min(length, (end if end >= 0 else len(bits)) * self.sector - inside)
        return Extent(Kind.DATA, length, extent.host, self.file) if mine else Extent(Kind.ABSENT, length)

    def _bits(self, index: int) -> str:
        """A partially present block's part of the sector bitmap, the first sector's bit first (2.4: the lowest bit of each byte)."""
        bits = self.bits.get(index)
        if bits is None:
            if len(self.bits) >= BITS_KEPT:
                self.bits.clear()
            entry = self.table.bitmap(index)  # type: ignore[attr-defined]
            if entry & STATE != BITMAP_PRESENT:
                raise ImageError(f"{self.filename}: block {index} is partially present, but has no sector bitmap")
            size = self.cluster // self.sector // 8
            at = (entry >> 20 << 20) + index % self.table.ratio * size  # type: ignore[attr-defined]
            value = int.from_bytes(self.file.read(at, size), "little")
            bits = self.bits[index] = f"{value:0{size * 8}b}"[::-1]
        return bits

    def _begin(self) -> None:
        """Before the first change after opening, the header says that data and file are not what they were (2.2.2)."""
        with self.lock:
            if not self.changed:
                self.changed = True
                self.headers.update(file_write=uuid.uuid4().bytes_le, data_write=uuid.uuid4().bytes_le)

    def writev(self, offset: int, data: Vector) -> None:
        if not self.changed:
            self._begin()
        super().writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        if not self.changed:
            self._begin()
        super().zero(offset, length, unmap)

    def place(self, offset: int, length: int) -> Room:
        """At the end of the file, which is a whole MiB."""
        size = max(self.file.size, self.end)
        self.end = size + -size % MIB
        return super().place(offset, length)

    def finish(self) -> None:
        with self.lock:
            self.flush()
            self.log.close()

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """Whether blocks overlap each other, the tables, or the file's end. Replaying the log, at opening, is the repair."""
        found = Found(corruptions_fixed=int(self.replayed))
        used, size = Seen(), self.file.size
        with self.lock:
            for index, entry in self.table.used(NOT_PRESENT, ZERO):
                if entry & STATE not in (FULLY_PRESENT, PARTIALLY_PRESENT):
                    continue
                first = entry >> 20 << 20
                last = first + self.cluster
                if last > size:
                    what = f"points after end of file ({size}). Image has probably been truncated."
                elif any(first < end and start < last for start, end in self.fixed_parts):
                    what = "lies in a table"
                elif sum(used.add(part) for part in range(first >> 20, last >> 20)) < self.cluster >> 20:
                    what = "overlaps another block"
                else:
                    continue
                found.corruptions += 1
                found.messages.append(f"VHDX BAT entry {index} start offset {first} {what}")
        return found
