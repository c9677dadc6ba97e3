"""Reference counts written anew, from what tables say: another width, or a mended structure."""

from __future__ import annotations

from array import array

from exuvia.disk.formats.qcow2.counts import Counts
from exuvia.disk.formats.qcow2.refcounts import TYPES, big_endian
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2


def rebuild(image: Qcow2, counts: Counts, order: int) -> None:
    """Write `counts`, which leave the old structure out, with entries of 1 << order bits behind all else; the header switches to them.

    Raises UserError, and changes nothing, where a count is too large for its entry.
    """
    fields, refcounts, bits = image.header.fields, image.refcounts, image.map.bits
    width = 1 << order
    limit, per_block = (1 << width) - 1, (8 << bits) // width
    end = max(counts.end(), -(-image.file.size >> bits))
    needed = counts.used_blocks(per_block)
    while True:
        clusters = -(-(max(needed, default=0) + 1) * 8 >> bits)
        total = len(needed) + clusters
        more = needed | set(range(end // per_block, (end + total - 1) // per_block + 1))
        if more == needed:
            break
        needed = more
    counts.add(end, total)
    table = array("Q", bytes(clusters << bits))
    for place, number in enumerate(sorted(needed), end):
        part = counts.part(number * per_block, per_block)
        values = [counts.get(number * per_block + at) for at in range(per_block)] if 255 in part else part
        largest = max(values)
        if largest > limit:
            offset = (number * per_block + values.index(largest)) << bits
            raise UserError(
                f"Cannot decrease refcount entry width to {width} bits: Cluster at offset {offset:#x} has a refcount of {largest}"
            )
        image.file.write(place << bits, packed(values, width))
        table[number] = place << bits
    first = end + len(needed)
    image.file.write(first << bits, big_endian(array("Q", table)).tobytes())
    image.file.flush()
    fields.refcount_table_offset, fields.refcount_table_clusters, fields.refcount_order = first << bits, clusters, order
    image.header.write_fields()
    image.file.flush()
    image.virgin = max(image.virgin, (first + clusters) << bits)
    refcounts.load()


def packed(values: list[int] | bytes, width: int) -> bytes:
    """Counts as entries of `width` bits."""
    if width >= 8 and isinstance(values, bytes):
        spread = bytearray(len(values) * width // 8)
        spread[width // 8 - 1 :: width // 8] = values
        return bytes(spread)
    if width >= 8:
        return big_endian(array(TYPES[width], values)).tobytes()
    each = 8 // width
    return bytes(sum(values[at + i] << i * width for i in range(each)) for at in range(0, len(values), each))
