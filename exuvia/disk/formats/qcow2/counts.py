"""How often each host cluster is used, counted from the tables: sparse, a byte each, larger numbers apart."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

CHUNK = 1 << 16
LARGEST = 1 << 24  # clusters of a file that are one chunk
MANY = 255
UP = bytes([*range(1, 256), 255])


class Counts:
    """Memory goes with the clusters that are used, not with the file's size; `clusters` of an ordinary file are one chunk."""

    def __init__(self, clusters: int) -> None:
        self.chunks: dict[int, bytearray] = {}
        self.more: dict[int, int] = {}  # uses behind the 255th
        self.clusters = clusters
        self.chunk = max(CHUNK, 1 << (clusters - 1).bit_length()) if clusters <= LARGEST else CHUNK

    def _chunk(self, number: int) -> bytearray:
        found = self.chunks.get(number)
        if found is None:
            found = self.chunks[number] = bytearray(self.chunk)
        return found

    def add(self, first: int, count: int = 1) -> None:
        """One use more of [first, first+count)."""
        while count:
            number, at = divmod(first, self.chunk)
            here = min(count, self.chunk - at)
            chunk = self._chunk(number)
            part = chunk[at : at + here]
            if MANY not in part:
                chunk[at : at + here] = part.translate(UP)
            else:
                for cluster in range(first, first + here):
                    self._one(cluster)
            first += here
            count -= here

    def _one(self, cluster: int) -> None:
        chunk, at = self._chunk(cluster // self.chunk), cluster % self.chunk
        if chunk[at] < MANY:
            chunk[at] += 1
        else:
            self.more[cluster] = self.more.get(cluster, 0) + 1

    def add_each(self, clusters: array[int]) -> None:
        """One use more of each, all of which lie in the file."""
        if self.clusters > self.chunk:
            for cluster in clusters:
                self._one(cluster)
            return
        chunk, left, cluster = self._chunk(0), iter(clusters), 0
        while True:
            try:
                for cluster in left:
                    chunk[cluster] += 1
                return
            except ValueError:  # a byte is full
                self._one(cluster)

    def single(self) -> bool:
        """Whether no cluster is used more than once."""
        return not any(chunk.translate(None, b"\0\1") for chunk in self.chunks.values())

    def get(self, cluster: int) -> int:
        """How often it is used."""
        chunk = self.chunks.get(cluster // self.chunk)
        found = chunk[cluster % self.chunk] if chunk else 0
        return found + self.more.get(cluster, 0)

    def part(self, first: int, count: int) -> bytes:
        """`count` numbers from `first` on; 255 stands for that many or more."""
        found = bytearray()
        while count:
            number, at = divmod(first, self.chunk)
            here = min(count, self.chunk - at)
            chunk = self.chunks.get(number)
            found += memoryview(chunk)[at : at + here] if chunk else bytes(here)
            first += here
            count -= here
        return bytes(found)

    def end(self) -> int:
        """The cluster after the last that is used."""
        for number in sorted(self.chunks, reverse=True):
            used = len(self.chunks[number].rstrip(b"\0"))
            if used:
                return number * self.chunk + used
        return 0

    def used_chunks(self) -> Iterator[tuple[int, int]]:
        """[first, end) of clusters that may have uses, in order."""
        for number in sorted(self.chunks):
            yield number * self.chunk, (number + 1) * self.chunk
