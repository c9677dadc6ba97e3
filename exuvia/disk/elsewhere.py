"""Bytes that lie in a file of the host and are to lie in another.

They are shared where the file system can; copied without passing through us where it does that better, or others want the processors; else
copied by two processors: reading takes one as long as writing does, and only one at a time may write to a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from exuvia.disk.processors import COUNT, idle, share
from exuvia.disk.vector import Vector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.protocols.file import File

FICLONERANGE = 0x4020940D  # ioctl_ficlonerange(2)
_RANGE = struct.Struct("qQQQ")  # struct file_clone_range
NEAR = 256 << 10  # bytes that are still in a processor's own cache when they are written
MANY = 1 << 20  # bytes; fewer are not worth a thread
MOVERS = 2  # one reads while the other writes; a third would wait for them


class Elsewhere(Vector):
    """Bytes that lie in another file of the host. A file that is to hold them has them moved; others find them in `parts`."""

    __slots__ = ("file", "loaded", "offset")

    def __init__(self, file: File, offset: int, length: int) -> None:
        self.file, self.offset, self.length = file, offset, length
        self.loaded: list[memoryview] | None = None

    @property
    def parts(self) -> list[memoryview]:  # type: ignore[override]
        """Read when somebody asks."""
        if self.loaded is None:
            content = bytearray(self.length)
            self.file.readv(self.offset, Vector((content,)))
            self.loaded = [memoryview(content)]
        return self.loaded

    def slice(self, start: int, length: int) -> Vector:
        if start == 0 and length == self.length:
            return self
        return Elsewhere(self.file, self.offset + start, length) if self.loaded is None else super().slice(start, length)

    def move(self, target: File, offset: int) -> int:
        """How many bytes are at `offset` of `target` now: up to the first that could not be moved, maybe none.

        Who reads and writes that one hears what the error is. Some behind it may have been written.
        """
        if self.length < MANY or not (self.file.on_device and target.on_device) or not idle():
            return self._handed(target.fd, offset)
        if self._cloned(target, offset):
            return self.length
        return self._carried(target.fd, offset)

    def _handed(self, fd: int, offset: int) -> int:
        """copy_file_range(2): a server copies what it keeps, a file system that can shares blocks."""
        done = 0
        try:
            while done < self.length:
                count = os.copy_file_range(self.file.fd, fd, self.length - done, self.offset + done, offset + done)
                if not count:  # the other file ends, what is behind reads as zeros
                    break
                done += count
        except OSError:
            pass
        return done

    def _cloned(self, target: File, offset: int) -> bool:
        """Whether the two share blocks now (xfs)."""
        if not target.clones:
            return False
        try:
            fcntl.ioctl(target.fd, FICLONERANGE, _RANGE.pack(self.file.fd, self.offset, self.length, offset))
        except OSError as error:
            target.clones = error.errno == errno.EINVAL  # these bytes cannot be, others might
            return False
        return True

    def _carried(self, fd: int, offset: int) -> int:
        """Every thread reads a piece and writes it."""
        starts, ends = iter(range(0, self.length, NEAR)), [self.length]

        def work() -> None:
            buffer = memoryview(bytearray(NEAR))
            for at in starts:
                piece = buffer[: self.length - at]
                try:
                    count = os.preadv(self.file.fd, (piece,), self.offset + at)
                    count = os.pwrite(fd, piece[:count], offset + at)
                except OSError:
                    count = 0
                if count < len(piece):
                    ends.append(at + count)
                    return

        share(work, min(COUNT, MOVERS))
        return min(ends)
