"""What stands in front of a running disk while a job works on it, and tells the job of changes."""

from collections.abc import Callable

from exuvia.disk.filter import Filter
from exuvia.disk.node import Node, Unsupported
from exuvia.disk.vector import Vector


class Tap(Filter):
    """`before` and `after` are called with the offset and the length of every change; `after` also when it failed."""

    name = "tap"

    def __init__(
        self, file: Node, before: Callable[[int, int], None] | None = None, after: Callable[[int, int], None] | None = None
    ) -> None:
        super().__init__(file)
        self.before, self.after = before, after

    def _change(self, offset: int, length: int, change: Callable[[], None]) -> None:
        if self.before is not None:
            self.before(offset, length)
        try:
            change()
        finally:
            if self.after is not None:
                self.after(offset, length)

    def writev(self, offset: int, data: Vector) -> None:
        self._change(offset, data.length, lambda: self.file.writev(offset, data))

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self._change(offset, length, lambda: self.file.zero(offset, length, unmap))

    def discard(self, offset: int, length: int) -> None:
        self._change(offset, length, lambda: self.file.discard(offset, length))

    def resize(self, size: int, preallocation: str = "off") -> None:
        raise Unsupported(f"{self.filename}: a job is at work on it, it cannot be resized")
