"""A part of an L2 table at once (qcow2.txt, "Standard Cluster Descriptor"), for entries of one word."""

from __future__ import annotations

from array import array
from itertools import compress
from struct import unpack_from

from exuvia.disk.formats.qcow2.digits import BITS, MANY, changes, every, joined, marked, marks
from exuvia.disk.formats.qcow2.refcounts import big_endian

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.vector import Buffer

OFFSET = 0x00FFFFFFFFFFFE00
ALL = (1 << 64) - 1
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
L2_RESERVED = 0x3F000000000001FE
_numbers: list[int] = []  # from 0 on, made when they are needed first: a range would make each anew


def same(part: bytes | bytearray, entry: int, step: int) -> int:
    """How many entries, from the first on, go on as extents do where the first is `entry`: the next one is `step` more."""
    count = len(part) >> 3
    if not entry:
        return count - (len(part.lstrip(b"\0")) + 7 >> 3)
    first = unpack_from(f">{min(count, 2)}Q", part)
    if entry & COMPRESSED:
        packed = every(COMPRESSED, count)
        other = joined(part) & packed ^ packed
    elif first[0] != entry:
        return 0
    elif count == 1 or first[1] != entry + step:
        return 1
    else:
        other = changes(joined(part), every(step, count), count)
    return count - -(-other.bit_length() // BITS)


def starts(part: Buffer, bits: int, unsound: int, seen: int = ALL) -> tuple[list[int], list[int], bool]:
    """Numbers of entries with which extents begin; these entries; whether none of all has `unsound` bits.

    Clusters have `bits` bits. What is not `seen` of an entry makes no difference. A packed cluster is COMPRESSED and no more.
    """
    count = len(part) >> 3
    entries, sound = joined(part), True
    if entries & every(unsound | COMPRESSED, count):
        packed = entries >> 62 & every(1, count)
        entries = entries & ~((packed << BITS) - packed) | packed << 62
        part = entries.to_bytes(len(part), "big")
        sound = not entries & every(unsound, count)
    there = marks(entries & every(OFFSET, count), count) >> BITS - 1 - bits
    other = changes(entries if seen == ALL else entries & every(seen, count), there, count)
    if not _numbers:
        _numbers.extend(range(MANY))
    begins = [0, *compress(_numbers, marked(other, count))]
    words = big_endian(array("Q", part))
    return begins, [words[at] for at in begins], sound


def units(part: bytes, unsound: int, each: int) -> int | None:
    """How many units of `each` clusters have data; None where an entry is packed, or has `unsound` bits."""
    count = len(part) >> 3
    entries = joined(part)
    if entries & every(COMPRESSED | unsound, count):
        return None
    there = marks(entries & every(OFFSET, count), count)
    if zeros := entries & every(ZERO, count):
        there &= ~(zeros << BITS - 1)
    if each == 1:
        return there.bit_count()
    flags, found = marked(there, count), 0
    for at in range(each):
        column = flags[at::each]
        found |= int.from_bytes(column.ljust(-(-count // each), b"\0"), "big")
    return found.bit_count()
