"""Formats that keep a disk in blocks found through one flat table: an entry for each block, which tells where in the file it lies."""

from __future__ import annotations

import struct
from abc import abstractmethod

from exuvia.disk.clusters import Room, Writable
from exuvia.disk.node import Extent, ImageError, Kind, Node
from exuvia.disk.pages import Pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
CACHED = 4096  # pages of a table that are kept: 16 MiB


class BlockTable:
    """`count` entries from `offset` of `file` on; `code` is their `struct` code, such as `<I`. Changes wait in `pages`."""

    def __init__(self, file: Node, offset: int, count: int, code: str) -> None:
        self.offset, self.count = offset, count
        self.order, self.letter = code[0], code[1]
        self.entry = struct.Struct(code)
        self.pages = Pages(file, PAGE, CACHED, offset + count * self.entry.size)

    def _page(self, index: int) -> tuple[int, int]:
        """The page's offset in the file, and the entry's inside the page."""
        page, inside = divmod(index * self.entry.size, PAGE)
        return self.offset + page * PAGE, inside

    def __getitem__(self, index: int) -> int:
        page, inside = self._page(index)
        value: int = self.entry.unpack_from(self.pages.page(page), inside)[0]
        return value

    def set(self, index: int, first: int, step: int, count: int) -> None:
        """Entries from `index` on become `first`, `first + step` … `count` of them."""
        for each in range(count):
            page, inside = self._page(index + each)
            self.entry.pack_into(self.pages.page(page), inside, first + each * step)
            self.pages.dirty(page)

    def run(self, index: int, last: int, step: int) -> int:
        """How many entries up to `last` grow by `step` each, from `index` on; the page's end ends it too."""
        page, inside = self._page(index)
        values = self._values(page, inside, last + 1 - index)
        expected = values[0]
        for count, value in enumerate(values):
            if value != expected:
                return count
            expected += step
        return len(values)

    def _values(self, page: int, inside: int, most: int) -> tuple[int, ...]:
        data = self.pages.page(page)
        count = min(most, (len(data) - inside) // self.entry.size)
        return struct.unpack_from(f"{self.order}{count}{self.letter}", data, inside)

    def used(self, *empty: int) -> Iterator[tuple[int, int]]:
        """Index and entry of all that are none of `empty`, which cost next to nothing where pages hold nothing else."""
        for first in range(0, self.count, PAGE // self.entry.size):
            values = self._values(self._page(first)[0], 0, self.count - first)
            if values.count(values[0]) == len(values) and values[0] in empty:
                continue
            for index, value in enumerate(values, first):
                if value not in empty:
                    yield index, value

    def highest(self, below: int, default: int = -1) -> int:
        """The highest entry below a value."""
        found = default
        for first in range(0, self.count, PAGE // self.entry.size):
            values = self._values(self._page(first)[0], 0, self.count - first)
            if min(values) < below:
                found = max(found, *(each for each in values if each < below))
        return found


class Seen:
    """A set of small numbers, in a byte each; made for checks, which see each block once."""

    def __init__(self) -> None:
        self._parts: dict[int, bytearray] = {}
        self.highest = -1
        self.count = 0

    def add(self, number: int) -> bool:
        """Whether it is new."""
        part = self._parts.get(number >> 16)
        if part is None:
            part = self._parts[number >> 16] = bytearray(1 << 16)
        self.highest = max(self.highest, number)
        new = not part[number & 0xFFFF]
        self.count += new
        part[number & 0xFFFF] = 1
        return new


class Blocks(Writable):
    """`open` sets `table`, `step` (what entries of neighbours differ by, None where neighbours never lie together), `end` (where the
    file has room for the next block) and perhaps `whole` (everything has its place, so that holes in the file are worth looking for).
    """

    table: BlockTable
    step: int | None
    end: int
    whole = False
    MOST = 64 << 20  # bytes of room that are given at once

    @abstractmethod
    def meaning(self, entry: int) -> tuple[Kind, int | None]:
        """What an entry says: DATA at an offset of the file, ZERO or ABSENT. Raises ImageError where that cannot be."""

    @abstractmethod
    def entry(self, host: int) -> int:
        """The entry for a block whose content lies at `host`."""

    def lookup(self, offset: int, length: int) -> Extent:
        index, inside = divmod(offset, self.cluster)
        kind, host = self.meaning(self.table[index])
        if inside + length > self.cluster:
            step = self.step if kind is Kind.DATA else 0
            blocks = 1 if step is None else self.table.run(index, (offset + length - 1) // self.cluster, step)
            length = min(length, blocks * self.cluster - inside)
        return Extent(kind, length, None if host is None else host + inside, self.file)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Of a preallocated image, holes in the file are zeros that keep their room."""
        for extent in super().extents(offset, length):
            if not self.whole or extent.kind is not Kind.DATA or extent.host is None:
                yield extent
                continue
            host = extent.host
            for part in self.file.extents(host, extent.length):
                yield Extent(Kind.DATA if part.kind is Kind.DATA else Kind.ZERO, part.length, host, self.file)
                host += part.length

    def place(self, offset: int, length: int) -> Room:
        host, length = self.end, min(length, max(self.MOST // self.cluster, 1) * self.cluster)
        self.entry(host + length - self.cluster)  # says so when the table cannot express it
        there = self.file.size
        clear = there <= host
        if there < host + length:
            self.file.resize(host + length)
        self.end += length
        return Room(host, length, clear, self.file)

    def link(self, offset: int, room: Room) -> None:
        self.table.pages.after_data()
        self.table.set(offset // self.cluster, self.entry(room.host), self.step or 0, room.length // self.cluster)

    def discard(self, offset: int, length: int) -> None:
        """Blocks keep their place; the file may give up their room, after which they read as zeros."""
        for extent in self.extents(offset, length):
            if extent.kind is Kind.DATA and extent.host is not None:
                self.file.discard(extent.host, extent.length)

    def flush(self) -> None:
        with self.lock:
            self.table.pages.write()
        self.file.flush()

    def must_fit(self, what: str, offset: int, length: int) -> None:
        """Refuse a header whose table, called `what`, does not lie in the file."""
        if offset + length > self.file.size:
            raise ImageError(f"{self.filename}: the {what} ends at byte {offset + length}, the file at {self.file.size}")
