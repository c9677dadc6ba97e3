"""blkverify: two images get the same writes and must read the same; the first difference is an error (QEMU's docs/devel/blkverify)."""

import errno
from collections.abc import Iterator

from exuvia.disk.filter import Filter
from exuvia.disk.node import Extent, Kind
from exuvia.disk.vector import Vector


class BlkVerify(Filter):
    """`test` is the image on trial, `raw` says what is right. A difference is reported as EIO with its offset."""

    name = "blkverify"
    CHILDREN = ("test", "raw")

    def open(self) -> None:
        (self.raw,) = self.others

    def readv(self, offset: int, into: Vector) -> None:
        self.file.readv(offset, into)
        got, want = into.gather(), self.raw.read(offset, into.length)
        if got != want:
            at = offset + next(index for index in range(len(got)) if got[index] != want[index])
            raise OSError(errno.EIO, f"blkverify: {self.filename} and {self.raw.filename} differ at byte {at}")

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        yield Extent(Kind.DATA, length, offset, self)

    def writev(self, offset: int, data: Vector) -> None:
        self.raw.writev(offset, data)
        self.file.writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.raw.zero(offset, length, unmap)
        self.file.zero(offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        """Afterwards both could read as anything, so neither is asked."""

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.raw.resize(size)
        self.file.resize(size, preallocation)

    def flush(self) -> None:
        self.raw.flush()
        self.file.flush()
