"""Extended L2 entries (qcow2.txt, "Extended L2 Entries"): each says of 32 subclusters which are there and which are zero."""

from struct import unpack_from

from exuvia.disk.formats.qcow2.mapping import Mapping
from exuvia.disk.formats.qcow2.rows import COMPRESSED, COPIED, OFFSET
from exuvia.disk.node import Extent, Kind

EACH = 32
ALL = (1 << EACH) - 1


class Subclusters(Mapping):
    """An entry is two words: the host cluster, and the bitmap with allocated ones low and zero ones high."""

    entry_size = 16

    def lookup(self, offset: int, length: int) -> Extent:
        first, done = self._piece(offset, length), 0
        extent = first
        done = extent.length
        while done < length and (offset + done) % self.size == 0:
            more = self._piece(offset + done, length - done)
            host = None if first.host is None else first.host + done
            if more.kind is not first.kind or more.frozen != first.frozen or more.host != host:
                break
            done += more.length
        return first._replace(length=done)

    def _piece(self, offset: int, length: int) -> Extent:
        """An extent inside of one cluster; where a whole table has nothing, it is as long as the table's part."""
        index, within = offset >> self.bits, offset & self.size - 1
        page, at = self.page(index)
        if not page:
            return Extent(Kind.ABSENT, min(length, self.span - offset % self.span))
        entry, bitmap = unpack_from(">QQ", self.l2.page(page), at * 16)
        here = min(length, self.size - within)
        if entry & COMPRESSED:
            return Extent(Kind.COMPRESSED, here)
        host = entry & OFFSET
        if host & self.size - 1:
            raise self.corrupt(f"Cluster allocation offset {host:#x} unaligned (guest offset: {offset:#x})")
        there, zero = bitmap & ALL, bitmap >> EACH
        has_host = bool(host or self.external and entry & COPIED)
        if there & zero or there and not has_host:
            raise self.corrupt(f"L2 entry with an invalid subcluster bitmap {bitmap:#x} (guest offset: {offset:#x})")
        shift = self.bits - 5
        number = within >> shift
        kind = Kind.DATA if there >> number & 1 else Kind.ZERO if zero >> number & 1 else Kind.ABSENT
        same = there if kind is Kind.DATA else zero if kind is Kind.ZERO else ~(there | zero) & ALL
        other = ~(same >> number)
        run = (other & -other).bit_length() - 1
        here = min(length, min((number + run) << shift, self.size) - within)
        if not has_host:
            return Extent(kind, here)
        return Extent(kind, here, host + within, self.data, not entry & COPIED)
