"""Growing and shrinking: another L1 table where the old one is too short, room in advance, and giving up what lies past the end."""

from __future__ import annotations

from array import array

from exuvia.disk.formats.qcow2 import snapshots
from exuvia.disk.formats.qcow2.header import L1_LIMIT
from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import COPIED, OFFSET
from exuvia.disk.node import Kind, Node, Unsupported
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2

SECTOR = 512


def switch_l1(image: Qcow2, entries: array[int], size: int) -> None:
    """Make `entries` the active L1 table and `size` the disk's, at once. What the old table reached is the caller's."""
    fields, bits = image.header.fields, image.map.bits
    if len(entries) * 8 > L1_LIMIT:
        raise UserError(f"{image.filename}: an image with clusters of {image.cluster_size} bytes cannot be so large")
    offset = image.take(-(-len(entries) * 8 >> bits)) if entries else 0
    if entries:
        image.file.write(offset, big_endian(array("Q", entries)).tobytes())
    image.commit()
    old = fields.l1_table_offset >> bits, -(-fields.l1_size * 8 >> bits)
    fields.l1_table_offset, fields.l1_size, fields.size = offset, len(entries), size
    image.header.write_fields()
    image.file.flush()
    image.size = size
    image.map.l1 = entries
    image.map.l1_pages.forget()
    if old[1]:
        image.refcounts.give_up(*old)


def resize(image: Qcow2, size: int, preallocation: str) -> None:
    """Called with the image's locks held."""
    old, fields = image.size, image.header.fields
    if size % SECTOR:
        raise UserError(f"{image.filename}: The new size must be a multiple of {SECTOR}")
    if image.table_of_snapshots and fields.version < 3:
        raise Unsupported(f"{image.filename}: Can't resize a v2 image which has snapshots")
    if size < old:
        if preallocation != "off":
            raise UserError(f"{image.filename}: Preallocation can't be used for shrinking an image")
        shrink(image, size)
    elif size > old:
        snapshots.drop_state(image)
        need = -(-size // image.map.span)
        if need > len(image.map.l1):
            switch_l1(image, array("Q", [*image.map.l1, *[0] * (need - len(image.map.l1))]), size)
        else:
            fields.size = image.size = size
            image.header.write_fields()
    if image.raw_data and image.data.size != size:
        image.data.resize(size)
    if size > old and preallocation != "off":
        try:
            preallocate(image, old, size, preallocation)
        except OSError:
            resize(image, old, "off")
            raise
    image.commit()


def shrink(image: Qcow2, size: int) -> None:
    """Give up what lies past `size`; the rest of the last cluster becomes zero, so that a later growth finds zeros there."""
    end = image.size
    kept = size + -size % image.cluster_size
    fields = image.header.fields
    fields.size = size
    image.header.write_fields()
    image.file.flush()
    image.size = size
    span, words = image.map.span, image.map.entry_size // 8
    for number in range(kept // span, len(image.map.l1)):
        if number * span >= end:  # saved states of machines lie there
            break
        table = image.map.table(number)
        if not table:
            continue
        first = max(kept - number * span, 0) // image.cluster_size
        image.map.own_table(number * image.map.per_table)
        index = number * image.map.per_table + first
        for entry in image.map.entries(index, image.map.per_table - first)[::words]:
            image.map.give_up(entry)
        if first:
            image.map.put(index, [0] * ((image.map.per_table - first) * words))
        else:
            table = image.map.table(number)
            image.map.set_l1(number, 0)
            image.map.drop_table(table)
    image.commit()
    image.commit()


def preallocate(image: Qcow2, start: int, end: int, mode: str) -> None:
    """Room for [start, end): `metadata` gives clusters, `falloc` reserves them on the host's disk, `full` writes zeros too."""
    size, words = image.cluster_size, image.map.entry_size // 8
    offset = start - start % size
    end += -end % size
    last = 0
    backed = image.backing_file is not None or image.backing is not None
    while offset < end:
        extent = image.map.lookup(offset, end - offset)
        if extent.kind is not Kind.ABSENT:
            offset += extent.length
            continue
        room = image.place(offset, extent.length)
        subclusters = words == 2 and backed  # there are clusters, and their subclusters still come from below
        try:
            if mode == "full":
                Node.zero(room.file, room.host, room.length)
            elif mode == "falloc":
                room.file.zero(room.host, room.length, unmap=False)
            elif not (subclusters or room.clear or image.map.external):
                room.file.zero(room.host, room.length)
        except BaseException:
            image.unplace(offset, room)
            raise
        if subclusters:
            entries = [word for at in range(0, room.length, size) for word in (room.host + at & OFFSET | COPIED, 0)]
            image.map.put(offset // size, entries)
        else:
            image.link(offset, room)
        last = max(last, room.host + room.length)
        offset += room.length
    if last > image.data.size:
        image.data.resize(last)


def empty(image: Qcow2) -> None:
    """Another L1 table, with nothing in it."""
    old = image.map.l1[:]
    image.commit()
    image.commit()
    switch_l1(image, array("Q", bytes(8 * len(old))), image.size)
    if image.map.external:
        for entry in old:
            if entry & OFFSET:
                image.map.drop_table(entry & OFFSET)
    else:
        for first, count in snapshots.runs(image, old):
            image.refcounts.give_up(first, count)
    image.commit()
    image.commit()
