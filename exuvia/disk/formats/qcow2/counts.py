"""How often each host cluster is used, counted from the tables: sparse, a byte each, larger numbers apart."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 1 << 16
MANY = 255
UP = bytes([*range(1, 256), 255])


class Counts:
    """Memory goes with the clusters that are used, not with the file's size."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytearray] = {}
        self.many: dict[int, int] = {}

    def add(self, first: int, count: int = 1) -> None:
        """One use more of [first, first+count)."""
        while count:
            number, at = divmod(first, CHUNK)
            here = min(count, CHUNK - at)
            chunk = self.chunks.get(number)
            if chunk is None:
                chunk = self.chunks[number] = bytearray(CHUNK)
            if here == 1:
                if chunk[at] < MANY - 1:
                    chunk[at] += 1
                else:
                    self._many(chunk, at, first)
            else:
                part = chunk[at : at + here]
                if MANY in part or MANY - 1 in part:
                    for each in range(here):
                        self.add(first + each)
                else:
                    chunk[at : at + here] = part.translate(UP)
            first += here
            count -= here

    def add_each(self, clusters: Iterable[int]) -> None:
        """One use more of each."""
        chunks = self.chunks
        for cluster in clusters:
            chunk, at = chunks.get(cluster // CHUNK), cluster % CHUNK
            if chunk is None or chunk[at]:
                self.add(cluster)
            else:
                chunk[at] = 1

    def most(self) -> int:
        """The largest number; 255 stands for that many or more."""
        return max(map(max, self.chunks.values()), default=0)

    def _many(self, chunk: bytearray, at: int, cluster: int) -> None:
        self.many[cluster] = self.many.get(cluster, MANY - 1) + 1
        chunk[at] = MANY

    def get(self, cluster: int) -> int:
        """How often it is used."""
        chunk = self.chunks.get(cluster // CHUNK)
        found = chunk[cluster % CHUNK] if chunk else 0
        return self.many[cluster] if found == MANY else found

    def part(self, first: int, count: int) -> bytes:
        """`count` numbers from `first` on; 255 stands for that many or more."""
        found = bytearray()
        while count:
            number, at = divmod(first, CHUNK)
            here = min(count, CHUNK - at)
            chunk = self.chunks.get(number)
            found += chunk[at : at + here] if chunk else bytes(here)
            first += here
            count -= here
        return bytes(found)

    def end(self) -> int:
        """The cluster after the last that is used."""
        for number in sorted(self.chunks, reverse=True):
            used = len(self.chunks[number].rstrip(b"\0"))
            if used:
                return number * CHUNK + used
        return 0

    def used_chunks(self) -> Iterator[int]:
        """Numbers of chunks that may have uses, in order."""
        return iter(sorted(self.chunks))
