"""A file in memory that remembers which writes were not flushed yet, so that a test can pull the plug at any point."""

import errno
import os
import random
import threading
from collections.abc import Callable

from exuvia.disk.node import Node
from exuvia.disk.vector import Vector

SECTOR = 512


class PowerCut(Node):
    """`safe` is what a power cut cannot take away; `disk(rng)` is what one leaves: of each unflushed sector maybe the old content.

    `before` is called before every write, flush and change of the size, so that a test can look at the disk then.
    """

    name = "powercut"
    writable = True

    def __init__(self, content: bytes = b"", filename: str = "powercut", largest: int = 256 << 20) -> None:
        self.filename, self.largest = filename, largest
        self.now = bytearray(content)
        self.safe = bytearray(content)
        self._pending: list[tuple[int, bytes] | int] = []
        self.before: Callable[[], None] = lambda: None
        self._guard = threading.Lock()

    @property
    def size(self) -> int:  # type: ignore[override]
        return len(self.now)

    def readv(self, offset: int, into: Vector) -> None:
        with self._guard:
            into.scatter(bytes(self.now[offset : offset + into.length]).ljust(into.length, b"\0"))

    def writev(self, offset: int, data: Vector) -> None:
        self.before()
        with self._guard:
            self._fits(offset + data.length)
            change = (offset, data.gather())
            apply(self.now, change)
            self._pending.append(change)

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.before()
        with self._guard:
            self._fits(size)
            apply(self.now, size)
            self._pending.append(size)

    def _fits(self, size: int) -> None:
        if size > self.largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def flush(self) -> None:
        self.before()
        with self._guard:
            for each in self._pending:
                apply(self.safe, each)
            self._pending.clear()

    def disk(self, rng: random.Random) -> bytes:
        """The content after a power cut now. Unflushed writes are lost, torn at sectors, or survive, each on its own."""
        with self._guard:
            left = bytearray(self.safe)
            chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            for each in self._pending:
                if isinstance(each, int):
                    if rng.random() < chance:
                        apply(left, each)
                    continue
                offset, data = each
                whole = rng.random() < 0.5 and rng.random() < chance
                at = 0
                while at < len(data):
                    count = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
                    if whole or rng.random() < chance:
                        apply(left, (offset + at, data[at : at + count]))
                    at += count
            return bytes(left)


def apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    """Carry out one write, or a change of the size."""
    if isinstance(change, int):
        if change > len(content):
            content.extend(bytes(change - len(content)))
        del content[change:]
        return
    offset, data = change
    if offset + len(data) > len(content):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data
