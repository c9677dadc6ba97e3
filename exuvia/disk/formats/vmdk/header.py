"""Headers of sparse extents: hosted ("KDMV") with or without a footer, and ESX's COWD (VMware, Virtual Disk Format 5.0)."""

from exuvia.disk.formats.vmdk.descriptor import SECTOR
from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.record import Record

NEWLINES, COPY_USED, ZERO_GRAINS, COMPRESSED, MARKERS = 1, 2, 4, 1 << 16, 1 << 17  # flags
AT_END = (1 << 64) - 1  # the directory's offset stands in a copy of the header at the file's end
DEFLATE = 1
MOST_ENTRIES = 4 << 20  # of a directory: 128 TiB with the usual grains
FOOTER, END_OF_STREAM = 3, 0


class SparseHeader(Structure, order="<"):
    """SparseExtentHeader: offsets and sizes in sectors."""

    magic: bytes = at("4s", b"KDMV")
    version: int = at("I", 1)
    flags: int = at("I", NEWLINES | COPY_USED)
    capacity: int = at("Q")
    grain: int = at("Q", 128)
    descriptor: int = at("Q", 1)
    descriptor_size: int = at("Q", 20)
    entries: int = at("I", 512)
    copy: int = at("Q", 21)
    directory: int = at("Q")
    overhead: int = at("Q")
    unclean: int = at("B")
    newline: bytes = at("4s", b"\n \r\n")
    compression: int = at("H")


class CowdHeader(Structure, order="<"):
    """COWDisk_Header, as far as it says where things are."""

    magic: bytes = at("4s", b"COWD")
    version: int = at("I", 1)
    flags: int = at("I", 3)
    capacity: int = at("I")
    grain: int = at("I", 1)
    directory: int = at("I", 4)
    entries: int = at("I")
    free: int = at("I")


class Marker(Structure, order="<"):
    """What stands before metadata in a stream: `sectors` of it, `size` 0 (a grain has its size there and no kind)."""

    sectors: int = at("Q")
    size: int = at("I")
    kind: int = at("I")


class Geometry(Record):
    """Where a sparse extent keeps things: sizes in bytes, `directory` and `copy` are byte offsets of grain directories."""

    capacity: int
    grain: int
    entries: int  # of a grain table
    directory: int
    copy: int | None
    first: int  # where grains may begin
    zero_grains: bool = False
    compressed: bool = False
    markers: bool = False
    at_end: bool = False  # the directory was found through a footer


def hosted(file: Node) -> tuple[SparseHeader, Geometry]:
    """The header at the file's beginning, and the geometry that it or its footer says. Raises ImageError."""
    header = SparseHeader.unpack(file.read(0, SECTOR))
    if header.magic != b"KDMV":
        raise ImageError(f"{file.filename}: Image not in VMDK format")
    if header.version > 3:
        raise ImageError(f"{file.filename}: Unsupported VMDK version {header.version}")
    used = _footer(file, header) if header.directory == AT_END else header
    if used.compression not in (0, DEFLATE) or (used.flags & COMPRESSED and used.compression != DEFLATE):
        raise ImageError(f"{file.filename}: Unsupported compression {used.compression}")
    if used.overhead * SECTOR > file.size:
        raise ImageError(f"{file.filename}: File truncated, expecting at least {used.overhead * SECTOR} bytes")
    geometry = Geometry(
        used.capacity * SECTOR,
        used.grain * SECTOR,
        used.entries,
        used.directory * SECTOR,
        used.copy * SECTOR if used.flags & COPY_USED and used.copy not in (0, AT_END) else None,
        used.overhead * SECTOR,
        bool(used.flags & ZERO_GRAINS),
        bool(used.flags & COMPRESSED),
        bool(used.flags & MARKERS),
        used is not header,
    )
    _check(file, geometry, 512)
    return header, geometry


def _footer(file: Node, header: SparseHeader) -> SparseHeader:
    """The copy of the header between the footer's marker and the end of the stream."""
    end = file.size - file.size % SECTOR
    tail = file.read(max(0, end - 3 * SECTOR), 3 * SECTOR)
    marker, footer, last = Marker.unpack(tail), SparseHeader.unpack(tail, SECTOR), Marker.unpack(tail, 2 * SECTOR)
    if (marker.size, marker.kind, last.size, last.kind) != (0, FOOTER, 0, END_OF_STREAM) or footer.magic != b"KDMV":
        raise ImageError(f"{file.filename}: the stream has no footer at its end: it was cut off")
    same = (footer.capacity, footer.grain, footer.entries) == (header.capacity, header.grain, header.entries)
    if not same or footer.directory == AT_END:
        raise ImageError(f"{file.filename}: the footer contradicts the header")
    return footer


def seal(file: Node, header: SparseHeader, end: int) -> None:
    """End a stream at offset `end`: a footer and the mark that readers from front to back stop at.

    The header goes on saying where the directory is, so that a writer who knows nothing of footers does no harm.
    """
    file.write(end, b"".join(part.pack().ljust(SECTOR, b"\0") for part in (Marker(1, 0, FOOTER), header, Marker(0, 0, END_OF_STREAM))))


def cowd(file: Node) -> Geometry:
    """The geometry of a COWD file. Raises ImageError."""
    header = CowdHeader.unpack(file.read(0, SECTOR))
    if header.magic != b"COWD":
        raise ImageError(f"{file.filename}: Image not in VMDK format")
    geometry = Geometry(
        header.capacity * SECTOR, header.grain * SECTOR, 4096, header.directory * SECTOR, None, (header.directory + 1) * SECTOR
    )
    _check(file, geometry, 4096)
    return geometry


def _check(file: Node, geometry: Geometry, entries: int) -> None:
    """Refuse what would make us read or allocate too much."""
    if not 1 <= geometry.grain // SECTOR <= 0x200000 or geometry.grain & geometry.grain - 1:
        raise ImageError(f"{file.filename}: invalid granularity {geometry.grain // SECTOR}, image may be corrupt")
    if not 1 <= geometry.entries <= entries:
        raise ImageError(f"{file.filename}: L2 table size too big ({geometry.entries} entries)")
    directory = tables(geometry) * 4
    if directory > MOST_ENTRIES * 4 or geometry.capacity >= 1 << 62:
        raise ImageError(f"{file.filename}: L1 size too big ({directory // 4} entries)")
    for start in (geometry.directory, geometry.copy):
        if start is not None and start + directory > file.size:
            raise ImageError(f"{file.filename}: the grain directory at {start} reaches past the file's end ({file.size})")


def tables(geometry: Geometry) -> int:
    """How many grain tables there are."""
    return -(-geometry.capacity // (geometry.grain * geometry.entries))
