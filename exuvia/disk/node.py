"""A node: a sequence of bytes somewhere. Files, servers, formats and filters are nodes; a disk is a graph of them.

Nodes are synchronous and may be used by several threads at once; `queue.Queue` makes them asynchronous at the edge, where machines are. A
capability is a method that exists: a node that cannot be written does not define `writev`, and `can("writev")` says so.
"""

from __future__ import annotations

from exuvia.disk.options import Option
from exuvia.disk.vector import Buffer, Vector
from exuvia.support.errors import UserError
from exuvia.support.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import ClassVar, Self

CHUNK = 2 << 20  # bytes moved at once where nothing else decides
ZEROS = bytes(CHUNK)


class ImageError(UserError):
    """An image, or what it stands on, is not what it should be; the text names the file and what is wrong with it."""


class Unsupported(UserError):
    """The node has no such capability."""


class Kind:
    """What a stretch of a node is: one of four."""

    DATA: ClassVar[Kind]  # bytes that lie verbatim at `host` of `file`, where those are given
    COMPRESSED: ClassVar[Kind]  # bytes that must be unpacked
    ZERO: ClassVar[Kind]  # reads as zeros, by this layer's word
    ABSENT: ClassVar[Kind]  # this layer has nothing: the backing node decides, without one it reads as zeros

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Kind.{self.name}"


for _name in ("DATA", "COMPRESSED", "ZERO", "ABSENT"):
    setattr(Kind, _name, Kind(_name))


class Node:
    """The base of all nodes. Offsets and lengths are bytes; a caller keeps [offset, offset+length) inside `size`.

    `name` is the driver's name, `OPTIONS` what a description of it may say, `filename` how messages call it. OSErrors pass through.
    """

    name: ClassVar[str]
    OPTIONS: ClassVar[tuple[Option, ...]] = ()

    filename: str
    size: int
    writable: bool = False

    def readv(self, offset: int, into: Vector) -> None:
        """Fill `into` from `offset` on. What lies past the end reads as zeros."""
        raise NotImplementedError

    def writev(self, offset: int, data: Vector) -> None:
        """Write `data` at `offset`. Files grow where that passes their end; formats never do."""
        raise Unsupported(f"{self.filename}: {self.name} cannot be written")

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        """Make [offset, offset+length) read as zeros; with `unmap` it may give up the room."""
        while length:
            count = min(length, CHUNK)
            self.write(offset, memoryview(ZEROS)[:count])
            offset += count
            length -= count

    def discard(self, offset: int, length: int) -> None:
        """Advice that the content is not needed: it may read as anything that was there, or zeros, afterwards."""

    def resize(self, size: int, preallocation: str = "off") -> None:
        """Become `size` bytes long; new bytes read as zeros, with room as `preallocation` (off, metadata, falloc, full) says.

        Raises Unsupported where that cannot be.
        """
        raise Unsupported(f"{self.filename}: {self.name} cannot be resized")

    def flush(self) -> None:
        """Return when everything written before is safe from a power cut."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What [offset, offset+length) is made of, in order, without gaps: this layer only."""
        yield Extent(Kind.DATA, length, offset, self)

    def event(self, name: str) -> None:
        """Whoever uses this node is about to do something (QAPI's BlkdebugEvent): only a filter that makes errors cares."""

    def close(self) -> None:
        """Flush and let go of everything; harmless twice."""

    def children(self) -> Iterator[tuple[str, Node]]:
        """The nodes under this one, by role: `file`, `backing`, `data-file` …"""
        yield from ()

    def read(self, offset: int, length: int) -> bytes:
        """A copy of [offset, offset+length)."""
        buffer = bytearray(length)
        self.readv(offset, Vector((buffer,)))
        return bytes(buffer)

    def write(self, offset: int, data: Buffer) -> None:
        """`writev` of one buffer."""
        self.writev(offset, Vector((data,)))

    @classmethod
    def can(cls, capability: str) -> bool:
        """Whether the class defines the method itself: `writev`, `resize`, `discard` …"""
        return getattr(cls, capability, None) is not getattr(Node, capability, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except OSError:
            if error is None:  # else that is what went wrong first, on a full disk say
                raise


class Extent(NamedTuple):
    """`length` bytes of one kind. `host` is where they lie in `file`: DATA always has it, ZERO when room is kept for it.

    `frozen`: the room is shared with something else (an internal snapshot, say), so that a write must go elsewhere.
    """

    kind: Kind
    length: int
    host: int | None = None
    file: Node | None = None
    frozen: bool = False
