"""Rebase: an image gets another backing image and reads as before; what the two backing images do not share goes into it."""

from collections.abc import Iterator

from exuvia.disk.chain import stretches, together
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import CHUNK, Kind, Node
from exuvia.disk.vector import Vector


class Rebase(Job):
    """`image` stands on its backing image, and is to stand on `new` (None: on nothing). The name in the image is the caller's to change.

    Where `new` is an image of the old chain too (`shared` is that layer), what only that layer and those under it have is not compared.
    """

    def __init__(self, image: Format, new: Node | None, shared: Node | None = None) -> None:
        super().__init__()
        self.image, self.new, self.shared = image, new, shared
        self.total = image.size

    def run(self) -> None:
        unit = self.image.cluster or 512
        for start, end, kind in stretches(self.image, 0, self.image.size, self.image.backing):
            if kind is not Kind.ABSENT:
                self.advance(end - start, costly=False)
                continue
            for first, last in self._doubtful(start, end):
                for at in range(first, last, CHUNK):
                    self._keep(at, min(CHUNK, last - at), unit)
        self.image.flush()

    def _doubtful(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of [start, end) must be read: neither zeros in both backing images nor in the layers that both have."""
        old = _within(self.image.backing, start, end, self.shared)
        new = _within(self.new if self.shared is None else None, start, end)
        for first, last, one, other in together(old, new):
            if (one is Kind.ABSENT) if self.shared is not None else Kind.DATA not in (one, other):
                self.advance(last - first, costly=False)
            else:
                yield first, last

    def _keep(self, offset: int, length: int, unit: int) -> None:
        """Write the clusters whose content the new backing image has otherwise."""
        old, new = bytearray(length), bytearray(length)
        self.image.readv(offset, Vector((old,)))
        if self.new is not None:
            there = max(0, min(length, self.new.size - offset))
            if there:
                self.new.readv(offset, Vector((memoryview(new)[:there],)))
        if old != new:
            at = 0
            while at < length:
                start, at = at, _differ(old, new, at, unit, True)
                if at > start:
                    self.image.write(offset + start, memoryview(old)[start:at])
                at = _differ(old, new, at, unit, False)
        self.advance(length)


def _within(node: Node | None, start: int, end: int, base: Node | None = None) -> Iterator[tuple[int, int, Kind]]:
    """The stretches of a backing image, which may be shorter, or not there."""
    there = min(end, node.size) if node is not None and node is not base else start
    if node is not None and there > start:
        yield from stretches(node, start, there - start, base)
    if max(there, start) < end:
        yield max(there, start), end, Kind.ABSENT


def _differ(one: bytearray, other: bytearray, at: int, unit: int, differs: bool) -> int:
    """Where units that differ, or that do not, end."""
    length = len(one)
    while at < length and (one[at : at + unit] != other[at : at + unit]) is differs:
        at = min(at + unit, length)
    return at
