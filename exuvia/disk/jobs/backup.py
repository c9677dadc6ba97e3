"""Backup: what a running disk held at one moment goes to another node; what is overwritten meanwhile is copied before."""

from exuvia.disk.chain import stretches
from exuvia.disk.dirty import Dirty
from exuvia.disk.jobs.job import Job
from exuvia.disk.jobs.tap import Tap
from exuvia.disk.node import Kind, Node
from exuvia.disk.queue import Queue
from exuvia.disk.ranges import Ranges
from exuvia.disk.vector import Vector

AT_ONCE = 1 << 20  # bytes
LEAST = 64 << 10  # bytes that are copied at once, or a cluster of the target


class Backup(Job):
    """`target` is writable and as long as the disk; `zeroed`: it reads as zeros now. The moment is that of `run`.

    sync  full: all of it; top: what the image itself has; incremental: what `changed` says; none: only what gets overwritten

    A target that cannot be written ends the job, not the guest's writes.
    """

    def __init__(self, queue: Queue, target: Node, *, sync: str = "full", changed: Dirty | None = None, zeroed: bool = False) -> None:
        super().__init__()
        self.queue, self.image, self.target = queue, queue.node, target
        self.sync, self.changed, self.zeroed = sync, changed, zeroed
        if target.size < self.image.size:
            raise ValueError(f"the target has {target.size} bytes, the disk {self.image.size}")
        if not target.writable:
            raise ValueError(f"{target.filename}: the target is not open for writing")
        if (sync == "incremental") is (changed is None):
            raise ValueError("an incremental backup, and no other, needs to know what has changed")
        self.unit = max(LEAST, getattr(target, "cluster", None) or 0)
        self.base: Node | None = getattr(self.image, "backing", None) if sync == "top" else None
        self.left = Dirty(self.image.size, self.unit)
        self._ranges = Ranges()
        self._failure: BaseException | None = None

    def run(self) -> None:
        self.queue.exchange(self._begin)
        try:
            self.total = self.left.left()
            at = 0
            while self.sync != "none" and (stretch := self.left.next(at, self.image.size - at)) is not None:
                offset, length = stretch[0], min(stretch[1], max(AT_ONCE, self.unit))
                self._save(offset, length)
                self._look()
                self.advance(length)
                at = offset + length
            while self.sync == "none":
                self.left.wait(0.5)
                self.advance(0, costly=False)
                self._look()
            self.target.flush()
        finally:
            self.queue.exchange(lambda node: self.image)
        self._look()

    def _begin(self, node: Node) -> Node:
        """Nothing is under way: this is the moment."""
        if self.changed is not None:
            at = 0
            while (stretch := self.changed.next(at, self.image.size - at)) is not None:
                self.left.mark(*stretch)
                at = sum(stretch)
        elif self.sync == "top" or self.zeroed:
            for start, end, kind in stretches(self.image, 0, self.image.size, self.base):
                if kind is Kind.DATA or (kind is Kind.ZERO and self.sync == "top"):
                    self.left.mark(start, end - start)
        else:
            self.left.mark(0, self.image.size)
        return Tap(node, before=self._overwritten)

    def _look(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _overwritten(self, offset: int, length: int) -> None:
        """The guest is about to change something."""
        if self._failure is not None:
            return
        try:
            self._save(offset, length)
        except Exception as error:
            self._failure = error

    def _save(self, offset: int, length: int) -> None:
        """Copy what of [offset, offset+length) was not copied yet; return when nobody copies it any more."""
        first = offset - offset % self.unit
        end = offset + length
        with self._ranges.hold(first, end + -end % self.unit):
            while (stretch := self.left.next(offset, length)) is not None:
                for start, stop, kind in list(stretches(self.image, *stretch, self.base)):
                    if kind is Kind.DATA:
                        self._move(start, stop)
                    elif kind is Kind.ZERO or self.base is None:
                        self.target.zero(start, stop - start)
                self.left.clear(*stretch)

    def _move(self, start: int, stop: int) -> None:
        for at in range(start, stop, AT_ONCE):
            buffer = Vector((bytearray(min(AT_ONCE, stop - at)),))
            self.image.readv(at, buffer)
            self.target.writev(at, buffer)
