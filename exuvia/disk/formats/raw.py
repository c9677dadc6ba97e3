"""raw: the file's bytes are the disk's bytes, or a window of them (options `offset` and `size`)."""

from __future__ import annotations

import errno
import os

from exuvia.disk.chain import pieces
from exuvia.disk.format import Format, Measure, Opener
from exuvia.disk.node import Extent, Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SECTOR = 512


class Raw(Format):
    """Everything is the file's own business."""

    name = "raw"
    guard: Callable[[bytes], bool] | None = None  # of an image that was found to be raw: whether a first sector still says so
    suffixes = (".img", ".raw", ".iso")
    OPTIONS = (
        Option("offset", "size", 0, "where in the file the disk begins"),
        Option("size", "size", None, "how much of the file it is"),
    )

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        """Anything is raw when it is nothing else."""
        return 1

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        size += -size % SECTOR
        if file.can("resize"):
            file.resize(size, options.get("preallocation") or "off")
        elif file.size < size:
            raise UserError(f"{file.filename}: it has {file.size} bytes and cannot grow, the image has {size}")

    @classmethod
    def measure(cls, size: int, options: dict[str, Any], source: Node | None) -> Measure:
        return Measure(size, size)

    def open(self) -> None:
        self.start: int = self.options.get("offset") or 0
        limit: int | None = self.options.get("size")
        there = self.file.size - self.start
        if there < 0 or (limit is not None and limit > there):
            raise UserError(f"{self.filename}: the file has {self.file.size} bytes, fewer than options offset and size of raw say")
        self.limit = limit

    @property
    def size(self) -> int:  # type: ignore[override]
        """In whole sectors. The file may grow under us, as a log or a device does."""
        size = self.file.size - self.start if self.limit is None else self.limit
        return size + -size % SECTOR

    def readv(self, offset: int, into: Vector) -> None:
        self.file.event("read_aio")
        self.file.readv(self.start + offset, into)

    def writev(self, offset: int, data: Vector) -> None:
        if self.guard is not None and offset < SECTOR:
            self._keep_raw(self.guard, offset, data)
        self.file.event("write_aio")
        self.file.writev(self.start + offset, data)

    def _keep_raw(self, guard: Callable[[bytes], bool], offset: int, data: Vector) -> None:
        """Refuse a write after which the file would be taken for another format, whose content names further files of the host."""
        head = bytearray(self.read(0, SECTOR))
        new = data.slice(0, min(data.length, SECTOR - offset)).gather()
        head[offset : offset + len(new)] = new
        if not guard(bytes(head)):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), self.filename)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.file.zero(self.start + offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        self.file.discard(self.start + offset, length)

    def resize(self, size: int, preallocation: str = "off") -> None:
        if self.limit is not None or self.start:
            raise UserError(f"{self.filename}: a window of a file cannot be resized")
        self.file.resize(size, preallocation)

    def flush(self) -> None:
        self.file.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for extent, _, _ in pieces(self.file, self.start + offset, length):
            kind = Kind.ZERO if extent.kind is Kind.ABSENT else extent.kind
            yield Extent(kind, extent.length, self.start + offset, self.file)
            offset += extent.length
