"""Clusters become zero by their entries alone (qcow2.txt, "Cluster mapping")."""

from __future__ import annotations

from exuvia.disk.formats.qcow2.rows import COMPRESSED, OFFSET, ZERO
from exuvia.disk.formats.qcow2.subclusters import ALL, EACH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from exuvia.disk.formats.qcow2.qcow2 import Qcow2


def mark(image: Qcow2, bitmap: int, start: int, end: int, what: int) -> int:
    """A subcluster bitmap after [start, end) of its cluster became allocated (`what` ALL), zero (ALL << 32) or nothing (0)."""
    first, last = start // image.grain, -(-end // image.grain)
    bits = (1 << last) - (1 << first)
    both = bits << EACH | bits
    return bitmap & ~both | both & what


def erase(image: Qcow2, offset: int, length: int, unmap: bool) -> bool:
    """`Writable.erase`."""
    backed = image.backing is not None or image.backing_file is not None
    if not image.map.has_zero and (backed or not unmap):
        return False
    if image.raw_data:
        return False
    end = offset + length
    while offset < end:
        here = min(end - offset, image.map.span - offset % image.map.span)
        if backed or image.map.table(offset // image.map.span):
            image.relieve()
            _erase_in_table(image, offset, here, unmap, backed)
        offset += here
    return True


def _erase_in_table(image: Qcow2, offset: int, length: int, unmap: bool, backed: bool) -> None:
    size, words = image.cluster_size, image.map.entry_size // 8
    image.map.own_table(offset // size)
    while length:
        index, within = divmod(offset, size)
        count = min((within + length + size - 1) // size, image.map.per_table - index % image.map.per_table)
        old = image.map.entries(index, count)
        if words == 2:
            here = min(length, count * size - within)
            new = _erase_subclusters(image, index, within, here, old, unmap)
        else:
            here = min(length, count * size)
            new = [_erased(image, entry, unmap, backed) for entry in old]
        if new != list(old):
            image.map.put(index, new)
        offset += here
        length -= here


def _erased(image: Qcow2, entry: int, unmap: bool, backed: bool) -> int:
    """An L2 entry after its cluster became zero."""
    if not entry and not backed:
        return 0
    if image.map.external and entry:
        return entry | ZERO
    if entry & OFFSET and not entry & COMPRESSED and not unmap:
        return entry | ZERO
    image.map.give_up(entry)
    return ZERO if image.map.has_zero else 0


def _erase_subclusters(image: Qcow2, index: int, within: int, length: int, old: Any, unmap: bool) -> list[int]:
    """The same for extended entries, whose clusters may be erased in part."""
    size, new = image.cluster_size, list(old)
    for number in range(len(old) // 2):
        entry, bitmap = old[number * 2], old[number * 2 + 1]
        start = within if not number else 0
        end = min(within + length - number * size, size)
        whole = start == 0 and end >= min(size, image.size - (index + number) * size)
        if entry & COMPRESSED and not whole:
            entry, bitmap = image.thaw(index + number), ALL
        if whole and (unmap or entry & COMPRESSED) and not image.map.external:
            image.map.give_up(entry)
            entry, bitmap = 0, 0
        new[number * 2 : number * 2 + 2] = entry, mark(image, bitmap, 0 if whole else start, size if whole else end, ALL << EACH)
    return new
