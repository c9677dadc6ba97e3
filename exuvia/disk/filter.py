"""The base of filters: a node that stands in front of another and changes how that one is used, not what it holds.

What looks through the graph (chains of images, commands, jobs) sees the node behind it: its backing image, its clusters, its extents.
"""

from __future__ import annotations

from exuvia.disk.format import Format
from exuvia.disk.node import Extent, Node, Unsupported
from exuvia.disk.vector import Buffer, Vector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar


class Filter(Format):
    """Everything goes on to `file`. `CHILDREN` are the roles that a description has for what is under it; the first is `file` here.

    A filter is made with `cls(file, *others, writable=..., **options)`.
    """

    CHILDREN: ClassVar[tuple[str, ...]] = ("file",)
    guarded = True

    def __init__(self, file: Node, *others: Node, writable: bool | None = None, **options: Any) -> None:
        self.others = others
        super().__init__(file, writable=file.writable if writable is None else writable and file.writable, **options)

    def open(self) -> None:
        """Look at the options."""

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.file.size

    @property
    def backing(self) -> Node | None:
        """The backing image of the image behind this."""
        return getattr(self.file, "backing", None)

    @backing.setter
    def backing(self, node: Node | None) -> None:
        self.file.backing = node  # type: ignore[attr-defined]

    @property
    def cluster(self) -> int | None:  # type: ignore[override]
        """Of the image behind this."""
        return getattr(self.file, "cluster", None)

    @property
    def state_offset(self) -> int:
        """Of the image behind this."""
        return getattr(self.file, "state_offset", 0)

    def readv(self, offset: int, into: Vector) -> None:
        self.file.readv(offset, into)

    def writev(self, offset: int, data: Vector) -> None:
        self.file.writev(offset, data)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.file.zero(offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        self.file.discard(offset, length)

    def resize(self, size: int, preallocation: str = "off") -> None:
        self.file.resize(size, preallocation)

    def flush(self) -> None:
        self.file.flush()

    def read_state(self, offset: int, into: Vector) -> None:
        self._image().read_state(offset, into)

    def write_state(self, offset: int, data: Buffer) -> None:
        self._image().write_state(offset, data)

    def write_compressed(self, offset: int, data: Buffer) -> None:
        self._image().write_compressed(offset, data)

    def _image(self) -> Format:
        """What is behind this, where that is an image. Raises Unsupported."""
        if not isinstance(self.file, Format):
            raise Unsupported(f"{self.filename}: {self.file.name} is no image")
        return self.file

    def event(self, name: str) -> None:
        self.file.event(name)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self.file.extents(offset, length)

    def children(self) -> Iterator[tuple[str, Node]]:
        yield from zip(self.CHILDREN, (self.file, *self.others))
