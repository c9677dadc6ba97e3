"""Mirror: a running disk is copied to another node, which follows what is written until the disk moves there or the job ends."""

from exuvia.disk.chain import layers, stretches
from exuvia.disk.dirty import Dirty
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Cancelled, Job
from exuvia.disk.jobs.stream import close_alone
from exuvia.disk.jobs.tap import Tap
from exuvia.disk.node import Kind, Node
from exuvia.disk.queue import Queue
from exuvia.disk.ranges import Ranges
from exuvia.disk.vector import Vector

AT_ONCE = 1 << 20  # bytes
PATIENCE = 0.5  # seconds between looks whether the job is wanted still


class Mirror(Job):
    """`target` is writable and as long as the disk; `zeroed`: it reads as zeros now.

    sync       full: all of it; top: what the image itself has, for a target that stands on the same backing image; none: what is
               written from now on
    blocking   a write of the guest is done when the target has it too
    unmap      zeros may give up their room at the target

    When it has caught up, `ready` is set; then `complete` moves the disk to the target (`pivot`) or leaves both, which are alike then.
    `cancel` ends it at once.
    """

    def __init__(
        self,
        queue: Queue,
        target: Node,
        *,
        sync: str = "full",
        zeroed: bool = False,
        blocking: bool = False,
        granularity: int = 64 << 10,
        unmap: bool = True,
    ) -> None:
        super().__init__()
        self.queue, self.image, self.target = queue, queue.node, target
        self.sync, self.zeroed, self.blocking, self.unmap = sync, zeroed, blocking, unmap
        if target.size < self.image.size:
            raise ValueError(f"the target has {target.size} bytes, the disk {self.image.size}")
        if not target.writable:
            raise ValueError(f"{target.filename}: the target is not open for writing")
        self.dirty = Dirty(self.image.size, granularity)
        self.base: Node | None = getattr(self.image, "backing", None) if sync == "top" else None
        self._ranges = Ranges()
        self._completing: bool | None = None  # pivot or not
        self._failure: BaseException | None = None

    def complete(self, pivot: bool = True) -> None:
        """End when both are alike, with the disk at the target when `pivot`. Raises ValueError before the job is ready."""
        if not self.ready.is_set():
            raise ValueError("the job is not ready, it has not caught up yet")
        self._completing = pivot
        self.dirty.wake()

    def cancel(self) -> None:
        super().cancel()
        self.dirty.wake()

    def run(self) -> None:
        tap = Tap(self.image, after=self._written)
        self.queue.exchange(lambda node: tap)
        try:
            self._mark_all()
            self.total = self.dirty.left()
            while True:
                self._catch_up()
                self.ready.set()
                if self._completing is not None:
                    break
                self.dirty.wait(PATIENCE, lambda: self._cancelled or self._completing is not None)
                self.advance(0, costly=False)
            self.queue.exchange(lambda node: self._finish())
        except BaseException:
            self.queue.exchange(lambda node: self.image)
            raise

    def _mark_all(self) -> None:
        """What has to be copied at first."""
        if self.sync == "full" and not self.zeroed:
            self.dirty.mark(0, self.image.size)
        elif self.sync != "none":
            for start, end, kind in stretches(self.image, 0, self.image.size, self.base):
                if kind is Kind.DATA or (kind is Kind.ZERO and self.sync == "top"):
                    self.dirty.mark(start, end - start)

    def _written(self, offset: int, length: int) -> None:
        """A change of the guest is done."""
        self.dirty.mark(offset, length)
        if self.blocking:
            try:
                while (stretch := self.dirty.next(offset, length)) is not None:
                    self._copy(*stretch, clear=True)
            except Exception as error:
                self._failure = error  # the guest's write went well, and the job ends
                self.dirty.mark(offset, length)

    def _catch_up(self) -> None:
        while (stretch := self.dirty.take(AT_ONCE)) is not None:
            self._copy(*stretch)
            self.total = self.done + stretch[1] + self.dirty.left()
            self.advance(stretch[1])
            if self._failure is not None:
                raise self._failure

    def _copy(self, offset: int, length: int, clear: bool = False) -> None:
        with self._ranges.hold(offset, offset + length):
            if clear:
                self.dirty.clear(offset, length)
            for start, end, kind in list(stretches(self.image, offset, length, self.base)):
                if kind is Kind.DATA:
                    buffer = Vector((bytearray(end - start),))
                    self.image.readv(start, buffer)
                    self.target.writev(start, buffer)
                elif kind is Kind.ZERO or self.base is None:
                    self.target.zero(start, end - start, self.unmap)

    def _finish(self) -> Node:
        """Nothing is under way: copy the rest."""
        if self._cancelled:
            raise Cancelled
        while (stretch := self.dirty.take(AT_ONCE)) is not None:
            self._copy(*stretch)
            self.done += stretch[1]
        if self._failure is not None:
            raise self._failure
        self.target.flush()
        return self.moved() if self._completing else self.image

    def moved(self) -> Node:
        """What the disk is from now on."""
        return self.target


class ActiveCommit(Mirror):
    """What a running disk's image and those between it and `base` have goes into `base`, which is writable; then the disk is `base`."""

    def __init__(self, queue: Queue, base: Format, *, blocking: bool = False) -> None:
        if base.writable and base.size < queue.node.size:
            base.resize(queue.node.size)
        super().__init__(queue, base, sync="top", blocking=blocking)
        self.base = base

    def moved(self) -> Node:
        for layer in list(layers(self.image)):
            if layer is self.target:
                break
            close_alone(layer)
        return self.target
