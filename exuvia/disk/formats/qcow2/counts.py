"""How often each host cluster is used, counted from the tables: sparse, a byte each, larger numbers apart."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

CHUNK = 1 << 16
LARGEST = 1 << 24  # clusters of a file that are one chunk
FEW = 512  # clusters of a chunk that are remembered one by one: as many bytes as the chunk would have
MANY = 255
UP = bytes([*range(1, 256), 255])


class Counts:
    """Memory goes with the clusters that are used, not with the file's size; `clusters` of an ordinary file are one chunk."""

    def __init__(self, clusters: int) -> None:
        self.clusters = clusters
        self.chunk = max(CHUNK, 1 << (clusters - 1).bit_length()) if clusters <= LARGEST else CHUNK
        self.chunks: dict[int, bytearray] = {}
        self.few: dict[int, dict[int, int]] = {}  # chunks of which few are used: those by their place therein
        self.more: dict[int, int] = {}  # uses behind the 255th

    def _chunk(self, number: int) -> bytearray:
        """The chunk's bytes, from now on if not before."""
        found = self.chunks.get(number)
        if found is None:
            found = self.chunks[number] = bytearray(self.chunk)
            for at, count in self.few.pop(number, {}).items():
                found[at] = min(count, MANY)
                if count > MANY:
                    self.more[number * self.chunk + at] = count - MANY
        return found

    def add(self, first: int, count: int = 1) -> None:
        """One use more of [first, first+count)."""
        while count:
            number, at = divmod(first, self.chunk)
            here = min(count, self.chunk - at)
            if here < FEW and number not in self.chunks:
                self._one_by_one(range(first, first + here))
            else:
                chunk = self._chunk(number)
                part = chunk[at : at + here]
                if MANY in part:
                    self._one_by_one(range(first, first + here))
                else:
                    chunk[at : at + here] = part.translate(UP)
            first += here
            count -= here

    def _one_by_one(self, clusters: Iterable[int]) -> None:
        for cluster in clusters:
            number, at = divmod(cluster, self.chunk)
            chunk = self.chunks.get(number)
            if chunk is None:
                few = self.few.setdefault(number, {})
                few[at] = few.get(at, 0) + 1
                if len(few) > FEW:
                    self._chunk(number)
            elif chunk[at] < MANY:
                chunk[at] += 1
            else:
                self.more[cluster] = self.more.get(cluster, 0) + 1

    def add_each(self, clusters: array[int]) -> None:
        """One use more of each, all of which lie in the file."""
        if self.clusters > self.chunk:
            self._one_by_one(clusters)
            return
        chunk, left, cluster = self._chunk(0), iter(clusters), 0
        while True:
            try:
                for cluster in left:
                    chunk[cluster] += 1
                return
            except ValueError:  # a byte is full
                self._one_by_one((cluster,))

    def single(self) -> bool:
        """Whether no cluster is used more than once."""
        return not any(chunk.translate(None, b"\0\1") for chunk in self.chunks.values()) and all(
            count == 1 for few in self.few.values() for count in few.values()
        )

    def get(self, cluster: int) -> int:
        """How often it is used."""
        number, at = divmod(cluster, self.chunk)
        chunk = self.chunks.get(number)
        return chunk[at] + self.more.get(cluster, 0) if chunk else self.few.get(number, {}).get(at, 0)

    def part(self, first: int, count: int) -> bytes:
        """`count` numbers from `first` on; 255 stands for that many or more."""
        found = bytearray()
        while count:
            number, at = divmod(first, self.chunk)
            here = min(count, self.chunk - at)
            if chunk := self.chunks.get(number):
                found += memoryview(chunk)[at : at + here]
            else:
                found += bytes(here)
                for place, uses in self.few.get(number, {}).items():
                    if at <= place < at + here:
                        found[place - at - here] = min(uses, MANY)
            first += here
            count -= here
        return bytes(found)

    def end(self) -> int:
        """The cluster after the last that is used."""
        for number in sorted({*self.chunks, *self.few}, reverse=True):
            chunk = self.chunks.get(number)
            used = len(chunk.rstrip(b"\0")) if chunk else max(self.few[number]) + 1
            if used:
                return number * self.chunk + used
        return 0

    def used_blocks(self, size: int) -> set[int]:
        """Numbers of stretches of `size` clusters that have uses."""
        found = {(number * self.chunk + at) // size for number, few in self.few.items() for at in few}
        for number in self.chunks:
            first, last = number * self.chunk // size, ((number + 1) * self.chunk - 1) // size
            found.update(n for n in range(first, last + 1) if self.part(n * size, size).strip(b"\0"))
        return found
