"""Rebase: an image gets another backing image and reads as before; what the two backing images do not share goes into it."""

from exuvia.disk.chain import layers, stretches
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
        if self.shared is not None and all(layer is not self.shared for layer in layers(self.image)):
            raise ValueError("the shared layer is not in the chain")
        unit = self.image.cluster or 512
        for start, end, kind in stretches(self.image, 0, self.image.size, self.image.backing):
            if kind is not Kind.ABSENT:
                self.advance(end - start, costly=False)
                continue
            for first, last, below in list(stretches(self.image, start, end - start, self.shared)) if self.shared else [(start, end, kind)]:
                if self.shared is not None and below is Kind.ABSENT:
                    self.advance(last - first, costly=False)
                    continue
                for at in range(first, last, CHUNK):
                    self._keep(at, min(CHUNK, last - at), unit)
        self.image.flush()

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


def _differ(one: bytearray, other: bytearray, at: int, unit: int, differs: bool) -> int:
    """Where units that differ, or that do not, end."""
    length = len(one)
    while at < length and (one[at : at + unit] != other[at : at + unit]) is differs:
        at = min(at + unit, length)
    return at
