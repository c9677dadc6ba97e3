"""Copying images: only what there is, zeros as holes, reading and writing at the same time, compression on every processor.

What lies verbatim in a file of the host goes the short way: from file to file where zeros are looked for in large units, else through
a buffer that stays in a processor's cache, every processor taking the next piece of a raw image.
"""

from __future__ import annotations

import os
import queue
import threading

from exuvia.disk.chain import layers, places
from exuvia.disk.elsewhere import Elsewhere
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import CHUNK, ZEROS, ImageError, Kind, Node
from exuvia.disk.processors import COUNT, idle, share
from exuvia.disk.protocols.file import FARTHEST, File
from exuvia.disk.vector import Vector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

SECTOR = 512
BUFFERS = 4  # of CHUNK bytes, between the one who reads and those who write
LONG = 8 * CHUNK  # bytes that go the short way at once
LARGEST_UNIT = 64 << 10  # zeros are not looked for in units larger than this
NEAR = 512 << 10  # bytes that are still in a processor's own cache when they are written
LOOK = 32  # bytes at the beginning of a unit that tell most units with data from zeros
LARGE = 16 << 10  # a unit of so many bytes takes longer to read than to be looked at

Stretch = tuple[Node, int, int, int, Kind, Node | None, int]
"""Source, where in it, where in the target, bytes, what; the file where that lies verbatim, where therein."""


class Copy(Job):
    """`sources`, one after the other, to `target`, which is as long as they are together (each in whole sectors).

    zeroed     the target reads as zeros now
    backed     the target stands on a backing image: what a source's top layer does not have is left to that
    sparse     so many zeros in a row, at aligned places, become a hole; with 0 everything is written
    compress   the target gets compressed clusters
    offload    let the host copy between plain files, without a look for zeros
    writers    how many threads write; with more than one the order is left open
    salvage    called with an offset and an error where a source cannot be read: zeros take the place; without it, that is the end
    """

    def __init__(
        self,
        sources: Sequence[Node],
        target: Node,
        *,
        zeroed: bool = False,
        backed: bool = False,
        sparse: int = 4096,
        compress: bool = False,
        offload: bool = False,
        writers: int = 1,
        salvage: Callable[[int, OSError], None] | None = None,
    ) -> None:
        super().__init__()
        self.sources, self.target = sources, target
        self.zeroed, self.backed, self.sparse, self.compress, self.offload = zeroed, backed, sparse, compress, offload
        self.writers, self.salvage = writers, salvage
        self.total = sum(whole(source.size) for source in sources)
        cluster = target.cluster if isinstance(target, Format) else None
        self.align = cluster or 1 if compress else min(cluster or 1, LARGEST_UNIT)
        self.unit = self.align if compress else max(sparse, self.align) if sparse else 0

    def run(self) -> None:
        mover = _Compressor(self) if self.compress else _Writer(self)
        try:
            for source, start, at, length, kind, file, host in self._plan():
                if kind is Kind.DATA:
                    self._move(source, start, at, length, mover, file, host)
                elif kind is Kind.ABSENT and self.backed:
                    self.advance(length, costly=False)
                elif self.sparse:
                    if not self.zeroed:
                        mover.zero(at, length)
                    self.advance(length, costly=False)
                else:
                    self._clear(at, length, mover)
            mover.finish()
        finally:
            mover.end()

    def _plan(self) -> Iterator[Stretch]:
        """What is to be done, in order; data begins and ends at multiples of `align`."""
        base, align = 0, self.align
        for source in self.sources:
            size = source.size
            below = getattr(source, "backing", None) if self.backed else None
            open_files = not any(isinstance(layer, Format) and layer.guarded for layer in layers(source))
            done = first = last = where = 0
            before, node = Kind.ABSENT, None
            for start, end, kind, file, host in places(source, 0, size, below):
                if kind is Kind.DATA:
                    if not open_files or not isinstance(file, File):
                        file = None
                    if (base + start) % align or (base + end) % align:
                        head, tail = (base + start) % align, min(-(base + end) % align, size - end)
                        if (head or tail) and source.name != "raw":
                            file = None
                        start, end, host = start - head, end + tail, host - head
                    last = min(last, start)
                if first < last:
                    yield source, first, base + first, last - first, before, node, where
                    done = last
                if start < done:
                    start, host = done, host + done - start
                first, last, before, node, where = start, end, kind, file, host
            if first < last:
                yield source, first, base + first, last - first, before, node, where
            if size % SECTOR:
                yield source, size, base + size, -size % SECTOR, Kind.ZERO, None, 0
            base += whole(size)

    def _move(self, source: Node, start: int, at: int, length: int, mover: _Mover, file: Node | None, host: int) -> None:
        end, ahead = at + length, host - at
        while at < end:
            most = CHUNK if self.speed else LONG
            count = min(end - at, most - at % most)
            if file is None or not mover.take(file, at + ahead, at, count):
                count = min(count, CHUNK - at % CHUNK)
                with mover.room(at, count) as view:
                    self._read(source, start, view)
                mover.filled()
            self.advance(count)
            start, at = start + count, at + count

    def _clear(self, at: int, length: int, mover: _Mover) -> None:
        """Write zeros where none may be left out."""
        end = at + length
        while at < end:
            count = min(end - at, CHUNK - at % CHUNK)
            with mover.room(at, count) as view:
                view[:] = bytes(count)
            mover.filled()
            self.advance(count)
            at += count

    def _read(self, source: Node, offset: int, into: memoryview) -> None:
        try:
            source.readv(offset, Vector((into,)))
        except OSError as error:
            if self.salvage is None:
                raise ImageError(f"{source.filename}: error while reading at byte {offset}: {error.strerror}") from error
            if len(into) <= SECTOR:
                self.salvage(offset, error)
                into[:] = bytes(len(into))
                return
            half = max(SECTOR, len(into) // 2 // SECTOR * SECTOR)
            self._read(source, offset, into[:half])
            self._read(source, offset + half, into[half:])

    def runs(self, data: bytearray, first: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """(start, end, whether zeros) of `length` bytes from `first` on, in units."""
        unit, last = self.unit, first + length
        if not unit:
            yield first, last, False
            return
        if tail := length % unit:
            data[last : last + unit - tail] = bytes(unit - tail)  # stale bytes there
        zeros, is_at, at = bytes(unit), data.startswith, first
        while at < last:
            start = at
            while at < last and not is_at(zeros, at):
                at += unit
            if start < at:
                yield start, min(at, last), False
            if at < last:
                start = at
                if is_at(memoryview(ZEROS)[: last - start], start):
                    at = last
                while at < last and is_at(zeros, at):
                    at += unit
                yield start, min(at, last), True

    def looked(self, file: File, host: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """`runs` of what lies in a file: a look at the beginning of each unit, which is read where that is zeros."""
        unit = self.unit or length
        fd, nothing, zeros, start, before = file.fd, bytes(LOOK), bytes(unit), 0, False
        for at in range(0, length if self.unit and not self.offload else 0, unit):
            now = os.pread(fd, LOOK, host + at) == nothing
            if now:
                count = min(unit, length - at)
                now = file.read(host + at, count) == (zeros if count == unit else bytes(count))
            if now is not before:
                if start < at:
                    yield start, at, before
                start, before = at, now
        yield start, length, before


Place = tuple[int, int, int]  # where in a buffer, where in the target, bytes


class _Mover:
    """The far side of a copy: takes buffers and puts them into the target. A buffer holds as many small pieces as there is room for."""

    def __init__(self, job: Copy) -> None:
        self.job, self.target = job, job.target
        self.current: bytearray | None = None  # the buffer that is being filled
        self.places: list[Place] = []
        self.used = 0
        self.free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self.unmade = BUFFERS  # filling one with zeros takes a millisecond
        self.failure: BaseException | None = None

    def room(self, at: int, length: int) -> memoryview:
        """Where the next bytes of the target, [at, at+length), are to be put; `filled` says that they are there."""
        if self.current is not None and self.used + length > CHUNK:
            self.hand_over()
        if self.current is None:
            self.current, self.used, self.places = self.buffer(), 0, []
        start = self.used
        self.places.append((start, at, length))
        self.used += length + -length % max(self.job.unit, 1)
        return memoryview(self.current)[start : start + length]

    def filled(self) -> None:
        """The last room has its content."""
        if self.used >= CHUNK:
            self.hand_over()

    def hand_over(self) -> None:
        """Let what is in the current buffer be written."""
        if self.current is not None:
            buffer, self.current = self.current, None
            self.move(buffer, self.places)

    def buffer(self) -> bytearray:
        """An idle buffer; raises what went wrong meanwhile."""
        if self.unmade and self.free.empty():
            self.unmade -= 1
            self.free.put(self.made())
        buffer = self.free.get()
        self._raise()
        return buffer

    def made(self) -> bytearray:
        """A new buffer: CHUNK bytes, and the rest of a unit."""
        return bytearray(CHUNK + max(self.job.unit, self.job.align))

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    def write(self, function: Callable[..., None], at: int, *rest: object) -> None:
        """A call to the target, whose errors say where."""
        try:
            function(at, *rest)
        except OSError as error:
            raise ImageError(f"{self.target.filename}: error while writing at byte {at}: {error.strerror or error}") from error

    def take(self, file: Node, host: int, at: int, length: int) -> bool:
        """Move bytes that lie at `host` of a file the short way, if there is one and nothing is under way that comes first."""
        return False

    def zero(self, at: int, length: int) -> None:
        """Make the target read as zeros there."""
        self.write(self.target.zero, at, length)

    def move(self, buffer: bytearray, places: list[Place]) -> None:
        """Take over a buffer that was filled."""
        raise NotImplementedError

    def finish(self) -> None:
        """Return when all is written; raises what went wrong."""
        self.hand_over()
        self.end()
        self._raise()

    def end(self) -> None:
        """Stop the threads."""


class _Writer(_Mover):
    """Writes: on its own threads what was read, in the caller's what lies in files."""

    def __init__(self, job: Copy) -> None:
        super().__init__(job)
        self.full: queue.SimpleQueue[tuple[bytearray, list[Place]] | None] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.between = not job.unit or job.unit >= LARGE  # whether the host copies between files
        self.plain = job.target.name == "raw" and isinstance(getattr(job.target, "file", None), File)
        self.short = True  # whether there is a short way: until one was in vain
        self.own: list[bytearray] = []  # buffers of NEAR bytes and a unit

    def move(self, buffer: bytearray, places: list[Place]) -> None:
        if not self.threads:
            self.threads = [
                threading.Thread(target=self._work, name="copy", daemon=True) for _ in range(max(1, min(self.job.writers, BUFFERS)))
            ]
            for thread in self.threads:
                thread.start()
        self.full.put((buffer, places))

    def _work(self) -> None:
        while (item := self.full.get()) is not None:
            buffer, places = item
            if self.failure is None:
                try:
                    for place in places:
                        self._put(buffer, *place)
                except BaseException as error:
                    self.failure = error
            self.free.put(buffer)

    def _put(self, buffer: bytearray, first: int, at: int, length: int) -> None:
        view = memoryview(buffer)
        for start, end, zeros in self.job.runs(buffer, first, length):
            if not zeros:
                self.write(self.target.writev, at + start - first, Vector((view[start:end],)))
            elif not self.job.zeroed:
                self.zero(at + start - first, end - start)

    def take(self, file: Node, host: int, at: int, length: int) -> bool:
        busy = self.current is not None or (self.threads and self.free.qsize() + self.unmade < BUFFERS)
        if busy or not self.short or not isinstance(file, File) or host + length > FARTHEST:
            return False
        try:
            if self.between:
                self._between(file, host, at, length)
            else:
                self._through(file, host, at, length)
        except OSError:  # the long way tells where, and whether it was read or written
            self.short = False
        return self.short

    def _through(self, file: File, host: int, at: int, length: int) -> None:
        starts = iter(range(0, length, NEAR))

        def work() -> None:
            try:
                buffer = self.own.pop()
            except IndexError:
                buffer = bytearray(NEAR + self.job.unit)
            for start in starts:
                count = min(NEAR, length - start)
                file.fill(host + start, memoryview(buffer)[:count])
                self._put(buffer, 0, at + start, count)
            self.own.append(buffer)

        share(work, COUNT if self.plain and length > NEAR and idle() else 1)

    def _between(self, file: File, host: int, at: int, length: int) -> None:
        for start, end, zeros in self.job.looked(file, host, length):
            if not zeros:
                piece = Elsewhere(file, host + start, end - start)
                self.target.writev(at + start, piece)
                self.between = self.between and piece.loaded is None
            elif not self.job.zeroed:
                self.target.zero(at + start, end - start)

    def end(self) -> None:
        for _ in self.threads:
            self.full.put(None)
        for thread in self.threads:
            thread.join()
        self.threads = []


class _Compressor(_Mover):
    """Compresses a cluster at a time on every processor."""

    def __init__(self, job: Copy) -> None:
        from concurrent.futures import ThreadPoolExecutor

        super().__init__(job)
        self.pool = ThreadPoolExecutor(COUNT, "compress")

    def move(self, buffer: bytearray, places: list[Place]) -> None:
        view = memoryview(buffer)
        work: list[Future[None]] = []
        for first, at, length in places:
            for start, end, zeros in self.job.runs(buffer, first, length):
                if zeros and self.job.sparse:
                    if not self.job.zeroed:
                        self.zero(at + start - first, end - start)
                    continue
                for unit in range(start, end, self.job.align):
                    data = view[unit : min(unit + self.job.align, first + length)]
                    work.append(self.pool.submit(self.write, self.format().write_compressed, at + unit - first, data))
        left = len(work)
        if not left:
            self.free.put(buffer)
            return
        lock = threading.Lock()

        def one_less(done: Future[None]) -> None:
            nonlocal left
            if not done.cancelled() and (error := done.exception()):
                self.failure = self.failure or error
            with lock:
                left -= 1
                last = not left
            if last:
                self.free.put(buffer)

        for each in work:
            each.add_done_callback(one_less)

    def format(self) -> Format:
        """The target, which is a format's image where there is compression."""
        assert isinstance(self.target, Format)
        return self.target

    def end(self) -> None:
        self.pool.shutdown(cancel_futures=self.failure is not None)


def whole(size: int) -> int:
    """`size` in whole sectors."""
    return size + -size % SECTOR
