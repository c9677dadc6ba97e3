"""Where a UDIF image says what it is made of: the trailer ("koly"), the property list or resource fork, and tables of runs ("mish")."""

from __future__ import annotations

from itertools import pairwise

from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later
from exuvia.support.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import plistlib
    from collections.abc import Iterator
else:
    plistlib = Later("plistlib")

TRAILER, SECTOR = 512, 512
LARGEST_LIST = 16 << 20  # bytes of the property list or resource fork, QEMU's limit
ZERO, RAW, IGNORE, ADC, ZLIB, BZIP2, LZFSE, LZMA = 0, 1, 2, 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008
COMMENT, END = 0x7FFFFFFE, 0xFFFFFFFF


class Trailer(Structure, order=">"):
    """The last 512 bytes of the file."""

    magic: bytes = at("4s", b"koly")
    version: int = at("I", 4)
    header_size: int = at("I", 512)
    flags: int = at("I", 1)
    running: int = at("Q")
    data_offset: int = at("Q")
    data_length: int = at("Q")
    fork_offset: int = at("Q")
    fork_length: int = at("Q")
    segment: int = at("I", 1)
    segments: int = at("I", 1)
    ids: bytes = at("16s", b"")
    checksum: bytes = at("136s", b"")
    list_offset: int = at("Q")
    list_length: int = at("Q")
    reserved: bytes = at("120s", b"")
    master: bytes = at("136s", b"")
    variant: int = at("I", 1)
    sectors: int = at("Q")
    rest: bytes = at("12s", b"")


class Table(Structure, order=">"):
    """A table of runs; `Run`s follow."""

    magic: bytes = at("4s", b"mish")
    version: int = at("I", 1)
    first: int = at("Q")
    sectors: int = at("Q")
    data_offset: int = at("Q")
    buffers: int = at("I")
    descriptor: int = at("I")
    reserved: bytes = at("24s", b"")
    checksum: bytes = at("136s", b"")
    runs: int = at("I")


class Run(Structure, order=">"):
    """Sectors of one kind, relative to the table's first, and where their content is."""

    kind: int = at("I")
    comment: int = at("I")
    first: int = at("Q")
    sectors: int = at("Q")
    offset: int = at("Q")
    length: int = at("Q")


class Chunk(NamedTuple):
    """A run in bytes of the disk and of the file."""

    start: int
    size: int
    kind: int
    offset: int
    length: int


def read(file: Node) -> tuple[int, list[Chunk]]:
    """The disk's size in bytes and its chunks in order. Raises ImageError."""
    name = file.filename
    trailer = Trailer.unpack(file.read(max(file.size - TRAILER, 0), TRAILER))
    if trailer.magic != b"koly":
        raise ImageError(f"{name}: Could not locate UDIF trailer in dmg file")
    if trailer.segments > 1:
        raise ImageError(f"{name}: an image in {trailer.segments} segments is not supported")
    tables = _listed(file, trailer) if trailer.list_length else _forked(file, trailer)
    chunks: list[Chunk] = []
    for table in tables:
        chunks += _runs(name, table, trailer.data_offset)
    chunks.sort()
    end = max((each.start + each.size for each in chunks), default=0)
    size = max(end, trailer.sectors * SECTOR)
    if size >> 63:
        raise ImageError(f"{name}: the disk would have {size} bytes")
    for one, other in pairwise(chunks):
        if one.start + one.size > other.start:
            raise ImageError(f"{name}: two runs describe byte {other.start} of the disk")
    return size, chunks


def _part(file: Node, offset: int, length: int) -> bytes:
    if length > LARGEST_LIST or offset + length > file.size:
        raise ImageError(f"{file.filename}: the list of blocks ({length} bytes at {offset}) is too large or outside the file")
    return file.read(offset, length)


def _listed(file: Node, trailer: Trailer) -> Iterator[bytes]:
    """Tables from the property list."""
    try:
        said = plistlib.loads(_part(file, trailer.list_offset, trailer.list_length), fmt=plistlib.FMT_XML)
        found = [each["Data"] for each in said["resource-fork"]["blkx"]]
    except ImageError:
        raise
    except Exception as error:  # the parsers of XML and of its values have many ways to say so
        raise ImageError(f"{file.filename}: the property list is damaged: {type(error).__name__} {error}") from None
    yield from (each for each in found if isinstance(each, bytes))


def _forked(file: Node, trailer: Trailer) -> Iterator[bytes]:
    """Tables from the resource fork: what begins like one among its data."""
    fork = _part(file, trailer.fork_offset, trailer.fork_length)
    start, length = int.from_bytes(fork[:4], "big"), int.from_bytes(fork[8:12], "big")
    place, end = start, min(start + length, len(fork))
    while place + 4 <= end:
        size = int.from_bytes(fork[place : place + 4], "big")
        yield fork[place + 4 : place + 4 + size]
        place += 4 + size


def _runs(name: str, data: bytes, fork: int) -> Iterator[Chunk]:
    table = Table.unpack(data)
    if table.magic != b"mish":
        return
    if Table.SIZE + table.runs * Run.SIZE > len(data):
        raise ImageError(f"{name}: a table of {table.runs} runs has {len(data)} bytes")
    for index in range(table.runs):
        run = Run.unpack(data, Table.SIZE + index * Run.SIZE)
        if run.kind == END:
            return
        if run.kind == COMMENT or not run.sectors:
            continue
        if run.kind not in (ZERO, RAW, IGNORE, ADC, ZLIB, BZIP2, LZFSE, LZMA):
            raise ImageError(f"{name}: a run of unknown kind {run.kind:#x}")
        yield Chunk((table.first + run.first) * SECTOR, run.sectors * SECTOR, run.kind, fork + table.data_offset + run.offset, run.length)
