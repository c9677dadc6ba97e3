"""A write-back cache of an image's tables, and the order in which they reach the disk.

A table must not point to what is not there after a power cut. So a cache can be told `after(other)`: nothing that is dirty in it reaches
the file before what `other` holds is safe there. Memory is bounded: the oldest pages go, written first where they are dirty.
"""

from collections import OrderedDict

from exuvia.disk.node import Node
from exuvia.disk.vector import Vector

RUN = 256  # pages that are written with one call at most


class Pages:
    """Pages of `size` bytes of `file`, `limit` of them at most; a page that would pass `end` is shorter.

    Not thread-safe: the format's lock guards it.
    """

    def __init__(self, file: Node, size: int, limit: int, end: int | None = None) -> None:
        self.file, self.size, self.limit, self.end = file, size, max(limit, 2), end
        self._pages: OrderedDict[int, bytearray] = OrderedDict()
        self._dirty: set[int] = set()
        self._after: Pages | None = None
        self._barrier: set[Node] = set()

    def page(self, offset: int) -> bytearray:
        """The page at `offset` of the file, to be read, or changed before `dirty(offset)`; use it before asking for the next."""
        page = self._pages.get(offset)
        if page is None:
            self._make_room()
            page = bytearray(self.file.read(offset, self.size if self.end is None else min(self.size, self.end - offset)))
            self._pages[offset] = page
        else:
            self._pages.move_to_end(offset)
        return page

    def fresh(self, offset: int, content: bytes | None = None) -> bytearray:
        """A page that is not read from the file, zeros unless `content` is given; dirty."""
        if offset not in self._pages:
            self._make_room()
        page = bytearray(content) if content is not None else bytearray(self.size)
        self._pages[offset] = page
        self._pages.move_to_end(offset)
        self._dirty.add(offset)
        return page

    def dirty(self, offset: int) -> None:
        """The page at `offset` was changed."""
        self._dirty.add(offset)

    @property
    def changed(self) -> bool:
        """Whether the file has not been given everything."""
        return bool(self._dirty)

    def after(self, other: "Pages") -> None:
        """Dirty pages reach the file only after `other`'s have, and are safe there. What waits the other way round is written first."""
        if other._after is self:
            other.write()
        if self._after is not other:
            if self._after is not None:
                self.write()
            self._after = other

    def after_data(self, node: Node | None = None) -> None:
        """Dirty pages reach the file only after a flush of `node`, which is the same file where it is not given."""
        self._barrier.add(node or self.file)

    def write(self) -> None:
        """Give every dirty page to the file, what it depends on first. A flush of the file makes them safe."""
        if self._after is not None:
            self._after.write()
            self._after = None
            self._barrier.add(self.file)
        if not self._dirty:
            return
        while self._barrier:
            next(iter(self._barrier)).flush()
            self._barrier.pop()
        run: list[int] = []
        for offset in sorted(self._dirty):
            if run and (offset != run[-1] + self.size or len(run) == RUN):
                self._write_run(run)
                run = []
            run.append(offset)
        self._write_run(run)

    def _write_run(self, run: list[int]) -> None:
        """Write neighbours, which stay dirty where that fails."""
        self.file.writev(run[0], Vector([self._pages[offset] for offset in run]))
        self._dirty.difference_update(run)

    def forget(self, offset: int | None = None) -> None:
        """Drop one page, or all, with their changes: their place has another use now."""
        if offset is None:
            self._pages.clear()
            self._dirty.clear()
        else:
            self._pages.pop(offset, None)
            self._dirty.discard(offset)

    def _make_room(self) -> None:
        while len(self._pages) >= self.limit:
            oldest = next(iter(self._pages))
            if oldest in self._dirty:
                self.write()
            self._pages.pop(oldest)
