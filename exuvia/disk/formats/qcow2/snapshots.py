"""Internal snapshots (qcow2.txt, "Snapshots"): their table, and keeping, going back to and forgetting what an L1 table reaches.

A table that others share is changed by writing another and switching the header, one sector, to it.
"""

from __future__ import annotations

import errno
from array import array
from contextlib import contextmanager

from exuvia.disk.format import Snapshot
from exuvia.disk.formats.qcow2.header import DIRTY, L1_LIMIT, SNAPSHOT_LIMIT, Header
from exuvia.disk.formats.qcow2.mapping import L1_RESERVED
from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import COMPRESSED, COPIED, OFFSET, ZERO
from exuvia.disk.node import ImageError
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from exuvia.disk.formats.qcow2 import resize
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2
else:
    resize = Later("exuvia.disk.formats.qcow2.resize")

EXTRA_LIMIT = 1024  # bytes of an entry's extra data, QEMU's
TABLE_LIMIT = 64 << 20
NO_ICOUNT = (1 << 64) - 1


class Fixed(Structure, order=">"):
    """The fixed part of a snapshot table entry."""

    l1_table_offset: int = at("Q")
    l1_size: int = at("I")
    id_size: int = at("H")
    name_size: int = at("H")
    seconds: int = at("I")
    nanoseconds: int = at("I")
    clock: int = at("Q")
    vm_state: int = at("I")
    extra_size: int = at("I")


class Entry(Record):
    """One snapshot."""

    fixed: Fixed
    extra: bytes
    id: bytes
    name: bytes

    def pack(self) -> bytes:
        """Its bytes in the table."""
        self.fixed.id_size, self.fixed.name_size, self.fixed.extra_size = len(self.id), len(self.name), len(self.extra)
        packed = self.fixed.pack() + self.extra + self.id + self.name
        return packed + bytes(-len(packed) % 8)

    def _extra(self, number: int, default: int) -> int:
        found = self.extra[number * 8 : number * 8 + 8]
        return int.from_bytes(found, "big") if len(found) == 8 else default

    def disk_size(self, header: Header) -> int:
        """The disk's size then."""
        return self._extra(1, header.fields.size)

    def public(self) -> Snapshot:
        """As commands see it."""
        fixed = self.fixed
        count = self._extra(2, NO_ICOUNT)
        return Snapshot(
            self.id.decode("utf-8", "replace"),
            self.name.decode("utf-8", "replace"),
            self._extra(0, fixed.vm_state),
            fixed.seconds,
            fixed.nanoseconds,
            fixed.clock,
            None if count == NO_ICOUNT else count,
        )


def read(header: Header) -> list[Entry]:
    """The table. Raises ImageError where it cannot be one."""
    fields, file = header.fields, header.file
    found: list[Entry] = []
    offset = fields.snapshots_offset
    for number in range(fields.nb_snapshots):
        if offset + Fixed.SIZE > file.size or offset - fields.snapshots_offset > TABLE_LIMIT:
            raise header.error(f"Could not read snapshots: entry {number} lies outside of the file")
        fixed = Fixed.unpack(file.read(offset, Fixed.SIZE))
        if fixed.extra_size > EXTRA_LIMIT:
            raise header.error(f"Could not read snapshots: too much extra metadata in snapshot table entry {number}")
        rest = file.read(offset + Fixed.SIZE, fixed.extra_size + fixed.id_size + fixed.name_size)
        name_at = fixed.extra_size + fixed.id_size
        found.append(Entry(fixed, rest[: fixed.extra_size], rest[fixed.extra_size : name_at], rest[name_at:]))
        offset += Fixed.SIZE + len(rest)
        offset += -offset % 8
    return found


def size_in_file(entries: list[Entry]) -> int:
    """Bytes that the table takes."""
    return sum(len(each.pack()) for each in entries)


def write(image: Qcow2, entries: list[Entry]) -> None:
    """Make `entries` the table."""
    fields, bits = image.header.fields, image.map.bits
    if len(entries) > SNAPSHOT_LIMIT:
        raise OSError(errno.EFBIG, f"{image.filename}: an image has {SNAPSHOT_LIMIT} snapshots at most")
    packed = b"".join(each.pack() for each in entries)
    old = fields.snapshots_offset, size_in_file(image.table_of_snapshots)
    offset = 0
    if packed:
        clusters = -(-len(packed) >> bits)
        offset = image.take(clusters)
        image.file.write(offset, packed)
    image.commit()
    fields.nb_snapshots, fields.snapshots_offset = len(entries), offset
    image.header.write_fields()
    image.file.flush()
    if old[1]:
        image.refcounts.give_up(old[0] >> bits, (old[1] + image.cluster_size - 1) >> bits)
    image.table_of_snapshots = entries


def l1_of(image: Qcow2, entry: Entry) -> array[int]:
    """A snapshot's L1 table. Raises ImageError."""
    fixed = entry.fixed
    if fixed.l1_size * 8 > L1_LIMIT or fixed.l1_table_offset % image.cluster_size:
        raise image.header.error(f"Snapshot L1 table of '{entry.name.decode('utf-8', 'replace')}' is too large or unaligned")
    if fixed.l1_table_offset + fixed.l1_size * 8 > image.file.size:
        raise image.header.error("Snapshot L1 table lies outside of the file")
    return big_endian(array("Q", image.file.read(fixed.l1_table_offset, fixed.l1_size * 8)))


def tables(image: Qcow2) -> set[int]:
    """The clusters that hold the header and tables, those of snapshots and of the active state."""
    bits, fields, found = image.map.bits, image.header.fields, {0}
    places = [
        (fields.l1_table_offset, fields.l1_size * 8),
        (fields.refcount_table_offset, fields.refcount_table_clusters << bits),
        (fields.snapshots_offset, size_in_file(image.table_of_snapshots)),
        *((each.fixed.l1_table_offset, each.fixed.l1_size * 8) for each in image.table_of_snapshots),
    ]
    left = image.file.size
    for offset, length in places:
        left -= length
        if left < 0:
            break  # tables that are larger than the file lie
        found.update(range(offset >> bits, (offset + length + image.cluster - 1) >> bits))
    found.update((entry & OFFSET) >> bits for entry in image.map.l1 if entry)
    found.update(entry >> bits for entry in image.refcounts.table if entry)
    return found


def runs(image: Qcow2, l1: array[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of host clusters that an L1 table reaches, L2 tables too, once for each use. What is cached was written before."""
    size, bits, words = image.cluster_size, image.map.bits, image.map.entry_size // 8
    seen: set[int] = set()
    for entry in l1:
        table = entry & OFFSET
        if not table:
            continue
        if table & (size - 1) or entry & L1_RESERVED or table in seen:
            raise image.map.corrupt(f"L1 entry {entry:#x}")
        seen.add(table)
        yield table >> bits, 1
        first = count = 0
        for word in big_endian(array("Q", image.file.read(table, size)))[::words]:
            if not word & ~ZERO & ~COPIED:
                continue
            here, many = image.map.held(word)
            if count and here == first + count and not word & COMPRESSED:
                count += many
                continue
            if count:
                yield first, count
            first, count = here, many
        if count:
            yield first, count


def use(image: Qcow2, l1: array[int]) -> None:
    """One use more of everything that an L1 table reaches; nothing changes when a count is full (OSError EINVAL, as QEMU has it)."""
    done: list[tuple[int, int]] = []
    try:
        for run in runs(image, l1):
            image.refcounts.change(*run, 1)
            done.append(run)
    except ImageError:
        for run in reversed(done):
            image.refcounts.change(*run, -1)
        raise OSError(errno.EINVAL, "Invalid argument") from None


def set_copied(image: Qcow2) -> None:
    """Make bit 63 of the active tables say what the counts say."""
    bits, words, mapping = image.map.bits, image.map.entry_size // 8, image.map
    for number, entry in enumerate(mapping.l1):
        table = mapping.table(number)
        if not table:
            continue
        wanted = table | (COPIED if image.refcounts.get(table >> bits) == 1 else 0)
        if entry != wanted:
            mapping.set_l1(number, wanted)
        first = number * mapping.per_table
        old = mapping.entries(first, mapping.per_table)
        new = array("Q", old)
        counted = start = 0
        counts: array[int] | list[int] = []
        for place in range(0, len(old), words):
            word = old[place]
            if not word & OFFSET or word & COMPRESSED or mapping.external:
                continue
            cluster = (word & OFFSET) >> bits
            if not start <= cluster < start + counted:
                start, counts = cluster, image.refcounts.counts(cluster, 256)
                counted = len(counts)
            one = counts[cluster - start] == 1
            new[place] = word | COPIED if one else word & ~COPIED
        if new != old:
            mapping.put(first, new)


def create(image: Qcow2, snapshot: Snapshot) -> None:
    """Keep what the image holds."""
    image.commit()
    image.commit()  # what was given up is free now, on the disk too
    found = image.table_of_snapshots
    if snapshot.id and any(each.id == snapshot.id.encode() for each in found):
        raise OSError(errno.EEXIST, "File exists")
    numbers = [int(each.id) for each in found if each.id.isdigit()]
    snapshot.id = snapshot.id or str(max(numbers, default=0) + 1)
    use(image, image.map.l1)
    kept = array("Q", [entry & ~COPIED for entry in image.map.l1])
    offset = image.take(max(-(-len(kept) * 8 >> image.map.bits), 1))
    image.file.write(offset, big_endian(array("Q", kept)).tobytes().ljust(8, b"\0"))
    set_copied(image)
    fields = image.header.fields
    count = NO_ICOUNT if snapshot.icount is None else snapshot.icount
    extra = b"".join(value.to_bytes(8, "big") for value in (snapshot.vm_state, fields.size, count))
    fixed = Fixed(
        offset, len(kept), 0, 0, snapshot.seconds & 0xFFFFFFFF, snapshot.nanoseconds, snapshot.clock, snapshot.vm_state & 0xFFFFFFFF
    )
    fixed.vm_state = snapshot.vm_state if snapshot.vm_state <= 0xFFFFFFFF else 0
    write(image, [*found, Entry(fixed, extra, snapshot.id.encode(), snapshot.name.encode("utf-8", "surrogateescape"))])
    drop_state(image)
    image.commit()


def state_base(image: Qcow2) -> int:
    """Where on the disk, behind its end, a machine's saved state begins."""
    return image.size + -image.size % image.map.span


def drop_state(image: Qcow2) -> None:
    """Give up the active saved state: snapshots keep theirs, and here it would cost copies, or become disk content when that grows."""
    mapping = image.map
    words = mapping.entry_size // 8
    for number in range(state_base(image) // mapping.span, len(mapping.l1)):
        table = mapping.table(number)
        if table:
            for entry in mapping.entries(number * mapping.per_table, mapping.per_table)[::words]:
                mapping.give_up(entry)
            mapping.set_l1(number, 0)
            mapping.drop_table(table)
    image.commit()


def make_room_for_state(image: Qcow2, length: int) -> None:
    """See to it that the L1 table reaches over `length` bytes of saved state."""
    need = -(-(state_base(image) + length) // image.map.span)
    if need > len(image.map.l1):
        resize.switch_l1(image, array("Q", [*image.map.l1, *[0] * (need - len(image.map.l1))]), image.size)


def _entry(image: Qcow2, snapshot: Snapshot) -> Entry:
    for each in image.table_of_snapshots:
        if each.id == snapshot.id.encode() and each.name == snapshot.name.encode("utf-8", "surrogateescape"):
            return each
    raise OSError(errno.ENOENT, "No such file or directory")


def apply(image: Qcow2, snapshot: Snapshot) -> None:
    """Go back."""
    entry = _entry(image, snapshot)
    image.commit()
    image.commit()
    old = array("Q", image.map.l1)
    wanted = l1_of(image, entry)
    size = entry.disk_size(image.header)
    need = -(-size // image.map.span)
    use(image, wanted)
    kept = array("Q", [each & ~COPIED for each in wanted] + [0] * max(0, need - len(wanted)))
    resize.switch_l1(image, kept, size)
    for run in runs(image, old):
        image.refcounts.give_up(*run)
    image.commit()
    set_copied(image)
    image.commit()


def delete(image: Qcow2, snapshot: Snapshot) -> None:
    """Forget."""
    entry = _entry(image, snapshot)
    image.commit()
    image.commit()
    wanted = l1_of(image, entry)
    write(image, [each for each in image.table_of_snapshots if each is not entry])
    for run in runs(image, wanted):
        image.refcounts.give_up(*run)
    image.refcounts.give_up(entry.fixed.l1_table_offset >> image.map.bits, max(-(-len(wanted) * 8 >> image.map.bits), 1))
    image.commit()
    set_copied(image)
    image.commit()


def show(image: Qcow2, snapshot: Snapshot) -> None:
    """Read as the snapshot from now on."""
    entry = _entry(image, snapshot)
    image.map.l1 = l1_of(image, entry)
    image.size = entry.disk_size(image.header)


@contextmanager
def changing(image: Qcow2) -> Iterator[None]:
    """While counts and copied flags of all clusters change, the image says that they may disagree: the next writer mends them."""
    fields = image.header.fields
    if fields.version < 3 or image.map.lazy:
        yield
        return
    image.commit()
    fields.incompatible_features |= DIRTY
    image.header.write_fields()
    image.file.flush()
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EEXIST, errno.ENOENT):  # nothing was changed
            raise
        _agree(image)
        raise
    _agree(image)


def _agree(image: Qcow2) -> None:
    image.commit()
    image.map.write()
    image.file.flush()
    image.header.fields.incompatible_features &= ~DIRTY
    image.header.write_fields()
    image.file.flush()
