"""L2 tables read quickly: entries that follow one another as clusters do are taken 512 at once."""

from __future__ import annotations

from array import array

from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import COMPRESSED, L2_RESERVED, OFFSET, ZERO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 512  # entries
ROW = MANY * 8
ONES = int.from_bytes((bytes(7) + b"\1") * MANY, "big")  # as one number whose 64-bit digits are entries
RAMP = int.from_bytes(b"".join(at.to_bytes(8, "big") for at in range(MANY)), "big")


def stretches(data: bytes, words: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(index, entry, how many) of an L2 table's bytes; where it is more than one, the others are in the next clusters of `size` bytes.

    Entries are of `words` 64-bit words, of which the first is given. Entries that are 0 are left out where the second word is too.
    """
    if words == 2:
        for index, entry in enumerate(big_endian(array("Q", data))[::2]):
            yield index, entry, 1
        return
    for at in range(0, len(data), ROW):
        part = data[at : at + ROW]
        first = int.from_bytes(part[:8], "big")
        plain = first & OFFSET and not first & (COMPRESSED | L2_RESERVED | ZERO | OFFSET & (size - 1))
        if plain and len(part) == ROW and int.from_bytes(part, "big") == first * ONES + size * RAMP:
            yield at >> 3, first, MANY
        elif part.count(0) != len(part):
            for index, entry in enumerate(big_endian(array("Q", part)), at >> 3):
                if entry:
                    yield index, entry, 1
