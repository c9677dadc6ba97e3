"""null-co: a disk without a place: writes go nowhere, reads bring what is there or zeros. For measurements of everything else."""

import time
from collections.abc import Iterator
from typing import Any

from exuvia.disk.node import Extent, Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector


class NullCo(Node):
    """Reads leave the memory as it is, unless `read-zeroes`; every request takes `latency-ns` nanoseconds."""

    name = "null-co"
    schemes: tuple[str, ...] = ("null-co",)
    OPTIONS = (
        Option("size", "size", 1 << 30, "how large it is"),
        Option("latency-ns", int, 0, "how long a request takes"),
        Option("read-zeroes", bool, False, "reads bring zeros"),
    )

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """`null-co://`."""
        return {"driver": cls.name}

    def __init__(self, *, writable: bool = False, share: bool = False, size: int = 1 << 30, **said: Any) -> None:
        self.filename, self.writable, self.size = f"{self.name}://", writable, size
        self.seconds: float = said.get("latency-ns", 0) / 1e9
        self.zeros: bool = said.get("read-zeroes", False)

    def _work(self) -> None:
        if self.seconds:
            time.sleep(self.seconds)

    def readv(self, offset: int, into: Vector) -> None:
        self._work()
        if self.zeros:
            into.clear()

    def writev(self, offset: int, data: Vector) -> None:
        self._work()

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self._work()

    def discard(self, offset: int, length: int) -> None:
        self._work()

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.size = size

    def flush(self) -> None:
        self._work()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        yield Extent(Kind.ZERO if self.zeros else Kind.DATA, length, offset, self)
