"""Comparing two images: what both know to be zeros is not read.

What lies verbatim in files of the host, and what is small, is read here and now; other large pieces are read by threads, some ahead.
"""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue

from exuvia.disk.chain import layers, pieces, together
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import ImageError, Kind, Node
from exuvia.disk.protocols.file import File
from exuvia.disk.vector import Vector
from exuvia.support.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor

SECTOR = 512
PART = 512 << 10  # bytes that are compared at once; both sides' fit into a processor's cache
NOTHING = bytes(PART)
SMALL = 256 << 10  # bytes; threads would take longer to be told of less
AHEAD = 3  # parts that are being read


class Status(NamedTuple):
    """What a stretch of an image is, as far as comparison goes."""

    there: bool  # some layer has it
    zero: bool
    data: bool
    verbatim: bool
    last: bool = False  # nothing of another kind comes behind it, which QEMU counts as status too


STATUS = {
    Kind.DATA: Status(True, False, True, True),
    Kind.COMPRESSED: Status(True, False, True, False),
    Kind.ZERO: Status(True, True, False, False),
    Kind.ABSENT: Status(False, True, False, False),
}
Place = tuple[Status, File | None, int]
"""What a stretch is; the file of the host where it lies verbatim, and what is to be added to an offset to have that in the file."""
NOWHERE: Place = (STATUS[Kind.ABSENT], None, 0)
Part = tuple[int, int, Place, Place]  # offset, length, what it is in one and in the other


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
        self.on_longer: Callable[[], None] | None = None  # called then
        self._buffers = bytearray(PART), bytearray(PART)
        self._views = memoryview(self._buffers[0]), memoryview(self._buffers[1])
        self._pool: ThreadPoolExecutor | None = None
        self._idle: SimpleQueue[bytearray] = SimpleQueue()
        self._reading: deque[tuple[int, int, list[Future[bytearray]]]] = deque()

    def run(self) -> None:
        try:
            if not self._same(self._both()) or self.common == self.total:
                return
            self.past_common = True
            if self.watch is not None:
                self.watch(self)
            if self.on_longer is not None:
                self.on_longer()
            longer = self.one if self.one.size > self.other.size else self.other
            self._same(((at, end - at, place, NOWHERE) for at, end, place in _statuses(longer, self.common, self.total)), longer)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _both(self) -> Iterator[Part]:
        """Stretches that are alike in both."""
        for start, end, one, other in together(_statuses(self.one, 0, self.common), _statuses(self.other, 0, self.common)):
            yield start, end - start, one, other

    def _same(self, parts: Iterator[Part], only: Node | None = None) -> bool:
        """Whether all is alike; with `only`, whether that one has nothing but zeros."""
        first, second = only or self.one, self.other
        for offset, length, one, other in parts:
            status, against = one[0], other[0]
            if self.strict and status != against:
                if self._finish():
                    self.status = offset
                return False
            sides = [(node, place) for node, place in ((first, one), (second, other)) if not place[0].zero]
            if not sides:
                self.advance(length, costly=False)
                continue
            if length <= SMALL or all(file is not None for _, (_, file, _) in sides):
                if not self._finish() or not self._at_once(offset, length, sides):
                    return False
                continue
            for at in range(offset, offset + length, PART):
                if len(self._reading) >= AHEAD and not self._check():
                    return False
                count = min(PART, offset + length - at)
                self._reading.append((at, count, [self._threads().submit(self._read, node, at, count) for node, _ in sides]))
        return self._finish()

    def _at_once(self, offset: int, length: int, sides: list[tuple[Node, Place]]) -> bool:
        """Whether a stretch is alike, or zeros where one side alone is given, read by this thread."""
        for at in range(offset, offset + length, PART):
            count = min(PART, offset + length - at)
            for (node, (_, file, ahead)), view in zip(sides, self._views):
                _fill(node, at, view[:count], file, ahead)
            against = self._views[1] if len(sides) > 1 else memoryview(NOTHING)
            if not self._buffers[0].startswith(against[:count]):
                return self._differ(at, bytes(self._views[0][:count]), bytes(against[:count]))
            self.advance(count)
        return True

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(4, "compare")
            for _ in range(2 * (AHEAD + 1)):
                self._idle.put(bytearray(PART))
        return self._pool

    def _finish(self) -> bool:
        while self._reading:
            if not self._check():
                return False
        return True

    def _check(self) -> bool:
        """Compare the oldest part that threads read."""
        at, count, sides = self._reading.popleft()
        one, *more = [side.result() for side in sides]
        other = more[0] if more else NOTHING if count == PART else bytes(count)
        if one != other:
            return self._differ(at, one, other)
        self.advance(count)
        if count == PART:
            for buffer in (one, *more):
                self._idle.put(buffer)
        return True

    def _read(self, node: Node, at: int, count: int) -> bytearray:
        """Into an idle buffer, where it is to be filled: fresh memory costs more than what is done with it."""
        buffer = self._idle.get() if count == PART else bytearray(count)
        _fill(node, at, memoryview(buffer))
        return buffer

    def _differ(self, at: int, one: bytes | bytearray, other: bytes | bytearray) -> bool:
        """False, and where."""
        self.differs = at + next(
            start for start in range(0, len(one), SECTOR) if one[start : start + SECTOR] != other[start : start + SECTOR]
        )
        return False


def _fill(node: Node, offset: int, view: memoryview, file: File | None = None, ahead: int = 0) -> None:
    """Read from the file where that is given, else from the node."""
    try:
        if file is None:
            node.readv(offset, Vector((view,)))
        else:
            file.fill(offset + ahead, view)
    except OSError as error:
        raise ImageError(f"Error while reading offset {offset} of {node.filename}: {error.strerror}") from error


def _statuses(node: Node, start: int, end: int) -> Iterator[tuple[int, int, Place]]:
    """(start, end, what) as long as can be."""
    at, now, last = start, start, NOWHERE
    hidden = any(isinstance(layer, Format) and layer.guarded for layer in layers(node))
    for (kind, length, host, file, _), _, _ in pieces(node, start, end - start):
        if kind is Kind.DATA and isinstance(file, File) and host is not None and not hidden:
            place: Place = (STATUS[kind], file, host - now)
        else:
            place = (STATUS[kind], None, 0)
        if place != last and now > at:
            yield at, now, last
            at = now
        last = place
        now += length
    if now > at:
        yield at, now, (last[0]._replace(last=now == node.size), *last[1:])
