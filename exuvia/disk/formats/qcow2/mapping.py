"""Guest clusters to host clusters (qcow2.txt, "Cluster mapping"): the L1 table, L2 tables, and runs of entries as extents."""

from __future__ import annotations

from array import array
from struct import pack_into, unpack_from

from exuvia.disk.clusters import Columns
from exuvia.disk.formats.qcow2.digits import MANY
from exuvia.disk.formats.qcow2.header import Header
from exuvia.disk.formats.qcow2.refcounts import SLICE, Refcounts, big_endian
from exuvia.disk.formats.qcow2.rows import ALL, COMPRESSED, COPIED, L2_RESERVED, OFFSET, ZERO, same, starts, units
from exuvia.disk.node import Extent, ImageError, Kind, Node
from exuvia.disk.pages import Pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import RLock
    from collections.abc import Iterable, Iterator


L1_RESERVED = 0x7F000000000001FF
SPECIAL = {0: Kind.ABSENT, COPIED: Kind.ABSENT, COMPRESSED: Kind.COMPRESSED}


class Mapping:
    """The active tables. `l1` holds its entries; L2 tables are read in slices. The format's lock guards all.

    `data` is the node that holds guest clusters: the image's file, or the external data file.
    """

    entry_size = 8

    def __init__(self, file: Node, header: Header, refcounts: Refcounts, data: Node, cache: int) -> None:
        self.external = data is not file
        self.file, self.header, self.refcounts, self.data = file, header, refcounts, data
        self.lazy = False  # counts may reach the disk later than tables
        self.has_zero = header.fields.version > 2
        self.bits = header.fields.cluster_bits
        self.size = 1 << self.bits
        self.per_table = self.size // self.entry_size
        self.unsound = L2_RESERVED | OFFSET & self.size - 1 | (0 if self.has_zero else ZERO) | (ALL if self.external else 0)
        page = min(SLICE, self.size)
        self.per_page = page // self.entry_size
        self.span_of_page = self.per_page << self.bits  # guest bytes that a slice of a table maps
        self.l2 = Pages(file, page, cache // page)
        self.l1_pages = Pages(file, page, 64)
        self.load()

    def load(self) -> None:
        """Read the L1 table, and forget what was known. Raises ImageError where it is not in the file."""
        fields = self.header.fields
        self.l2.forget()
        self.l1_pages.forget()
        if fields.l1_table_offset + fields.l1_size * 8 > self.file.size:
            raise self.header.error("Could not read L1 table: it lies outside of the file")
        self.l1 = big_endian(array("Q", self.file.read(fields.l1_table_offset, fields.l1_size * 8)))

    @property
    def span(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.per_table << self.bits

    def corrupt(self, text: str) -> ImageError:
        """What a table says cannot be."""
        return ImageError(f"{self.file.filename}: Image is corrupt: {text}")

    def table(self, number: int) -> int:
        """Where the L2 table of L1 entry `number` lies, 0 for none."""
        offset = self.l1[number] & OFFSET if number < len(self.l1) else 0
        if offset & (self.size - 1):
            raise self.corrupt(f"L2 table offset {offset:#x} unaligned (L1 index: {number:#x})")
        return offset

    def page(self, index: int) -> tuple[int, int]:
        """The offset of the slice that has guest cluster `index`'s entry (0: no table), and the entry's number therein."""
        number, within = divmod(index, self.per_table)
        table = self.table(number)
        page, within = divmod(within, self.per_page)
        return table and table + page * self.l2.size, within

    def entries(self, index: int, count: int) -> array[int]:
        """L2 entries of `count` guest clusters from `index` on, as 64-bit words; zeros where there is no table."""
        found = array("Q")
        while count:
            offset, at = self.page(index)
            here = min(count, self.per_page - at)
            if offset:
                found.frombytes(self.l2.page(offset)[at * self.entry_size : (at + here) * self.entry_size])
            else:
                found.frombytes(bytes(here * self.entry_size))
            index += here
            count -= here
        return big_endian(found)

    def entry(self, index: int) -> int:
        """The first word of one L2 entry."""
        offset, at = self.page(index)
        entry: int = unpack_from(">Q", self.l2.page(offset), at * self.entry_size)[0] if offset else 0
        return entry

    def put_one(self, index: int, entry: int) -> None:
        """`put` of one entry of one word."""
        offset, at = self.page(index)
        pack_into(">Q", self.l2.page(offset), at * 8, entry)
        self.l2.dirty(offset)
        self.order()

    def put(self, index: int, entries: Iterable[int]) -> None:
        """Change L2 entries, 64-bit words, from guest cluster `index` on; the tables are there. Counts and data reach the file first."""
        data = big_endian(array("Q", entries)).tobytes()
        done = 0
        while done < len(data):
            offset, at = self.page(index)
            at *= self.entry_size
            here = min(len(data) - done, self.l2.size - at)
            self.l2.page(offset)[at : at + here] = data[done : done + here]
            self.l2.dirty(offset)
            done += here
            index += here // self.entry_size
        self.order()

    def order(self) -> None:
        """Whatever L2 tables say now waits for counts and data."""
        if not self.lazy:
            self.refcounts.tables.after(self.refcounts.blocks)
            self.l2.after(self.refcounts.tables)
        self.l2.after_data()
        if self.external:
            self.l2.after_data(self.data)

    def set_l1(self, number: int, value: int) -> None:
        """Change an L1 entry; it reaches the disk after the L2 tables have."""
        self.l1[number] = value
        place = self.header.fields.l1_table_offset + number * 8
        page = place - place % self.l1_pages.size
        self.l1_pages.page(page)[place - page : place - page + 8] = value.to_bytes(8, "big")
        self.l1_pages.dirty(page)
        self.l1_pages.after(self.l2)

    def own_table(self, index: int) -> None:
        """See to it that the L2 table of guest cluster `index` is there and is ours alone."""
        number = index // self.per_table
        entry = self.l1[number]
        old = self.table(number)
        if old and entry & COPIED:
            return
        cluster, _ = self.refcounts.allocate(1)
        self.refcounts.reserved.add(cluster)
        offset, step = cluster << self.bits, self.l2.size
        for at in range(0, self.size, step):
            self.l2.fresh(offset + at, bytes(self.l2.page(old + at)) if old else None)
        self.order()
        self.set_l1(number, offset | COPIED)
        if old:
            self.drop_table(old)

    def drop_table(self, offset: int) -> None:
        """One use of an L2 table fewer."""
        if self.refcounts.get(offset >> self.bits) == 1:
            for at in range(offset, offset + self.size, self.l2.size):
                self.l2.forget(at)
        self.refcounts.give_up(offset >> self.bits, 1)

    def clean(self) -> bool:
        """Whether the file has everything."""
        refcounts = self.refcounts
        changed = self.l2.changed or self.l1_pages.changed or refcounts.tables.changed or refcounts.blocks.changed
        return not (changed or refcounts.pending or refcounts.waiting)

    def write(self) -> None:
        """Give all that changed to the file, in order."""
        self.l2.write()
        self.l1_pages.write()
        self.refcounts.write()

    def compressed(self, entry: int) -> tuple[int, int]:
        """Where a compressed cluster's bytes lie: (offset, how many at most)."""
        shift = 62 - (self.bits - 8)
        offset = entry & (1 << shift) - 1
        sectors = (entry >> shift & (1 << self.bits - 8) - 1) + 1
        return offset, sectors * 512 - offset % 512

    def held(self, entry: int) -> tuple[int, int]:
        """The host clusters that an L2 entry uses: (the first, how many)."""
        if entry & COMPRESSED:
            offset, length = self.compressed(entry)
            return offset >> self.bits, (offset + length - 1 >> self.bits) - (offset >> self.bits) + 1
        if self.external or not entry & OFFSET:
            return 0, 0
        return (entry & OFFSET) >> self.bits, 1

    def give_up(self, entry: int) -> None:
        """The entry that was `entry` does not use its clusters any more."""
        first, count = self.held(entry)
        if count:
            self.refcounts.give_up(first, count)

    def lookup(self, offset: int, length: int) -> Extent:
        """The first extent, as `Clustered.lookup` has it."""
        index, within = offset >> self.bits, offset & self.size - 1
        clusters = within + length + self.size - 1 >> self.bits
        page, at = self.page(index)
        entry = unpack_from(">Q", self.l2.page(page), at * 8)[0] if page else 0
        run = 1 if clusters == 1 else self._run(entry, index, clusters)
        return self._extent(entry, index, within, min(length, (run << self.bits) - within))

    def _extent(self, entry: int, index: int, within: int, length: int) -> Extent:
        """The extent that begins `within` bytes into guest cluster `index`, whose entry is `entry`."""
        if entry & COMPRESSED:
            return Extent(Kind.COMPRESSED, length)
        host = entry & OFFSET
        if host & self.size - 1:
            raise self.corrupt(f"Cluster allocation offset {host:#x} unaligned (guest offset: {(index << self.bits) + within:#x})")
        if entry & ZERO:
            if not self.has_zero:
                raise self.corrupt(f"Zero cluster entry found in pre-v3 image (guest offset: {(index << self.bits) + within:#x})")
            room = host + within if host or self.external and entry & COPIED else None
            return Extent(Kind.ZERO, length, room, self.data, not entry & COPIED)
        if not host and not (self.external and entry & COPIED):
            return Extent(Kind.ABSENT, length)
        if self.external and host != index << self.bits:
            raise self.corrupt(
                f"External data file host cluster offset {host:#x} does not match guest cluster offset: {index << self.bits:#x}"
            )
        return Extent(Kind.DATA, length, host + within, self.data, not entry & COPIED)

    def several(self, offset: int, length: int) -> list[Extent]:
        """The first extent, and those behind it in the same slice of the table: many where clusters lie scattered."""
        first = self.lookup(offset, length)
        end = offset + first.length
        index, at = end >> self.bits, (end >> self.bits) % self.per_page
        count = min(self.per_page - at, length - first.length >> self.bits)
        page, _ = self.page(index) if count and at and self.entry_size == 8 else (0, 0)
        if not page:
            return [first]
        part = self.l2.page(page)[at * 8 : (at + count) * 8]
        begins, entries, sound = starts(part, self.bits, self.unsound)
        new, found, data, bits = tuple.__new__, [first], self.data, self.bits  # Extent's own __new__ is written in Python
        try:
            for start, end, entry in zip(begins, begins[1:], entries):
                if not entry:
                    found.append(new(Extent, (Kind.ABSENT, end - start << bits, None, None, False)))
                elif sound and entry & OFFSET and not entry & (COMPRESSED | ZERO):
                    found.append(new(Extent, (Kind.DATA, end - start << bits, entry & OFFSET, data, entry < COPIED)))
                else:
                    found.append(self._extent(entry, index + start, 0, end - start << bits))
        except ImageError:  # whoever comes there will hear of it
            pass
        return found

    def columns(self, offset: int, length: int, lock: RLock) -> Iterator[Columns]:
        """As `Clustered.columns`, the lock taken each time."""
        end = offset + length
        while offset < end:
            with lock:
                found = self._columns(offset, end - offset)
            yield found
            offset = found.places[-1]

    def _columns(self, offset: int, length: int) -> Columns:
        """As `several`, for more of the table; neighbours that differ only in being frozen are one."""
        first = self.lookup(offset, length)
        end = offset + first.length
        at = (end >> self.bits) % self.per_table
        count = min(length - first.length >> self.bits, self.per_table - at, MANY) if at else 0  # another table may be damaged
        begins, entries = [end], list[int]()
        if part := self.part(end >> self.bits, count):
            numbers, entries, sound = starts(part, self.bits, self.unsound, OFFSET | ZERO | COMPRESSED)
            del entries[-1]  # it may go on
            if sound:
                begins = [end + (at << self.bits) for at in numbers]
            else:
                entries = []
        kinds = [Kind.ZERO if entry & ZERO else SPECIAL.get(entry, Kind.DATA) for entry in entries]
        return Columns([offset, *begins], [first.kind, *kinds], [first.host, *[entry & OFFSET or None for entry in entries]])

    def part(self, index: int, count: int) -> bytes:
        """The bytes of `count` entries from guest cluster `index` on, of one table; none where there is no table."""
        number, at = divmod(index, self.per_table)
        table = count and self.table(number)
        if not table:
            return b""
        if self.l2.changed:
            return big_endian(self.entries(index, count)).tobytes()
        return self.file.read(table + at * self.entry_size, count * self.entry_size)

    def units(self, unit: int, length: int) -> int | None:
        """How many units of `unit` bytes of the disk's first `length` have data; None where extents must be looked at."""
        each, total = unit >> self.bits, 0
        clusters = length + self.size - 1 >> self.bits
        most = min(self.per_table, MANY)
        if self.entry_size != 8 or not 1 <= each <= most:
            return None
        for number in range(min(len(self.l1), -(-clusters // self.per_table))):
            start = number * self.per_table
            for index in range(start, min(start + self.per_table, clusters) if self.table(number) else start, most):
                part = self.part(index, min(most, clusters - index))
                if part.count(0) < len(part):
                    count = units(part, self.unsound, each)
                    if count is None:
                        return None
                    total += count
        return total

    def _run(self, entry: int, index: int, clusters: int) -> int:
        """How many clusters from `index` on go on as the first, whose entry is `entry`, says."""
        step = self.size if entry & OFFSET or self.external and entry & COPIED else 0
        run = 0
        while run < clusters:
            page, at = self.page(index + run)
            here = min(self.per_page - at, clusters - run)
            if not page:
                if entry:
                    break
                alike = here = min(self.per_table - (index + run) % self.per_table, clusters - run)
            else:
                part: bytes | bytearray
                if run:  # all the slice before: more at once
                    part = self.part(index + run, min(self.per_table - (index + run) % self.per_table, clusters - run, MANY))
                    here = len(part) >> 3
                else:
                    part = self.l2.page(page)[at * 8 : (at + here) * 8]
                alike = same(part, entry if entry & COMPRESSED else entry + run * step, step)
            run += alike
            if alike < here:
                break
        return run
