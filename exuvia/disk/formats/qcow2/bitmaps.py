"""Persistent dirty bitmaps (qcow2.txt, "Bitmaps"): their directory, reading and replacing them, and recording what is written.

A bitmap is replaced by writing another and switching the directory. The header's extension is no single sector, so while it changes the
autoclear bit is off: a power cut then loses bitmaps, which says "everything may be dirty", and never leaves a wrong one.
"""

from __future__ import annotations

from array import array

from exuvia.disk.format import Bitmap
from exuvia.disk.formats.qcow2.header import BITMAP_DIRECTORY, BITMAPS
from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import OFFSET
from exuvia.disk.structure import Structure, at
from exuvia.disk.vector import Buffer
from exuvia.support.errors import UserError
from exuvia.support.record import Record as Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.disk.formats.qcow2.qcow2 import Qcow2

IN_USE, AUTO, EXTRA_COMPATIBLE = 1, 2, 4  # flags of an entry
DIRTY_TRACKING = 1  # the one type
ONES = 1  # a table entry without a cluster: all bits set
MOST, LONGEST_NAME = 65535, 1023
SMALLEST, LARGEST = 9, 31  # granularities' logarithms, QEMU's
SIZE_LIMIT = 512 << 20  # bytes of one bitmap, QEMU's


class Extension(Structure, order=">"):
    """The header extension."""

    count: int = at("I")
    reserved: int = at("I")
    size: int = at("Q")
    offset: int = at("Q")


class Entry(Structure, order=">"):
    """The fixed part of a directory entry."""

    table_offset: int = at("Q")
    table_size: int = at("I")
    flags: int = at("I")
    type: int = at("B", DIRTY_TRACKING)
    granularity_bits: int = at("B", 16)
    name_size: int = at("H")
    extra_size: int = at("I")


class Record(Values):
    """One bitmap. `live`: its bits while we record; the image says "in use" meanwhile."""

    entry: Entry
    extra: bytes
    name: bytes
    live: bytearray | None = None

    def pack(self) -> bytes:
        """Its bytes in the directory."""
        self.entry.name_size, self.entry.extra_size = len(self.name), len(self.extra)
        packed = self.entry.pack() + self.extra + self.name
        return packed + bytes(-len(packed) % 8)

    @property
    def usable(self) -> bool:
        """Whether what it says can be relied on."""
        if self.live is not None:
            return True
        return not self.entry.flags & IN_USE and (not self.extra or bool(self.entry.flags & EXTRA_COMPATIBLE))

    def public(self) -> Bitmap:
        """As commands see it."""
        flags = self.entry.flags
        in_use = bool(flags & IN_USE) and self.live is None
        return Bitmap(self.name.decode("utf-8", "replace"), 1 << self.entry.granularity_bits, bool(flags & AUTO), in_use)

    def length(self, size: int) -> int:
        """Bytes of its bits for a disk of `size` bytes."""
        return (-(-size >> self.entry.granularity_bits) + 7) >> 3

    def mark(self, offset: int, length: int) -> None:
        """[offset, offset+length) was written."""
        live, shift = self.live, self.entry.granularity_bits
        if live is None or not length:
            return
        first, last = offset >> shift, offset + length - 1 >> shift
        start, end = first >> 3, last >> 3
        low, high = 0xFF << (first & 7) & 0xFF, 0xFF >> 7 - (last & 7)
        if start == end:
            live[start] |= low & high
            return
        live[start] |= low
        live[start + 1 : end] = b"\xff" * (end - start - 1)
        live[end] |= high


class Bitmaps:
    """All of an image's. The image's lock guards them."""

    def __init__(self, image: Qcow2) -> None:
        self.image = image
        self.records: list[Record] = []
        self.recording = False
        header = image.header
        found = header.extensions.get(BITMAP_DIRECTORY)
        if not header.fields.autoclear_features & BITMAPS:
            return  # somebody who knows nothing of bitmaps wrote since
        if found is None or len(found) != Extension.SIZE:
            raise header.error("bitmaps_ext: no bitmaps extension, but its feature bit is set")
        self._read(Extension.unpack(found))

    def _read(self, said: Extension) -> None:
        header, file = self.image.header, self.image.file
        if not 0 < said.count <= MOST or said.reserved:
            raise header.error("bitmaps_ext: invalid number of bitmaps")
        if said.offset % self.image.cluster or not said.offset or said.offset + said.size > file.size:
            raise header.error("bitmaps_ext: the bitmap directory lies outside of the file, or unaligned")
        if said.size > said.count * (Entry.SIZE + LONGEST_NAME + 8):
            raise header.error("bitmaps_ext: bitmap directory size is too large")
        data = file.read(said.offset, said.size)
        place = 0
        for _ in range(said.count):
            entry = Entry.unpack(data, place)
            end = place + Entry.SIZE + entry.extra_size + entry.name_size
            if end > len(data):
                raise header.error("bitmaps_ext: a directory entry is longer than the directory")
            extra = data[place + Entry.SIZE : place + Entry.SIZE + entry.extra_size]
            name = data[place + Entry.SIZE + entry.extra_size : end]
            if entry.type != DIRTY_TRACKING or not SMALLEST <= entry.granularity_bits <= LARGEST or not name:
                raise header.error("bitmaps_ext: a bitmap of a type or granularity that is not known, or without a name")
            if entry.table_size > SIZE_LIMIT // self.image.cluster + 1:
                raise header.error("bitmaps_ext: a bitmap table is too large")
            if entry.table_offset % self.image.cluster or entry.table_offset + entry.table_size * 8 > file.size:
                raise header.error("bitmaps_ext: a bitmap table lies outside of the file, or unaligned")
            self.records.append(Record(entry, extra, name))
            place = end + -end % 8

    def find(self, name: str) -> Record:
        """The bitmap of that name. Raises UserError."""
        for record in self.records:
            if record.name == name.encode("utf-8", "surrogateescape"):
                return record
        raise UserError(f"Dirty bitmap '{name}' not found")

    def _table(self, record: Record) -> array[int]:
        entry = record.entry
        return big_endian(array("Q", self.image.file.read(entry.table_offset, entry.table_size * 8)))

    def bits(self, record: Record) -> bytes:
        """Its bits. Raises UserError where they cannot be relied on."""
        length, size = record.length(self.image.size), self.image.cluster
        name = record.name.decode("utf-8", "replace")
        if record.live is not None:
            return bytes(record.live)
        if not record.usable:
            raise UserError(
                f"Bitmap '{name}' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to delete this bitmap from disk"
            )
        if length > SIZE_LIMIT or record.entry.table_size != -(-length // size):
            raise self.image.header.error(f"bitmap '{name}' has another size than the disk says")
        found = bytearray()
        for entry in self._table(record):
            if entry & OFFSET:
                if entry & OFFSET & (size - 1):
                    raise self.image.header.error(f"bitmap '{name}' has an unaligned cluster {entry:#x}")
                found += self.image.file.read(entry & OFFSET, size)
            else:
                found += (b"\xff" if entry & ONES else b"\0") * size
        return bytes(found[:length])

    def _store(self, record: Record, bits: Buffer) -> None:
        """Write bits to new places, and make `record` point there; the directory is the caller's."""
        image, size = self.image, self.image.cluster
        view = memoryview(bits).cast("B")
        if len(view) > SIZE_LIMIT:
            raise UserError(f"{image.filename}: a bitmap of {len(view)} bytes is too large, make its granularity coarser")
        table = array("Q")
        for start in range(0, len(view), size):
            part = bytes(view[start : start + size])
            if not part.strip(b"\0"):
                table.append(0)
            elif len(part) == size and not part.strip(b"\xff"):
                table.append(ONES)
            else:
                place = image.take(1)
                image.file.write(place, part.ljust(size, b"\0"))
                table.append(place)
        record.entry.table_size = len(table)
        record.entry.table_offset = image.take(max(-(-len(table) * 8 // size), 1))
        image.file.write(record.entry.table_offset, big_endian(table).tobytes().ljust(8, b"\0"))

    def places(self, record: Record) -> list[tuple[int, int]]:
        """(offset, length) of what a bitmap takes."""
        found = [(record.entry.table_offset, max(record.entry.table_size * 8, 1))]
        found += [(entry & OFFSET, self.image.cluster) for entry in self._table(record) if entry & OFFSET]
        return found

    def directory(self) -> list[tuple[int, int]]:
        """(offset, length) of the directory, [] for none."""
        if not self.image.header.fields.autoclear_features & BITMAPS:
            return []
        said = Extension.unpack(self.image.header.extensions[BITMAP_DIRECTORY])
        return [(said.offset, said.size)]

    def _switch(self, records: list[Record], old: list[tuple[int, int]]) -> None:
        """Make `records` the directory; what lay at `old`, and the old directory, is given up."""
        image = self.image
        header, fields = image.header, image.header.fields
        old = old + self.directory()
        packed = b"".join(record.pack() for record in records)
        extension = b""
        if records:
            offset = image.take(-(-len(packed) // image.cluster))
            image.file.write(offset, packed)
            extension = Extension(len(records), 0, len(packed), offset).pack()
        image.commit()
        if fields.autoclear_features & BITMAPS:
            fields.autoclear_features &= ~BITMAPS
            header.write_fields()
            image.file.flush()
        header.extensions.pop(BITMAP_DIRECTORY, None)
        if records:
            header.extensions[BITMAP_DIRECTORY] = extension
        header.write()
        image.file.flush()
        if records:
            fields.autoclear_features |= BITMAPS
            header.write_fields()
            image.file.flush()
        self.records = records
        bits = image.map.bits
        for place, length in old:
            image.refcounts.give_up(place >> bits, (length + image.cluster - 1) >> bits)
        image.commit()

    def add(self, bitmap: Bitmap) -> None:
        """A new one, all clear. Raises UserError."""
        name, grain = bitmap.name.encode("utf-8", "surrogateescape"), bitmap.granularity
        if grain & (grain - 1) or not 1 << SMALLEST <= grain <= 1 << LARGEST:
            raise UserError("Granularity must be power of 2 and at least 512")
        if self.image.header.fields.version < 3:
            raise UserError(
                f"Can't make bitmap '{bitmap.name}' persistent in '{self.image.filename}': Cannot store dirty bitmaps in qcow2 v2 files"
            )
        if any(record.name == name for record in self.records):
            raise UserError(f"Bitmap already exists: {bitmap.name}")
        if not name:
            raise UserError("Bitmap name cannot be empty")
        if len(name) > LONGEST_NAME:
            raise UserError(f"Bitmap name is too long: {bitmap.name}")
        if len(self.records) == MOST:
            raise UserError(f"{self.image.filename}: an image has {MOST} bitmaps at most")
        record = Record(Entry(flags=AUTO if bitmap.enabled else 0, granularity_bits=grain.bit_length() - 1), b"", name)
        bits = bytearray(record.length(self.image.size))
        self._store(record, bits)
        if self.recording and bitmap.enabled:
            record.live = bits
            record.entry.flags |= IN_USE
        self._switch([*self.records, record], [])

    def remove(self, name: str) -> None:
        """Forget one."""
        record = self.find(name)
        self._switch([each for each in self.records if each is not record], self.places(record))

    def replace(self, name: str, bits: Buffer, enabled: bool) -> None:
        """Other bits, and whether it records."""
        record = self.find(name)
        if not record.usable:
            self.bits(record)
        old = self.places(record)
        self._store(record, bits)
        live = self.recording and enabled
        record.live = bytearray(bits) if live else None
        record.entry.flags = (AUTO if enabled else 0) | (IN_USE if live else 0) | record.entry.flags & EXTRA_COMPATIBLE
        self._switch(self.records, old)

    def begin(self) -> None:
        """Somebody writes from now on: those that record say so in the image."""
        self.recording = True
        changed = False
        for record in self.records:
            if record.entry.flags & AUTO and record.usable and record.live is None:
                record.live = bytearray(self.bits(record))
                record.entry.flags |= IN_USE
                changed = True
        if changed:
            self._write_flags()

    def _write_flags(self) -> None:
        """The directory in its place, with other flags."""
        self.image.file.write(self.directory()[0][0], b"".join(record.pack() for record in self.records))
        self.image.file.flush()

    def end(self) -> None:
        """Nobody writes any more: what was recorded is stored."""
        live = [record for record in self.records if record.live is not None]
        old = []
        for record in live:
            assert record.live is not None
            old += self.places(record)
            self._store(record, record.live)
            record.entry.flags &= ~IN_USE
        if live:
            self._switch(self.records, old)
        for record in live:
            record.live = None
        self.recording = False

    def mark(self, offset: int, length: int) -> None:
        """[offset, offset+length) was written."""
        for record in self.records:
            if record.live is not None:
                record.mark(offset, length)

    @property
    def live(self) -> bool:
        """Whether any records."""
        return any(record.live is not None for record in self.records)

    def resize(self, contents: list[bytes]) -> None:
        """The disk has another size: `contents` are the bits of all as they were. New bits are clear."""
        old = []
        for record, bits in zip(self.records, contents):
            length = record.length(self.image.size)
            count = -(-self.image.size >> record.entry.granularity_bits)
            now = bytearray(bits[:length].ljust(length, b"\0"))
            if count % 8 and len(now):
                now[-1] &= (1 << count % 8) - 1
            old += self.places(record)
            self._store(record, now)
            if record.live is not None:
                record.live = now
        if self.records:
            self._switch(self.records, old)
