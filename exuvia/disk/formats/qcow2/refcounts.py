"""Reference counts (qcow2.txt, "Host cluster management"): which clusters of the file are free, and giving them out and up.

Counts that rise reach the disk before tables that point to the clusters. Counts fall later than the tables that pointed there are
safe: until `settle`, given up clusters stay taken, so that no power cut can make an old table point to new content.
"""

from __future__ import annotations

import struct
import sys
from array import array

from exuvia.disk.formats.qcow2.header import CORRUPT, REFCOUNT_TABLE_LIMIT, Header
from exuvia.disk.node import ImageError, Node
from exuvia.disk.pages import Pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

SLICE = 4096  # bytes of a table that are read and written at once
TYPES = {8: "B", 16: "H", 32: "I", 64: "Q"}


def big_endian(values: array[int]) -> array[int]:
    """Swap to or from the disk's byte order, in place."""
    if sys.byteorder == "little":
        values.byteswap()
    return values


class Refcounts:
    """Clusters are numbered from the file's start. `cursor`: no free cluster lies before it. The format's lock guards all."""

    def __init__(self, file: Node, header: Header, cache: int) -> None:
        self.file, self.header, self.cache = file, header, cache
        self.bits = header.fields.cluster_bits
        self.width = 1 << header.fields.refcount_order
        self.limit = (1 << self.width) - 1
        self.per_block = (8 << self.bits) // self.width
        size = min(SLICE, 1 << self.bits)
        self.per_page = size * 8 // self.width
        self.blocks = Pages(file, size, cache // size)
        self.tables = Pages(file, size, 8)
        self.cursor = 0
        self.pending: list[tuple[int, int]] = []
        self.waiting: list[tuple[int, list[tuple[int, int]]]] = []  # safe, but an older request may still be at it
        self.epoch = 0
        self.active: dict[int, int] = {}  # requests under way by the epoch in which they began
        self.moving = False
        self.reserved: set[int] = set()  # clusters that hold tables, whatever their counts say
        self.byte = 0  # where the next compressed cluster may follow
        self.some_free: re.Pattern[bytes] | None = None  # a byte that has a free cluster
        self.one = (1).to_bytes(max(self.width // 8, 1), "big")
        self.load()

    def load(self) -> None:
        """Read the table, and forget what was known."""
        fields = self.header.fields
        self.blocks.forget()
        self.tables.forget()
        self.pending.clear()
        self.waiting.clear()
        self.cursor = self.byte = 0
        length = fields.refcount_table_clusters << self.bits
        self.table = big_endian(array("Q", self.file.read(fields.refcount_table_offset, length)))

    def block(self, number: int) -> int:
        """Where the `number`th block lies, 0 for none. Raises ImageError where that is nowhere."""
        offset = self.table[number] if number < len(self.table) else 0
        if offset & ((1 << self.bits) - 1) or offset >> 60:
            raise ImageError(f"{self.file.filename}: Image is corrupt: Refblock offset {offset:#x} unaligned (reftable index: {number:#x})")
        return offset

    def _page(self, cluster: int) -> tuple[int, int]:
        """The offset of the page that counts `cluster` (0: there is none), and its index therein."""
        number, index = divmod(cluster, self.per_block)
        block = self.block(number)
        page, index = divmod(index, self.per_page)
        return block and block + page * self.blocks.size, index

    def values(self, data: bytes | bytearray) -> array[int] | list[int]:
        """The counts in a page's bytes."""
        if self.width >= 8:
            return big_endian(array(TYPES[self.width], data))
        return [byte >> shift & self.limit for byte in data for shift in range(0, 8, self.width)]

    def packed(self, values: array[int] | list[int]) -> bytes:
        """The bytes of counts, whole bytes full."""
        if self.width >= 8:
            return big_endian(array(TYPES[self.width], values)).tobytes()
        each = 8 // self.width
        return bytes(sum(values[at + i] << i * self.width for i in range(each)) for at in range(0, len(values), each))

    def get(self, cluster: int) -> int:
        """How often `cluster` is used."""
        offset, index = self._page(cluster)
        if not offset:
            return 0
        page = self.blocks.page(offset)
        if self.width >= 8:
            size = self.width // 8
            return int.from_bytes(page[index * size : index * size + size], "big")
        bit = index * self.width
        return page[bit >> 3] >> (bit & 7) & self.limit

    def counts(self, first: int, most: int) -> array[int] | list[int]:
        """The counts of `most` clusters from `first` on, fewer where their page ends."""
        offset, index = self._page(first)
        count = min(most, self.per_page - index)
        if not offset:
            return [0] * count
        page = self.blocks.page(offset)
        if self.width >= 8:
            size = self.width // 8
            return self.values(page[index * size : (index + count) * size])
        start = index * self.width >> 3
        skip = index - start * 8 // self.width
        return self.values(page[start : start + (count + skip) * self.width // 8 + 1])[skip : skip + count]

    def all_one(self, first: int, count: int) -> bool:
        """Whether each of [first, first+count) is used once."""
        while count:
            offset, index = self._page(first)
            here = min(count, self.per_page - index)
            if not offset:
                return False
            if self.width < 8:
                found = self.counts(first, here)
                if set(found) != {1}:
                    return False
                here = len(found)
            else:
                size = len(self.one)
                if self.blocks.page(offset)[index * size : (index + here) * size] != self.one * here:
                    return False
            first += here
            count -= here
        return True

    def allocate_bytes(self, count: int) -> int:
        """Room for `count` bytes of a compressed cluster, at most a cluster's worth; behind the last such where that can be."""
        size = 1 << self.bits
        at, self.byte = self.byte, 0
        cluster = at >> self.bits
        left = -at % size
        if left and self.get(cluster) < self.limit:
            if count > left:
                first, _ = self.allocate(1)
                if first == cluster + 1:
                    self.change(cluster, 1, 1)
                else:
                    at = first << self.bits
            else:
                self.change(cluster, 1, 1)
        else:
            at = self.allocate(1)[0] << self.bits
        self.byte = at + count
        return at

    def change(self, first: int, count: int, by: int) -> None:
        """Add `by` to the counts of [first, first+count). Raises ImageError when one would leave its range."""
        while count:
            offset, index = self._page(first)
            here = min(count, self.per_page - index)
            if not offset:
                raise self._range(first, by)
            page = self.blocks.page(offset)
            self._change_page(page, index, here, by, first)
            self.blocks.dirty(offset)
            if by < 0:
                self.cursor = min(self.cursor, first)
            first += here
            count -= here

    def _range(self, cluster: int, by: int) -> ImageError:
        return ImageError(
            f"{self.file.filename}: the reference count of cluster {cluster} cannot change by {by:+d}, {self.width} bits wide"
        )

    def _change_page(self, page: bytearray, index: int, count: int, by: int, first: int) -> None:
        if self.width >= 8:
            size = len(self.one)
            start, end = index * size, (index + count) * size
            old, ones, zeros = page[start:end], self.one * count, bytes(count * size)
            if by == 1 and old == zeros:
                page[start:end] = ones
            elif by == -1 and old == ones:
                page[start:end] = zeros
            else:
                values = self.values(old)
                if min(values) + by < 0 or max(values) + by > self.limit:
                    raise self._range(first, by)
                page[start:end] = self.packed(array(TYPES[self.width], [value + by for value in values]))
            return
        start, end = index * self.width >> 3, ((index + count) * self.width + 7) >> 3
        values = self.values(page[start:end])
        head = index - start * 8 // self.width
        for at in range(head, head + count):
            values[at] += by
            if not 0 <= values[at] <= self.limit:
                raise self._range(first + at - head, by)
        page[start:end] = self.packed(values)

    def _free_in_page(self, page: bytearray, index: int, most: int) -> tuple[int, int]:
        """The first free cluster from `index` on, and how many up to `most` lie there; (-1, 0) for none."""
        if self.width < 8:
            return self._free_in_bits(page, index, most)
        size = len(self.one)
        zero = bytes(size)
        at = index * size
        while True:
            at = page.find(zero, at)
            if at < 0:
                return -1, 0
            if not at % size:
                break
            at += size - at % size
            if page.startswith(zero, at):
                break
        if at >= len(page):
            return -1, 0
        part = page[at : at + most * size]
        return at // size, (len(part) - len(part.lstrip(b"\0"))) // size

    def _free_in_bits(self, page: bytearray, index: int, most: int) -> tuple[int, int]:
        """The same where several counts share a byte."""
        each = 8 // self.width
        if self.some_free is None:
            import re  # few images have such counts

            some = [byte for byte in range(256) if any(not byte >> shift & self.limit for shift in range(0, 8, self.width))]
            self.some_free = re.compile(b"[" + b"".join(b"\\x%02x" % byte for byte in some) + b"]")
        byte = index // each
        while True:
            found = self.some_free.search(page, byte)
            if found is None:
                return -1, 0
            byte = found.start()
            values = self.values(page[byte : byte + most // each + 2])
            skip = max(index - byte * each, 0)
            first = next((at for at in range(skip, len(values)) if not values[at]), None)
            if first is None:
                byte += 1
                continue
            count = next((n for n in range(1, min(most, len(values) - first)) if values[first + n]), min(most, len(values) - first))
            return byte * each + first, count

    def free_run(self, first: int, count: int) -> int:
        """How many of [first, first+count) are free in a row from the first on."""
        done = 0
        while done < count:
            offset, index = self._page(first + done)
            here = free = min(count - done, self.per_page - index)
            if offset:
                found, free = self._free_in_page(self.blocks.page(offset), index, here)
                if found != index:
                    return done
            done += free
            if free < here:
                break
        return done

    def allocate(self, most: int, least: int = 1) -> tuple[int, int]:
        """Take `least` to `most` clusters in a row that are free: (the first, how many). Their count is 1 now."""
        if most == 1 and self._take_next():
            return self.cursor - 1, 1
        start = at = self.cursor
        length, passed = 0, False
        while length < most:
            number, index = divmod(at, self.per_block)
            if number >= len(self.table) or not self.block(number):
                if least <= length:
                    break
                if number >= len(self.table):
                    self._grow(number + 1)
                else:  # the new block takes the run's first cluster, or the first that it counts itself
                    self._make_block(number, start if length else at)
                start = at = self.cursor
                length, passed = 0, False
                continue
            offset, index = self._page(at)
            found, count = self._free_in_page(self.blocks.page(offset), index, most - length)
            if count and found == index:
                length += count
                at += count
                if index + count == self.per_page:
                    continue
            if length >= least:
                break
            passed = passed or length > 0
            start = at = at + (found - index if count and found > index else self.per_page - index if not count else 0)
            length = 0
        if not self.reserved.isdisjoint(range(start, start + length)):
            raise self._overlap(start)
        self.change(start, length, 1)
        if not passed:
            self.cursor = start + length
        return start, length

    def _take_next(self) -> bool:
        """Take the cluster at `cursor` where it is free and counted: the usual case, at once."""
        if self.width < 8 or self.cursor // self.per_block >= len(self.table):
            return False
        offset, index = self._page(self.cursor)
        if not offset:
            return False
        page, size = self.blocks.page(offset), len(self.one)
        if any(page[index * size : index * size + size]):
            return False
        if self.cursor in self.reserved:
            raise self._overlap(self.cursor)
        page[index * size + size - 1] = 1
        self.blocks.dirty(offset)
        self.cursor += 1
        return True

    def _overlap(self, cluster: int) -> ImageError:
        """Counts call free what holds a table: nothing more is written, and the image says so."""
        if self.header.fields.version > 2:
            self.header.fields.incompatible_features |= CORRUPT
            self.header.write_fields()
            self.file.flush()
        offset = cluster << self.bits
        return ImageError(
            f"{self.file.filename}: Marking image as corrupt: Preventing invalid allocation of the cluster at offset {offset:#x}, "
            "which holds tables; check -r all mends the counts"
        )

    def _make_block(self, number: int, cluster: int) -> None:
        """Make the missing block `number` in `cluster`, which is free."""
        offset = cluster << self.bits
        size = self.blocks.size
        if cluster in self.reserved:
            raise self._overlap(cluster)
        self.reserved.add(cluster)
        for at in range(offset, offset + (1 << self.bits), size):
            self.blocks.fresh(at)
        self.table[number] = offset
        if not self.moving:
            place = self.header.fields.refcount_table_offset + number * 8
            page = self.tables.page(place - place % size)
            struct.pack_into(">Q", page, place % size, offset)
            self.tables.dirty(place - place % size)
            self.tables.after(self.blocks)
        self.change(cluster, 1, 1)

    def _grow(self, least: int) -> None:
        """Move to a larger table, half as large again or more."""
        entries = 1 << self.bits - 3
        clusters = -(-max(least + least // 2, least + 1) // entries)
        if clusters << self.bits > REFCOUNT_TABLE_LIMIT:
            clusters = REFCOUNT_TABLE_LIMIT >> self.bits
            if least > clusters * entries:
                raise OSError(27, f"{self.file.filename}: the image cannot grow further: its reference count table is full")
        before = len(self.table)
        self.table.extend([0] * (clusters * entries - before))
        self.moving = True
        try:
            first, _ = self.allocate(clusters, clusters)
        except BaseException:
            del self.table[before:]
            raise
        finally:
            self.moving = False
        self.move_table(first, clusters)

    def move_table(self, first: int, clusters: int) -> None:
        """Write the whole table to [first, first+clusters), point the header there, give the old place up."""
        fields = self.header.fields
        self.reserved.update(range(first, first + clusters))
        self.blocks.write()
        self.file.write(first << self.bits, big_endian(array("Q", self.table)).tobytes())
        self.file.flush()
        old = fields.refcount_table_offset >> self.bits, fields.refcount_table_clusters
        fields.refcount_table_offset, fields.refcount_table_clusters = first << self.bits, clusters
        self.header.write_fields()
        self.file.flush()
        self.tables.forget()
        self.give_up(*old)

    def give_up(self, first: int, count: int) -> None:
        """One use fewer of [first, first+count), once `settle` says so."""
        if self.pending and sum(self.pending[-1]) == first:
            first, count = self.pending[-1][0], self.pending.pop()[1] + count
        self.pending.append((first, count))

    def settle(self) -> None:
        """No table on the disk points to what was given up: let it be free, and its room go back to the host.

        Not yet what was given up since the oldest request under way began: it may have looked before, and reads or writes there now.
        """
        if self.pending:
            self.waiting.append((self.epoch, self.pending))
            self.pending = []
        self.epoch += 1
        oldest = min(self.active, default=self.epoch)
        while self.waiting and self.waiting[0][0] < oldest:
            self._free(self.waiting.pop(0)[1])

    def enter(self) -> int:
        """A request begins that will use what `lookup` says; give the answer to `leave`."""
        self.active[self.epoch] = self.active.get(self.epoch, 0) + 1
        return self.epoch

    def leave(self, epoch: int) -> None:
        """The request is done."""
        self.active[epoch] -= 1
        if not self.active[epoch]:
            del self.active[epoch]

    def _free(self, runs: list[tuple[int, int]]) -> None:
        for first, count in sorted(runs):
            self.change(first, count, -1)
            while count:  # what is shared, with a snapshot or another compressed cluster, stays
                free = self.free_run(first, count)
                if free:
                    if self.reserved:
                        self.reserved.difference_update(range(first, first + free))
                    if first <= self.byte >> self.bits < first + free:
                        self.byte = 0
                    self.file.discard(first << self.bits, free << self.bits)
                first, count = first + free + 1, max(count - free - 1, 0)

    def write(self) -> None:
        """Give what changed to the file."""
        self.blocks.write()
        self.tables.write()
