"""Which parts of a disk were written: what jobs have still to copy."""

import threading
from collections.abc import Callable


class Dirty:
    """A byte for each `granularity` bytes of a disk: 2 TiB in steps of 64 KiB take 32 MiB. Threads may mark and take at once.

    Mark after writing, take before reading: then nothing that was written is ever missed.
    """

    def __init__(self, size: int, granularity: int = 64 << 10) -> None:
        self.size, self.granularity = size, granularity
        self._map = bytearray(-(-size // granularity))
        self._next = 0
        self._change = threading.Condition()

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        return offset // self.granularity, min(-(-(offset + length) // self.granularity), len(self._map))

    def mark(self, offset: int, length: int) -> None:
        """Whatever [offset, offset+length) touches is dirty."""
        first, end = self._span(offset, length)
        if first < end:
            with self._change:
                self._map[first:end] = b"\1" * (end - first)
                self._change.notify_all()

    def clear(self, offset: int, length: int) -> None:
        """Whatever [offset, offset+length) touches is clean."""
        first, end = self._span(offset, length)
        if first < end:
            with self._change:
                self._map[first:end] = bytes(end - first)

    def touches(self, offset: int, length: int) -> bool:
        """Whether something of [offset, offset+length) is dirty."""
        return self._map.find(1, *self._span(offset, length)) >= 0

    def next(self, offset: int, length: int) -> tuple[int, int] | None:
        """The first dirty stretch that begins in the granules of [offset, offset+length) and ends there: offset and length."""
        first, end = self._span(offset, length)
        start = self._map.find(1, first, end)
        if start < 0:
            return None
        stop = self._map.find(0, start, end)
        return self._bytes(start, end if stop < 0 else stop)

    def _bytes(self, first: int, end: int) -> tuple[int, int]:
        start = first * self.granularity
        return start, min(end * self.granularity, self.size) - start

    def take(self, most: int) -> tuple[int, int] | None:
        """A dirty stretch of `most` bytes or a granule, which is clean from now on; None when all is. It goes round the disk."""
        with self._change:
            start = self._map.find(1, self._next)
            if start < 0:
                start = self._map.find(1)
            if start < 0:
                return None
            end = min(start + max(1, most // self.granularity), len(self._map))
            stop = self._map.find(0, start, end)
            end = end if stop < 0 else stop
            self._map[start:end] = bytes(end - start)
            self._next = end
            return self._bytes(start, end)

    def left(self) -> int:
        """Bytes that are dirty."""
        return min(self._map.count(1) * self.granularity, self.size)

    def wait(self, timeout: float, until: Callable[[], bool] = lambda: False) -> None:
        """Return when something is dirty, after at most so many seconds, or when `until` says so after `wake`."""
        with self._change:
            self._change.wait_for(lambda: 1 in self._map or until(), timeout)

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._change:
            self._change.notify_all()
