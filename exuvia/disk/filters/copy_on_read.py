"""copy-on-read: what is read of an image's backing image is kept in the image, so that it is read from there once."""

from contextlib import AbstractContextManager

from exuvia.disk.chain import stretches
from exuvia.disk.filter import Filter
from exuvia.disk.node import Kind, Node
from exuvia.disk.ranges import Ranges
from exuvia.disk.vector import Vector

LARGEST = 1 << 20  # bytes copied at once
LEAST = 4096  # bytes, for formats without clusters


class CopyOnRead(Filter):
    """Changes made through this filter and copies keep out of each other's way; nobody else may write the image meanwhile."""

    name = "copy-on-read"

    def open(self) -> None:
        self.ranges = Ranges()
        self.unit = max(self.cluster or 0, LEAST)

    def readv(self, offset: int, into: Vector) -> None:
        if self.writable and self.backing is not None:
            self.keep(offset, into.length)
        self.file.readv(offset, into)

    def keep(self, offset: int, length: int, base: Node | None = None, zeros: bool = True) -> int:
        """Copy into the image what it lacks of [offset, offset+length), but not what only `base` and those under it have.

        `zeros`: what no layer has is kept too, as zeros. The number of bytes copied.
        """
        copied = 0
        end = min(self.size, offset + length + -(offset + length) % self.unit)
        for at in range(offset - offset % self.unit, end, LARGEST):
            count = min(LARGEST, end - at)
            if any(extent.kind is Kind.ABSENT for extent in self.file.extents(at, count)):
                with self.ranges.hold(at, at + count):
                    copied += self._keep(at, count, base, zeros)
        return copied

    def _keep(self, offset: int, length: int, base: Node | None, zeros: bool) -> int:
        copied, below = 0, self.backing
        for start, end, own in list(stretches(self.file, offset, length, below)):
            if own is not Kind.ABSENT:
                continue
            for first, last, kind in list(stretches(self.file, start, end - start, base)):
                if kind is Kind.DATA:
                    buffer = Vector((bytearray(last - first),))
                    self.file.readv(first, buffer)
                    self.file.writev(first, buffer)
                    copied += buffer.length
                elif kind is Kind.ZERO or zeros:
                    self.file.zero(first, last - first, False)
        return copied

    def writev(self, offset: int, data: Vector) -> None:
        with self._around(offset, data.length):
            self.file.writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        with self._around(offset, length):
            self.file.zero(offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        with self._around(offset, length):
            self.file.discard(offset, length)

    def _around(self, offset: int, length: int) -> AbstractContextManager[None]:
        end = offset + length
        return self.ranges.hold(offset - offset % self.unit, end + -end % self.unit)
