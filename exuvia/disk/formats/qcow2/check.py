"""Checking and mending: count every use of every host cluster, compare with the reference counts, look at the copied flags.

Lines are those that `qemu-img check` prints, which scripts read.
"""

from __future__ import annotations

import struct
from array import array

from exuvia.disk.format import Found
from exuvia.disk.formats.qcow2.counts import MANY, Counts
from exuvia.disk.formats.qcow2.digits import BITS, changes, every, joined, marks
from exuvia.disk.formats.qcow2.digits import MANY as WORDS
from exuvia.disk.formats.qcow2.header import CORRUPT, DIRTY, ENCRYPTION
from exuvia.disk.formats.qcow2.mapping import L1_RESERVED
from exuvia.disk.formats.qcow2.rebuild import packed, rebuild
from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import COMPRESSED, COPIED, L2_RESERVED, OFFSET, ZERO
from exuvia.disk.formats.qcow2.stretches import stretches
from exuvia.disk.node import ImageError
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.formats.qcow2 import snapshots
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2
else:
    snapshots = Later("exuvia.disk.formats.qcow2.snapshots")

PIECE = WORDS * 8  # bytes of a table that are counted at once
NATIVE_ZERO = big_endian(array("Q", (ZERO,)))[0]  # that entry as the host reads it
LINES = 10_000  # messages that are kept; numbers go on
MOST = 1 << 20  # wrong counts that one run mends


class Check:
    """One look at an image."""

    def __init__(self, image: Qcow2, fix_leaks: bool, fix_errors: bool) -> None:
        self.image, self.fix_leaks, self.fix_errors = image, fix_leaks, fix_errors
        self.found = Found(allocated=0, compressed=0, fragmented=0)
        self.bits, self.size = image.map.bits, image.cluster_size
        self.file_end = -(-image.file.size >> self.bits)
        self.end = self.file_end << self.bits
        self.counts = Counts(self.file_end)
        self.next_host = 0  # where the cluster behind the last of a table would lie, 0 before the first
        self.all_copied = True  # active tables were counted at once, and each entry says that its cluster is used once
        self.rebuild = False

    def say(self, text: str) -> None:
        """A line for people."""
        if len(self.found.messages) < LINES:
            self.found.messages.append(text)

    def bad(self, text: str) -> None:
        """Something is corrupt."""
        self.say(text)
        self.found.corruptions += 1

    def use(self, offset: int, length: int) -> None:
        """Count one use of the clusters that [offset, offset+length) touches."""
        if not length:
            return
        first, last = offset >> self.bits, offset + length - 1 >> self.bits
        if last > self.file_end:
            self.bad(
                f"ERROR: counting reference for region exceeding the end of the file "
                f"by one cluster or more: offset {offset:#x} size {length:#x}"
            )
            return
        self.counts.add(first, last - first + 1)

    def run(self) -> Found:
        """Count, compare, mend. As with QEMU, lines about counts come twice when something is to be mended: as found, and as mended."""
        self.count()
        self.blocks()
        wrong = self.compare()
        if self.rebuild and self.fix_errors:
            self.say("Rebuilding refcount structure")
            self.rebuild_counts()
        elif self.rebuild and self.fix_leaks:
            self.say("ERROR need to rebuild refcount structures")
            self.found.errors += 1
            return self.found
        elif self.fix_leaks:
            for each in wrong:
                self.mend(*each)
        try:
            self.copied()
        except ImageError as error:  # counts that cannot be read
            self.say(str(error))
            self.found.errors += 1
        if self.fix_errors and self.found.corruptions <= self.found.corruptions_fixed and not self.found.errors:
            self.clear_flags()
        return self.found

    def count(self) -> None:
        """Count every use but those of the reference counts themselves."""
        image, fields = self.image, self.image.header.fields
        self.found.total = -(-fields.size >> self.bits)
        self.use(0, self.size)
        self.tree(image.map.l1, fields.l1_table_offset, True)
        left = image.file.size
        for each in image.table_of_snapshots:
            left -= each.fixed.l1_size * 8
            name = f"{each.id.decode('utf-8', 'replace')} ({each.name.decode('utf-8', 'replace')})"
            try:
                if left < 0:
                    raise ImageError("all L1 tables together are larger than the file")
                l1 = snapshots.l1_of(image, each)
            except ImageError:
                self.bad(
                    f"ERROR snapshot {name} l1_offset={each.fixed.l1_table_offset:#x} l1_size={each.fixed.l1_size:#x}: invalid L1 table"
                )
                continue
            self.tree(l1, each.fixed.l1_table_offset, False)
        if image.table_of_snapshots:
            self.use(fields.snapshots_offset, snapshots.size_in_file(image.table_of_snapshots))
        encryption = image.header.extensions.get(ENCRYPTION, b"")
        if len(encryption) == 16:
            self.use(*struct.unpack(">QQ", encryption))
        self.bitmaps()
        for first, many in [run for _, waiting in image.refcounts.waiting for run in waiting]:
            self.counts.add(first, many)  # given up, and still read by somebody

    def tree(self, l1: array[int], offset: int, active: bool) -> None:
        """Count an L1 table and everything that it reaches."""
        self.use(offset, len(l1) * 8)
        image = self.image
        seen: set[int] = set()
        for number, entry in enumerate(l1):
            if not entry:
                continue
            if entry & L1_RESERVED:
                self.bad(f"ERROR found L1 entry with reserved bits set: {entry:x}")
            table = entry & OFFSET
            if not table:
                continue
            if table & (self.size - 1):
                self.bad(f"ERROR l2_offset={table:x}: Table is not cluster aligned; L1 entry corrupted")
            self.use(table, self.size)
            if table < image.file.size and table not in seen:  # twice is an error of counts, which need not take for ever
                seen.add(table)
                self.table(number, table, active)

    def table(self, number: int, offset: int, active: bool) -> None:
        """Count what an L2 table points to."""
        mapping = self.image.map
        data = self.image.file.read(offset, self.size)
        if not data.strip(b"\0"):
            return
        self.next_host = 0
        usual = mapping.entry_size == 8 and not mapping.external
        for at in range(0, len(data), PIECE):
            part = data[at : at + PIECE]
            if not (usual and self.at_once(part, active)):
                self.each(number, offset, at // mapping.entry_size, part, active)

    def at_once(self, part: bytes, active: bool) -> bool:
        """Count a piece of a table whose entries all are sound ones of data clusters, or nothing; False where others are among them."""
        if 0 in part[::8]:
            part = array("Q", [*filter(None, array("Q", part))]).tobytes()
        count = len(part) >> 3
        if not count:
            return True
        entries = joined(part)
        if odd := entries & every(L2_RESERVED | COMPRESSED | ZERO | OFFSET & self.size - 1, count):
            if odd != entries & every(ZERO, count):
                return False
            left = array("Q", [entry for entry in array("Q", part) if entry != NATIVE_ZERO]).tobytes()
            return len(left) < len(part) and self.at_once(left, active)
        copied = part[::8].count(0x80) == count
        hosts = entries ^ every(COPIED, count) if copied else entries & every(OFFSET, count)
        top = every(1 << 56, count)
        if hosts + every((1 << 56) - self.size, count) & top != top or hosts + every(max((1 << 56) - self.end, 0), count) & top:
            return False
        first, apart = hosts >> BITS * (count - 1), 0
        if changed := changes(hosts, every(self.size, count), count):
            apart = marks(changed, count).bit_count()
            self.counts.add_each(big_endian(array("Q", (hosts >> self.bits).to_bytes(len(part), "big"))))
        else:
            self.counts.add(first >> self.bits, count)
        if active:
            self.all_copied &= copied
            self.found.allocated = (self.found.allocated or 0) + count
            self.found.fragmented = (self.found.fragmented or 0) + apart + (self.next_host not in (0, first))
        self.next_host = (hosts & (1 << BITS) - 1) + self.size
        return True

    def each(self, number: int, offset: int, base: int, data: bytes, active: bool) -> None:
        """Count entries of a piece of a table, from the `base`th on, one by one, runs at once."""
        image = self.image
        mapping = image.map
        words = mapping.entry_size // 8
        first = expected = -1
        count = allocated = 0
        next_host = self.next_host
        reserved = L2_RESERVED | (ZERO if words == 2 else 0)
        step, bits, external = self.size, self.bits, mapping.external
        self.all_copied = False
        for index, entry, many in stretches(data, words, step):
            if entry == expected:
                expected += step * many
                count += many
                continue
            if entry & ~ZERO == 0:
                if words == 2 and any(data[index * 16 + 12 : index * 16 + 16]):
                    self.bad("ERROR offset=0: L2 entry has allocated subclusters without a cluster; L2 entry corrupted.")
                continue
            if entry & COMPRESSED:
                self._packed(entry, active)
                continue
            if count:
                self.add_run(first, count)
                allocated += count
                next_host = (first + count) << bits
            count, expected = 0, -1
            if entry & reserved:
                self.bad(f"ERROR found l2 entry with reserved bits set: {entry:x}")
            host = entry & OFFSET
            if not host and not (external and entry & COPIED):
                continue
            if host & (step - 1):
                what = "Preallocated cluster" if entry & ZERO else "Data cluster"
                tail = "L2 entry corrupted."
                if entry & ZERO and self.fix_errors and active:
                    self.say(f"Repairing offset={host:x}: {what} is not properly aligned; {tail}")
                    self.found.corruptions += 1
                    self.found.corruptions_fixed += 1
                    self._patch(offset + (base + index) * mapping.entry_size, ZERO)
                    continue
                self.bad(f"ERROR offset={host:x}: {what} is not properly aligned; {tail}")
                self.use(host, step)
                allocated += 1
                if next_host and host != next_host and active:
                    self.found.fragmented = (self.found.fragmented or 0) + 1
                next_host = host + step
                continue
            guest = (number * mapping.per_table + base + index) << bits
            if external and host != guest:
                self.bad(f"ERROR: Data cluster at offset {host:#x} does not match its guest offset {guest:#x} in the external data file")
                continue
            if next_host and host != next_host and active:
                self.found.fragmented = (self.found.fragmented or 0) + 1
            first, count, expected = host >> bits, many, entry + step * many
        if count:
            self.add_run(first, count)
            allocated += count
            next_host = (first + count) << bits
        self.next_host = next_host
        if active:
            self.found.allocated = (self.found.allocated or 0) + allocated

    def add_run(self, first: int, count: int) -> None:
        """Count data clusters; those of an external file have no counts."""
        if not self.image.map.external:
            self.use(first << self.bits, count << self.bits)

    def _packed(self, entry: int, active: bool) -> None:
        if entry & COPIED:
            self.bad(f"ERROR: coffset=0x{self.image.map.compressed(entry)[0]:x}: copied flag must never be set for compressed clusters")
        if self.image.map.external:
            self.bad("ERROR compressed cluster in an image with an external data file")
            return
        first, count = self.image.map.held(entry)
        self.use(first << self.bits, count << self.bits)
        if active:
            self.found.allocated = (self.found.allocated or 0) + 1
            self.found.compressed = (self.found.compressed or 0) + 1
            self.found.fragmented = (self.found.fragmented or 0) + 1

    def _patch(self, offset: int, entry: int) -> None:
        self.image.file.write(offset, entry.to_bytes(8, "big"))
        self.image.map.l2.forget()

    def bitmaps(self) -> None:
        """Count the bitmap directory and what it reaches."""
        records = self.image.records
        for offset, length in [*records.directory(), *(place for record in records.records for place in records.places(record))]:
            if offset % self.size:
                self.bad(f"ERROR bitmap data at {offset:#x} is not cluster aligned")
            else:
                self.use(offset, length)

    def blocks(self) -> None:
        """Count the refcount table and its blocks."""
        fields, refcounts = self.image.header.fields, self.image.refcounts
        self.use(fields.refcount_table_offset, fields.refcount_table_clusters << self.bits)
        for number, offset in enumerate(refcounts.table):
            if not offset:
                continue
            if offset & (self.size - 1):
                self.bad(f"ERROR refcount block {number} is not cluster aligned; refcount table entry corrupted")
                self.rebuild = True
            elif offset >> self.bits >= self.file_end:
                self.bad(f"{'Repairing' if self.fix_errors else 'ERROR'} refcount block {number} is outside image")
                self.rebuild = True
            else:
                self.use(offset, self.size)
                if self.counts.get(offset >> self.bits) != 1:
                    self.bad(f"ERROR refcount block {number} refcount={self.counts.get(offset >> self.bits)}")
                    self.rebuild = True

    def compare(self) -> list[tuple[int, int, int]]:
        """Reference counts on the disk against those that were counted, a block at a time: (cluster, as is, as should be) of wrong ones."""
        refcounts = self.image.refcounts
        per_block = refcounts.per_block
        numbers = self.counts.used_blocks(per_block) | {number for number, offset in enumerate(refcounts.table) if offset}
        end = max(self.file_end, self.counts.end())  # counts of clusters behind the file's end do no harm
        small = bytes(range(min(refcounts.limit, MANY - 1) + 1))
        highest = 0
        wrong: list[tuple[int, int, int]] = []
        for number in sorted(numbers):
            first = number * per_block
            count = min(per_block, end - first)
            if count <= 0:
                break
            counted = self.counts.part(first, count)
            block = self.image.file.read(refcounts.table[number], self.size) if self.sound_block(number) else bytes(self.size)
            if not counted.translate(None, small) and block == packed(counted + bytes(per_block - count), refcounts.width):
                used = len(counted.rstrip(b"\0"))
                highest = first + used if used else highest
                continue
            for at, (have, should) in enumerate(zip(refcounts.values(block), counted)):
                if have or should:
                    highest = first + at + 1
                if have != should:
                    real = self.counts.get(first + at)
                    if have != real:
                        self.differs(first + at, have, real)
                        if len(wrong) < MOST:
                            wrong.append((first + at, have, real))
        self.found.end = highest << self.bits
        return wrong

    def sound_block(self, number: int) -> bool:
        """Whether reference count block `number` lies in the file."""
        table = self.image.refcounts.table
        offset = table[number] if number < len(table) else 0
        return bool(offset) and not offset & (self.size - 1) and offset >> self.bits < self.file_end

    def differs(self, cluster: int, have: int, should: int) -> None:
        """One count is wrong."""
        if not have:
            self.rebuild = True
        if have > should:
            self.say(f"Leaked cluster {cluster} refcount={have} reference={should}")
            self.found.leaks += 1
        else:
            self.bad(f"ERROR cluster {cluster} refcount={have} reference={should}")

    def mend(self, cluster: int, have: int, should: int) -> None:
        """Put one count right where that was asked for."""
        if have < should and not self.fix_errors:
            self.say(f"ERROR cluster {cluster} refcount={have} reference={should}")
            return
        self.say(f"Repairing cluster {cluster} refcount={have} reference={should}")
        try:
            self.image.refcounts.change(cluster, 1, should - have)
        except ImageError:
            self.found.errors += 1
            return
        if have > should:
            self.found.leaks_fixed += 1
        else:
            self.found.corruptions_fixed += 1

    def rebuild_counts(self) -> None:
        """Write all reference counts anew: a structure that misses blocks cannot be mended in place."""
        again = Check(self.image, False, False)
        again.count()
        try:
            rebuild(self.image, again.counts, self.image.header.fields.refcount_order)
        except UserError as error:
            self.say(str(error))
            self.found.errors += 1
            return
        for cluster in range(self.file_end):
            have, should = self.counts.get(cluster), again.counts.get(cluster)
            if have > should:  # the old structure
                self.say(f"Repairing cluster {cluster} refcount={have} reference={should}")
        self.image.reserve()
        self.counts = again.counts
        self.found.corruptions_fixed = self.found.corruptions
        self.found.leaks_fixed = self.found.leaks
        self.rebuild = False

    def copied(self) -> None:
        """Bit 63 of active entries says whether the count is 1."""
        image, mapping, refcounts = self.image, self.image.map, self.image.refcounts
        words = mapping.entry_size // 8
        found = self.found
        fix = self.fix_errors or (
            self.fix_leaks and not found.errors and found.corruptions == found.corruptions_fixed and found.leaks == found.leaks_fixed
        )
        word = "Repairing" if fix else "ERROR"
        seen: set[int] = set()

        right = self.all_copied and not (found.corruptions or found.leaks or found.errors) and self.counts.single()
        for number, entry in enumerate(mapping.l1):
            table = entry & OFFSET
            if not table or table & (self.size - 1):
                continue
            count = refcounts.get(table >> self.bits)
            if (count == 1) != bool(entry & COPIED):
                self.mended(f"{word} OFLAG_COPIED L2 cluster: l1_index={number} l1_entry={entry:x} refcount={count}", fix)
                if fix:
                    mapping.set_l1(number, entry ^ COPIED)
            if right or mapping.external or table >= image.file.size or table in seen:
                continue
            seen.add(table)
            start, counts = 0, array("B")
            for index, each, many in stretches(image.file.read(table, self.size), words, self.size):
                if not each & OFFSET or each & COMPRESSED or each & OFFSET & (self.size - 1):
                    continue
                cluster = (each & OFFSET) >> self.bits
                if many > 1 and each & COPIED and refcounts.all_one(cluster, many):
                    continue
                for at in range(many):
                    if not start <= cluster + at < start + len(counts):
                        start, counts = cluster + at, array("Q", refcounts.counts(cluster + at, 1024))
                    count = counts[cluster + at - start]
                    if (count == 1) != bool(each & COPIED):
                        old = each + at * self.size
                        self.mended(f"{word} OFLAG_COPIED data cluster: l2_entry={old:x} refcount={count}", fix)
                        if fix:
                            guest = number * mapping.per_table + index + at
                            mapping.put(guest, (old ^ COPIED, *mapping.entries(guest, 1)[1:]))

    def mended(self, text: str, fix: bool) -> None:
        """A corruption that is mended at once."""
        self.bad(text)
        if fix:
            self.found.corruptions_fixed += 1

    def clear_flags(self) -> None:
        """Everything is right again: the header says so."""
        image = self.image
        image.map.write()
        image.file.flush()
        fields = image.header.fields
        if fields.incompatible_features & (DIRTY | CORRUPT):
            fields.incompatible_features &= ~(DIRTY | CORRUPT)
            image.header.write_fields()
            image.file.flush()
        image.dirty = False


def check(image: Qcow2, fix_leaks: bool, fix_errors: bool) -> Found:
    """Look at `image`, with its locks held, and mend what is asked for."""
    if image.begun:
        image.commit()
        image.commit()
    found = Check(image, fix_leaks, fix_errors).run()
    if fix_leaks or fix_errors:
        image.commit()
    return found
