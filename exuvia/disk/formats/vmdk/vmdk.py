"""vmdk: VMware's disks: one file or several, sparse, flat or a compressed stream, perhaps on a parent (VMware, Virtual Disk Format 5.0)."""

from __future__ import annotations

import bisect
import os

from exuvia.disk.format import Format, Found, Opener
from exuvia.disk.formats.raw import Raw
from exuvia.disk.formats.vmdk import create, header
from exuvia.disk.formats.vmdk.descriptor import LONGEST, SECTOR, Descriptor, Line, looks_like, parse
from exuvia.disk.formats.vmdk.sesparse import SeSparse
from exuvia.disk.formats.vmdk.sparse import Sparse
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Buffer, Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# what an image with a descriptor of its own may be; those with an embedded one say it for themselves
TYPES = ("monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "monolithicSparse", "custom")


class Zeros(Node):
    """An extent of no file."""

    name = "zero"

    def __init__(self, filename: str, size: int) -> None:
        self.filename, self.size = filename, size

    def readv(self, offset: int, into: Vector) -> None:
        into.clear()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        yield Extent(Kind.ZERO, length)


class Parent(Node):
    """The part of the parent image that lies under an extent."""

    name = "parent"

    def __init__(self, image: Vmdk, below: Node, start: int, length: int) -> None:
        self.image, self.below, self.start, self.filename = image, below, start, below.filename
        self.size = max(0, min(length, below.size - start))

    def readv(self, offset: int, into: Vector) -> None:
        self.image.check_parent(self.below)
        self.below.readv(self.start + offset, into)


class Vmdk(Format):
    """Extents one behind the other; each is a node of its own, and finds its grains itself."""

    name = "vmdk"
    suffixes = (".vmdk",)
    dirty = False
    CREATE = (
        Option("adapter_type", str, None, "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX"),
        Option("backing_file", str, None, "File name of a base image"),
        Option("backing_fmt", str, None, "Must be 'vmdk' if present"),
        Option("compat6", bool, False, "VMDK version 6 image"),
        Option("hwversion", str, "undefined", "VMDK hardware version"),
        Option(
            "subformat",
            create.SUBFORMATS,
            None,
            "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | "
            "twoGbMaxExtentFlat | streamOptimized} ",
        ),
        Option("toolsversion", str, None, "VMware guest tools version"),
        Option("zeroed_grain", bool, None, "Enable efficient zero writes using the zeroed-grain GTE feature"),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 100 if head[:4] in (b"KDMV", b"COWD") or looks_like(head) else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        create.check(options)
        parent = None
        if options["backing_file"]:
            parent = cls._read_parent(options["backing_file"], opener)
        create.make(file, size, options, opener, parent)

    @staticmethod
    def _read_parent(name: str, opener: Opener | None) -> Descriptor:
        if opener is None:
            raise UserError(f"Could not open '{name}'")
        file = opener(name, False)
        try:
            head = file.read(0, 4096)
            if head[:4] != b"KDMV" and not looks_like(head):
                raise UserError("backing_file must be a vmdk image")
            return _descriptor(file)
        finally:
            file.close()

    # --- opening

    def open(self) -> None:
        self.parts: list[Node] = []
        self.files: list[Node] = []  # extents' own
        self.starts: list[int] = []
        self.lines: list[Line] = []
        self._backing: Node | None = None
        self.header: header.SparseHeader | None = None
        self.touched = self.parent_checked = False
        try:
            self._open()
        except BaseException:
            for file in self.files:
                file.close()
            raise
        self.starts = [0]
        for part in self.parts:
            self.starts.append(self.starts[-1] + part.size)
        self.size = self.starts.pop()
        self.only = self.parts[0] if len(self.parts) == 1 else None
        self.cluster = next((part.cluster for part in self.parts if isinstance(part, Sparse | SeSparse)), None)
        self.compresses = any(isinstance(part, Sparse) and part.geometry.compressed for part in self.parts)

    def _open(self) -> None:
        magic = self.file.read(0, 4)
        if magic == b"COWD":
            self.descriptor = Descriptor("", create_type="vmfsSparse")
            geometry = header.cowd(self.file)
            self.parts.append(self._sparse(self.file, geometry, geometry.capacity))
            return
        if magic != b"KDMV":
            self.descriptor = _descriptor(self.file)
            if self.descriptor.create_type not in TYPES:
                raise ImageError(f"{self.filename}: Unsupported image type '{self.descriptor.create_type}'")
            self.backing_file = self.descriptor.parent
            self.lines = [line for line in self.descriptor.extents if line.sectors]
            for number, line in enumerate(self.lines, 1):
                self.parts.append(self._extent(line, number))
        else:
            self.header, geometry = header.hosted(self.file)
            self.descriptor = _descriptor(self.file)
            self.backing_file = self.descriptor.parent
            self.parts.append(self._sparse(self.file, geometry, geometry.capacity))
        if self.backing_file is not None:
            self.backing_format = "vmdk"

    def _extent(self, line: Line, number: int) -> Node:
        """The node that a line of the descriptor describes."""
        which = f"extent {number} of {len(self.lines)}"
        size = line.sectors * SECTOR
        if size >= 1 << 62:
            raise ImageError(f"{self.filename}: {which} has {line.sectors} sectors, which cannot be")
        if self.writable and line.access != "RW":
            raise ImageError(f"{self.filename}: {which} is {line.access}, the image cannot be written")
        if line.access == "NOACCESS":
            raise ImageError(f"{self.filename}: {which} is NOACCESS")
        if line.kind == "ZERO":
            return Zeros(self.filename, size)
        if line.kind not in ("FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE") or not line.filename:
            raise ImageError(f"{self.filename}: {which} is of unsupported type {line.kind}")
        file = self._file(line.filename, which)
        self.files.append(file)
        try:
            if line.kind in ("FLAT", "VMFS"):
                if line.offset * SECTOR + size > file.size:
                    raise ImageError(f"{file.filename} has {file.size} bytes, {line.offset * SECTOR + size} are needed")
                return Raw(file, writable=self.writable, offset=line.offset * SECTOR, size=size)
            if line.kind == "SESPARSE":
                if self.writable:
                    raise ImageError(f"{file.filename} is seSparse, which can only be read")
                return SeSparse(file, size)
            geometry = header.cowd(file) if file.read(0, 4) == b"COWD" else header.hosted(file)[1]
            if size > geometry.capacity:
                raise ImageError(f"{file.filename} holds {geometry.capacity} bytes, the descriptor says {size}")
            return self._sparse(file, geometry, size)
        except UserError as error:
            raise ImageError(f"{self.filename}: {which}: {error}") from None

    def _file(self, name: str, which: str) -> Node:
        if self.opener is None:
            raise ImageError(f"{self.filename}: {which} cannot be opened from here: {name}")
        try:
            return self.opener(name, self.writable)
        except UserError as error:
            reason = f"is missing: {name}" if "No such file" in str(error) else f"cannot be opened: {error}"
            raise ImageError(f"{self.filename}: {which} {reason}") from None

    def _sparse(self, file: Node, geometry: header.Geometry, size: int) -> Sparse:
        if self.writable and geometry.entries == 4096:
            raise ImageError(f"{file.filename} is vmfsSparse, which can only be read")
        return Sparse(file, geometry, size, writable=self.writable, has_parent=self.backing_file is not None, first_write=self._first_write)

    # --- the parent

    @property
    def backing(self) -> Node | None:
        """The parent image; each extent sees its own part of it."""
        return self._backing

    @backing.setter
    def backing(self, node: Node | None) -> None:
        self._backing, self.parent_checked = node, False
        for part, start in zip(self.parts, self.starts):
            if isinstance(part, Format):
                part.backing = None if node is None else Parent(self, node, start, part.size)

    @property
    def guarded(self) -> bool:  # type: ignore[override]
        """The parent is looked at before it is read."""
        return self._backing is not None

    def check_parent(self, parent: Node) -> None:
        """Raises ImageError when the parent was written since this image was made."""
        if self.parent_checked:
            return
        if isinstance(parent, Vmdk) and parent.descriptor.cid != self.descriptor.parent_cid:
            raise ImageError(
                f"{self.filename}: its backing file {parent.filename} was changed since (its CID is {parent.descriptor.cid:08x}, "
                f"{self.descriptor.parent_cid:08x} is expected)"
            )
        self.parent_checked = True

    # --- the bytes

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[Node, int, int, int]]:
        """Extents under a range: (extent, offset in it, bytes, offset in the range)."""
        at = 0
        number = bisect.bisect_right(self.starts, offset) - 1
        while at < length:
            part, start = self.parts[number], self.starts[number]
            count = min(length - at, start + part.size - offset - at)
            if count:
                yield part, offset + at - start, count, at
            at += count
            number += 1

    def readv(self, offset: int, into: Vector) -> None:
        if self.only is not None:
            self.only.readv(offset, into)
            return
        for part, start, count, at in self._pieces(offset, into.length):
            part.readv(start, into.slice(at, count))

    def writev(self, offset: int, data: Vector) -> None:
        if not self.touched:
            self._first_write()
        if self.only is not None:
            self.only.writev(offset, data)
            return
        for part, start, count, at in self._pieces(offset, data.length):
            part.writev(start, data.slice(at, count))

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        if not self.touched:
            self._first_write()
        for part, start, count, _ in self._pieces(offset, length):
            part.zero(start, count, unmap)

    def discard(self, offset: int, length: int) -> None:
        for part, start, count, _ in self._pieces(offset, length):
            part.discard(start, count)

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """Grains of a stream are always compressed, those of other sparse extents never."""
        if self.cluster is None:
            raise Unsupported(f"{self.filename}: Compression not supported for this file format")
        self.write(offset, data)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for part, start, count, _ in self._pieces(offset, length):
            yield from part.extents(start, count)

    def _first_write(self) -> None:
        """The first write since opening changes the content ID, so that images that stand on this one notice."""
        with self.lock:
            if self.touched or not self.writable:
                return
            if self.header is not None and self.header.directory == header.AT_END:
                self._leave_footer()
            self.descriptor.set_cid(self.file, int.from_bytes(os.urandom(4), "little") & 0xFFFFFFFE)
            self.touched = True

    def _leave_footer(self) -> None:
        """New grains come behind the footer, which is lost then: the header says from now on where the directory is."""
        part = self.parts[0]
        assert isinstance(part, Sparse) and self.header is not None
        self.header.directory = part.geometry.directory // SECTOR
        self.header.copy = (part.geometry.copy or 0) // SECTOR
        self.file.write(0, self.header.pack())
        self.file.flush()

    def flush(self) -> None:
        for part in self.parts:
            part.flush()
        self.file.flush()

    def finish(self) -> None:
        if self.touched and self.header is not None:
            part = self.parts[0]
            if isinstance(part, Sparse) and part.geometry.markers:
                header.seal(self.file, self.header, part.end)
        super().finish()

    def children(self) -> Iterator[tuple[str, Node]]:
        yield "file", self.file
        for number, file in enumerate(self.files):
            yield f"extents.{number}", file
        if self._backing is not None:
            yield "backing", self._backing

    # --- what commands ask

    def info(self) -> dict[str, Any]:
        extents: list[dict[str, Any]] = []
        for number, part in enumerate(self.parts):
            line = self.lines[number] if self.lines else None
            said: dict[str, Any] = {}
            if isinstance(part, Sparse) and part.geometry.compressed:
                said["compressed"] = True
            said["virtual-size"] = part.size
            said["filename"] = part.filename
            if isinstance(part, Sparse | SeSparse):
                said["cluster-size"] = part.cluster
            said["format"] = line.kind if line else ""
            extents.append(said)
        descriptor = self.descriptor
        return {"cid": descriptor.cid, "parent-cid": descriptor.parent_cid, "create-type": descriptor.create_type, "extents": extents}

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        found = Found()
        for part, start in zip(self.parts, self.starts):
            if isinstance(part, Sparse):
                for offset in part.broken():
                    found.corruptions += 1
                    if found.corruptions <= 1000:
                        found.messages.append(f"ERROR: cluster offset for sector {(start + offset) // SECTOR} points after EOF")
        return found


def _descriptor(file: Node) -> Descriptor:
    """The descriptor of a file that is one, or has one inside. Raises ImageError."""
    place, room = 0, None
    length = file.size
    head = header.SparseHeader.unpack(file.read(0, SECTOR))
    if head.magic == b"KDMV":
        place, room = head.descriptor * SECTOR, head.descriptor_size * SECTOR
        length = room
        if not place or not file.read(place, 1).strip(b"\0"):
            raise ImageError(f"{file.filename}: it has no descriptor: it is one extent of an image, open that")
        if place > file.size:
            raise ImageError(f"{file.filename}: the descriptor at {place} lies past the file's end ({file.size})")
    if length > LONGEST:
        raise ImageError(f"{file.filename}: Image not in VMDK format (a descriptor of {length} bytes)")
    return parse(file.read(place, min(length, file.size - place)), file.filename, place, room)
