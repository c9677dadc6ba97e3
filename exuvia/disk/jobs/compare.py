"""Comparing two images: what both know to be zeros is not read, both are read at the same time, a chunk ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

from exuvia.disk.chain import pieces, together
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import ImageError, Kind, Node
from exuvia.disk.vector import Vector

SECTOR = 512
PART = 1 << 20  # bytes that are compared at once; they fit into a processor's cache
NOTHING = bytes(PART)
SMALL = 256 << 10  # bytes; less than that is read here and now, as threads would take longer to be told of it
AHEAD = 3  # parts that are being read


class Status(NamedTuple):
    """What a stretch of an image is, as far as comparison goes."""

    there: bool  # some layer has it
    zero: bool
    data: bool
    verbatim: bool


Part = tuple[int, int, Status, Status]  # offset, length, what it is in one and in the other


class Compare(Job):
    """After `run`: `differs` is the offset of the first sector that differs, or None; `status` that where `strict` found another status."""

    def __init__(self, one: Node, other: Node, strict: bool = False) -> None:
        super().__init__()
        self.one, self.other, self.strict = one, other, strict
        self.common = min(one.size, other.size)
        self.total = max(one.size, other.size)
        self.differs: int | None = None
        self.status: int | None = None
        self.past_common = False  # whether it came past the end of the shorter one
        self._idle: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(2 * (AHEAD + 1)):
            self._idle.put(bytearray(PART))

    def run(self) -> None:
        with ThreadPoolExecutor(4, "compare") as pool:
            if not self._same(pool, self._both()) or self.common == self.total:
                return
            self.past_common = True
            if self.watch is not None:
                self.watch(self)
            longer = self.one if self.one.size > self.other.size else self.other
            nothing = Status(False, True, False, False)
            parts = ((at, end - at, status, nothing) for at, end, status in _statuses(longer, self.common, self.total))
            self._same(pool, parts, longer)

    def _both(self) -> Iterator[Part]:
        """Stretches that are alike in both."""
        for start, end, one, other in together(_statuses(self.one, 0, self.common), _statuses(self.other, 0, self.common)):
            yield start, end - start, one, other

    def _same(self, pool: ThreadPoolExecutor, parts: Iterator[Part], only: Node | None = None) -> bool:
        """Whether all is alike; with `only`, whether that one has nothing but zeros."""
        reading: deque[tuple[int, Future[bytearray], Future[bytearray] | None]] = deque()
        for offset, length, one, other in parts:
            if self.strict and one != other:
                if self._finish(reading):
                    self.status = offset
                return False
            if (one.zero and other.zero) or not (one.there or other.there):
                self.advance(length, costly=False)
                continue
            reads_one, reads_other = (only is not None or not _silent(one)), (only is None and not _silent(other))
            first, second = (only or self.one) if reads_one else self.other, self.other if reads_one and reads_other else None
            if length <= SMALL:
                if not self._finish(reading) or not self._alike(
                    offset, _read(first, offset, length), None if second is None else _read(second, offset, length)
                ):
                    return False
                continue
            for at in range(offset, offset + length, PART):
                count = min(PART, offset + length - at)
                if len(reading) >= AHEAD and not self._check(reading):
                    return False
                reading.append(
                    (
                        at,
                        pool.submit(_read, first, at, count, self._idle),
                        None if second is None else pool.submit(_read, second, at, count, self._idle),
                    )
                )
        return self._finish(reading)

    def _finish(self, reading: "deque[tuple[int, Future[bytearray], Future[bytearray] | None]]") -> bool:
        while reading:
            if not self._check(reading):
                return False
        return True

    def _check(self, reading: "deque[tuple[int, Future[bytearray], Future[bytearray] | None]]") -> bool:
        """Compare the oldest chunk."""
        at, first, second = reading.popleft()
        return self._alike(at, first.result(), None if second is None else second.result())

    def _alike(self, at: int, one: bytearray, second: bytearray | None) -> bool:
        """Whether two chunks are; None is nothing but zeros."""
        other: bytearray | bytes = second if second is not None else NOTHING if len(one) == PART else bytes(len(one))
        self.advance(len(one))
        if one == other:
            for buffer in (one, other):
                if isinstance(buffer, bytearray) and len(buffer) == PART:
                    self._idle.put(buffer)
            return True
        self.differs = at + next(
            start for start in range(0, len(one), SECTOR) if one[start : start + SECTOR] != other[start : start + SECTOR]
        )
        return False


def _silent(status: Status) -> bool:
    """Reads as zeros, so that it need not be read."""
    return status.zero or not status.there


def _read(node: Node, offset: int, length: int, idle: "SimpleQueue[bytearray] | None" = None) -> bytearray:
    """Into an idle buffer, where it is to be filled: fresh memory costs more than what is done with it."""
    buffer = idle.get() if idle is not None and length == PART else bytearray(length)
    try:
        node.readv(offset, Vector((buffer,)))
    except OSError as error:
        raise ImageError(f"Error while reading offset {offset} of {node.filename}: {error.strerror}") from error
    return buffer


def _statuses(node: Node, start: int, end: int) -> Iterator[tuple[int, int, Status]]:
    """(start, end, status), as long as can be."""
    at, length, last = start, 0, Status(False, True, False, False)
    for extent, _, _ in pieces(node, start, end - start):
        kind = extent.kind
        status = Status(kind is not Kind.ABSENT, kind in (Kind.ZERO, Kind.ABSENT), kind in (Kind.DATA, Kind.COMPRESSED), kind is Kind.DATA)
        if status != last and length:
            yield at, at + length, last
            at, length = at + length, 0
        last = status
        length += extent.length
    if length:
        yield at, at + length, last
