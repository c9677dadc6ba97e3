"""parallels: the Parallels Expandable Image (QEMU's docs/interop/parallels): a header, the table of clusters (BAT), then clusters."""

from __future__ import annotations

from exuvia.disk.blocks import Blocks, BlockTable, Seen
from exuvia.disk.clusters import Room
from exuvia.disk.format import Found, Opener
from exuvia.disk.node import ImageError, Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.structure import Structure, at
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OLD, EXTENDED = b"WithoutFreeSpace", b"WithouFreSpacExt"  # entries count sectors; clusters
SECTOR, CLUSTER = 512, 1 << 20
IN_USE = 0x746F6E59
EMPTY = 1  # flag: forget what the table says
HEADS, TRACK = 16, 32  # geometry of new images
MOST_ENTRIES = (1 << 31) // 4
LARGEST_CLUSTER = (1 << 31) // 513 * 512  # QEMU's
EXTENSION, NECESSARY = 0xAB234CEF23DCEA87, 1


class Header(Structure, order="<"):
    """Fields are named as in the specification."""

    magic: bytes = at("16s", EXTENDED)
    version: int = at("I", 2)
    heads: int = at("I", HEADS)
    cylinders: int = at("I")
    tracks: int = at("I")
    nb_bat_entries: int = at("I")
    nb_sectors: int = at("Q")
    in_use: int = at("I")
    data_off: int = at("I")
    flags: int = at("I")
    ext_off: int = at("Q")


class Parallels(Blocks):
    """Expandable images of both kinds."""

    name = "parallels"
    suffixes = (".hdd", ".hds", ".parallels")
    dirty = None
    supports_backing = True
    CREATE = (Option("cluster_size", "size", CLUSTER, "Parallels image cluster size"),)

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head[:16] in (OLD, EXTENDED) and head[16:20] == b"\2\0\0\0" else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        cluster = max(options["cluster_size"], 1)
        cluster += -cluster % SECTOR
        if cluster > LARGEST_CLUSTER:
            raise UserError(f"{file.filename}: Cluster size is too large ({LARGEST_CLUSTER} bytes at most)")
        sectors = -(-size // SECTOR)
        entries = -(-size // cluster)
        if entries > MOST_ENTRIES:
            raise UserError(f"{file.filename}: Image size is too large for this cluster size")
        data = -(-(Header.SIZE + entries * 4) // cluster) * cluster
        header = Header(
            cylinders=min(sectors // (HEADS * TRACK), 0xFFFFFFFF),
            tracks=cluster // SECTOR,
            nb_bat_entries=entries,
            nb_sectors=sectors,
            data_off=data // SECTOR,
        )
        file.write(0, header.pack())
        file.resize(data)

    def open(self) -> None:
        header = self.header = Header.unpack(self.file.read(0, Header.SIZE))
        if header.magic not in (OLD, EXTENDED) or header.version != 2:
            raise ImageError(f"{self.filename}: Image not in Parallels format")
        if not 0 < header.tracks * SECTOR <= LARGEST_CLUSTER:
            raise ImageError(f"{self.filename}: Invalid image: clusters of {header.tracks} sectors")
        if header.nb_bat_entries > MOST_ENTRIES:
            raise ImageError(f"{self.filename}: Catalog too large")
        sectors = header.nb_sectors if header.magic == EXTENDED else header.nb_sectors & 0xFFFFFFFF
        self.size, self.cluster = sectors * SECTOR, header.tracks * SECTOR
        if self.size > header.nb_bat_entries * self.cluster:
            raise ImageError(f"{self.filename}: the table has {header.nb_bat_entries} entries, too few for {self.size} bytes")
        self.must_fit("table of clusters", Header.SIZE, header.nb_bat_entries * 4)
        self.scale, self.step = (self.cluster, 1) if header.magic == EXTENDED else (SECTOR, header.tracks)
        self.table = BlockTable(self.file, Header.SIZE, header.nb_bat_entries, "<I")
        behind = Header.SIZE + header.nb_bat_entries * 4
        self.data = header.data_off * SECTOR or behind + -behind % SECTOR
        if self.data < behind:
            raise ImageError(f"{self.filename}: data begins at byte {self.data}, inside the table of clusters")
        self.empty_image = bool(header.flags & EMPTY)
        self.end = self._round(self.file.size)
        self.changed = False
        self.unclean = header.in_use == IN_USE

    def _may_write(self) -> None:
        """Raise ImageError where writing would do harm. An image that was not closed is fine when nothing but that is wrong."""
        if self.unclean:
            wrong = self.check()
            if wrong.corruptions > 1:
                raise ImageError(f"{self.filename}: Image was not closed correctly and is damaged: run check -r all")
        at = self.header.ext_off * SECTOR
        if at:
            section = self.file.read(at + 24, 24)
            while int.from_bytes(section[:8], "little"):
                if section[8] & NECESSARY:
                    raise ImageError(f"{self.filename}: an extension of the image is not known and forbids writing")
                length = int.from_bytes(section[16:20], "little")
                at += 24 + length + -length % 8
                if at > self.header.ext_off * SECTOR + self.cluster:
                    break
                section = self.file.read(at + 24, 24)

    def _round(self, offset: int) -> int:
        """The next place for a cluster from `offset` on."""
        if self.header.magic == EXTENDED:
            offset = max(offset, self.data)
            return offset + -offset % self.cluster
        past = max(offset - self.data, 0)
        return self.data + past + -past % self.cluster

    def meaning(self, entry: int) -> tuple[Kind, int | None]:
        if not entry or self.empty_image:
            return Kind.ABSENT, None
        host = entry * self.scale
        if host < self.data:
            raise ImageError(f"{self.filename}: the table has {entry:#x}, which points to byte {host}, before the data")
        return Kind.DATA, host

    def entry(self, host: int) -> int:
        entry = host // self.scale
        if entry >> 32:
            raise ImageError(f"{self.filename}: the image has grown to where cluster numbers end")
        return entry

    def _begin(self) -> None:
        """Before the first change the header says "in use"; extensions, which know nothing of the change, are dropped."""
        with self.lock:
            if self.changed:
                return
            self._may_write()
            if self.empty_image:
                self.table.set(0, 0, 0, self.table.count)
                self.table.pages.write()
                self.file.flush()
                self.empty_image = False
            self.header.in_use, self.header.ext_off, self.header.flags = IN_USE, 0, self.header.flags & ~EMPTY
            self.file.write(0, self.header.pack())
            self.file.flush()
            self.changed = True

    def writev(self, offset: int, data: Vector) -> None:
        if not self.changed:
            self._begin()
        super().writev(offset, data)

    def place(self, offset: int, length: int) -> Room:
        self.end = max(self.end, self._round(self.file.size))
        return super().place(offset, length)

    def finish(self) -> None:
        self.flush()
        if self.changed:
            self.header.in_use = 0
            self.file.write(0, self.header.pack())
            self.file.flush()

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """The header's mark, clusters outside the file or used twice, and room at the end that nothing uses."""
        found = Found(total=self.header.nb_bat_entries, allocated=0, fragmented=0, compressed=0)
        size, highest, used = self.file.size, self.data, Seen()
        with self.lock:
            if self.unclean:
                found.corruptions += 1
                found.messages.append(f"{'Repairing' if fix_errors else 'ERROR'} image was not closed correctly")
                if fix_errors:
                    self.unclean, self.changed, self.header.in_use = False, False, 0
                    self.file.write(0, self.header.pack())
                    found.corruptions_fixed += 1
            before, neighbour = 0, -1
            for index, entry in self.table.used(0):
                host = 0 if self.empty_image else entry * self.scale
                wrong = ""
                if host and host >= size or 0 < host < self.data:
                    wrong = f"cluster {index} is outside image"
                elif host and not used.add((host - self.data) // self.cluster):
                    wrong = f"cluster {index} is used twice"
                if wrong:
                    found.corruptions += 1
                    found.messages.append(f"{'Repairing' if fix_errors else 'ERROR'} {wrong}")
                    if fix_errors:
                        self.table.set(index, 0, 0, 1)
                        found.corruptions_fixed += 1
                        host = 0
                if host:
                    assert found.allocated is not None and found.fragmented is not None
                    found.allocated += 1
                    found.fragmented += bool(before) and index == neighbour + 1 and before + self.cluster != host
                    highest = max(highest, host + self.cluster)
                before, neighbour = host, index
            found.end = highest
            if size > highest:
                found.messages.append(
                    f"{'Repairing' if fix_leaks else 'ERROR'} space leaked at the end of the image {size - highest}",
                )
                found.leaks += -(-(size - highest) // self.cluster)
                if fix_leaks:
                    self.file.resize(highest)
                    self.end = self._round(highest)
                    found.leaks_fixed = found.leaks
            if fix_errors:
                self.flush()
        return found
