"""Many words of a table at once: one number of which each word is a digit, so that one operation of Python's goes through all of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.vector import Buffer

MANY = 4096  # words at once
SLICE = 512
BITS = 64  # of a digit
KEPT = 256  # numbers of 4 to 32 KiB: one check needs fewer, and one of its words is the image's own
_kept: dict[tuple[int, int], int] = {}


def joined(data: Buffer) -> int:
    """Big-endian words as one number, the first as its highest digit."""
    return int.from_bytes(data, "big")


def every(word: int, count: int) -> int:
    """The number of `count` digits that all are `word`."""
    whole = -(-count // SLICE) * SLICE
    found = _kept.get((word, whole))
    if found is None:
        if len(_kept) == KEPT:
            _kept.clear()
        found = _kept[word, whole] = joined(word.to_bytes(8, "big") * whole)
    return found if count == whole else found >> BITS * (whole - count)


def changes(digits: int, steps: int, count: int) -> int:
    """Digits that are not 0 where one is not what that before it and its step (of `steps`) make; 0 for the first."""
    first = BITS * (count - 1)
    return (digits + steps >> BITS) ^ digits ^ (digits >> first << first)


def marks(digits: int, count: int) -> int:
    """The highest bit of each digit that is not 0."""
    low = every((1 << BITS - 1) - 1, count)
    return ((digits & low) + low | digits) & every(1 << BITS - 1, count)


def marked(digits: int, count: int) -> bytes:
    """A byte for each digit, 0 where that is 0."""
    return marks(digits, count).to_bytes(8 * count, "big")[::8]
