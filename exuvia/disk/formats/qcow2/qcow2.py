"""qcow2: the format class; each chapter of the specification is a file beside this one."""

from __future__ import annotations

import errno
import os

from exuvia.disk.clusters import Columns, Room, Writable
from exuvia.disk.format import Bitmap, Found, Measure, Opener, Snapshot
from exuvia.disk.formats.qcow2 import bitmaps, erase
from exuvia.disk.formats.qcow2.header import (
    AES,
    BACKING_FORMAT,
    BITMAP_DIRECTORY,
    BITMAPS,
    COMPRESSIONS,
    CORRUPT,
    DATA_FILE,
    DIRTY,
    EXTENDED_L2,
    LAZY_REFCOUNTS,
    LONGEST_NAME,
    MAGIC,
    RAW_DATA_FILE,
    Header,
)
from exuvia.disk.formats.qcow2.mapping import Mapping
from exuvia.disk.formats.qcow2.refcounts import Refcounts
from exuvia.disk.formats.qcow2.rows import COMPRESSED, COPIED, OFFSET, ZERO
from exuvia.disk.formats.qcow2.subclusters import ALL, EACH, Subclusters
from exuvia.disk.node import Extent, ImageError, Node
from exuvia.disk.options import Option
from exuvia.disk.vector import Buffer, Vector
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from exuvia.disk.formats.qcow2 import amend, check, compression, create, encryption, resize, snapshots

else:
    amend, check, compression, create, encryption, resize, snapshots = (
        Later(f"exuvia.disk.formats.qcow2.{name}")
        for name in ("amend", "check", "compression", "create", "encryption", "resize", "snapshots")
    )

L2_CACHE, REFCOUNT_CACHE = 32 << 20, 8 << 20  # bytes
TAKEN = "how QEMU does it; taken and not needed here"
PENDING = 4096  # runs of clusters to be given up that may wait for the next flush


class Qcow2(Writable):
    """`cluster` is the cluster's size; `grain` is the subcluster's with extended L2 entries."""

    name = "qcow2"
    supports_backing = True
    suffixes = (".qcow2", ".qcow", ".q2")
    OPTIONS = (
        Option("data-file", str, None, "the external data file, where another than the image names shall be used"),
        Option("lazy-refcounts", bool, None, "postpone refcount updates, as the image says by default"),
        Option("l2-cache-size", "size", L2_CACHE, "memory for L2 tables"),
        Option("refcount-cache-size", "size", REFCOUNT_CACHE, "memory for reference counts"),
        *(Option(name, "size", None, TAKEN) for name in ("cache-size", "l2-cache-entry-size", "cache-clean-interval")),
        *(Option(name, str, None, TAKEN) for name in ("overlap-check", "overlap-check.template")),
        *(Option(f"pass-discard-{what}", bool, None, TAKEN) for what in ("request", "snapshot", "other")),
        Option("encrypt.format", ("aes", "luks"), None, "how the image is encrypted, which it says itself"),
        Option("encrypt.key-secret", str, None, "ID of the secret that provides the AES key or the LUKS passphrase"),
    )
    CREATE = Later("exuvia.disk.formats.qcow2.create", "OPTIONS")
    AMEND = Later("exuvia.disk.formats.qcow2.amend", "OPTIONS")

    def open(self) -> None:
        self.header = header = Header.read(self.file)
        fields = header.fields
        self.size = fields.size
        self.cluster = self.cluster_size = 1 << fields.cluster_bits
        self.backing_file, self.backing_format = header.backing_file, header.backing_format
        self.begun = self.recording = False
        self.compressor: compression.Codec | None = None
        self.data = self._open_data()
        try:
            self.refcounts = Refcounts(self.file, header, int(self.options.get("refcount-cache-size") or REFCOUNT_CACHE))
            kind = Mapping
            if fields.incompatible_features & EXTENDED_L2:
                kind = Subclusters
            self.map = kind(self.file, header, self.refcounts, self.data, int(self.options.get("l2-cache-size") or L2_CACHE))
            self.key = encryption.Key(header, self.options) if fields.crypt_method else None
            self.encrypted = self.key is not None
            self.cipher: encryption.Encrypted | None = None
            if self.key is not None:
                self.map.data = self.cipher = encryption.Encrypted(self.data, self.key)
            self.by_guest = self.cipher is not None and fields.crypt_method == AES
            if fields.l1_size < -(-fields.size // self.map.span):
                raise header.error("L1 table is too small")
            self.virgin = self.data.size + -self.data.size % self.cluster_size  # nobody wrote behind it: it reads as zeros
            self.table_of_snapshots = snapshots.read(header) if fields.nb_snapshots else []
            self.records = bitmaps.Bitmaps(self)
            self.dirty = bool(fields.incompatible_features & DIRTY)
        except BaseException:
            if self.data is not self.file:
                self.data.close()
            raise

    def _open_data(self) -> Node:
        header = self.header
        if not header.fields.incompatible_features & DATA_FILE:
            if self.options.get("data-file"):
                raise header.error("'data-file' can only be set for images with an external data file")
            return self.file
        name = self.options.get("data-file") or header.data_file
        if not name or self.opener is None:
            raise header.error("'data-file' is required for this image")
        return self.opener(name, self.writable)

    def unlock(self) -> None:
        if self.key is not None:
            self.key.cipher()

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        """Version 1 is another format."""
        return 100 if head[:4] == MAGIC and head[4:8] in (b"\0\0\0\2", b"\0\0\0\3") else 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        create.create(cls, file, size, options, opener)

    @classmethod
    def measure(cls, size: int, options: dict[str, Any], source: Node | None) -> Measure:
        return create.measure(size, options, source)

    def children(self) -> Iterator[tuple[str, Node]]:
        yield from super().children()
        if self.data is not self.file:
            yield "data-file", self.data

    def info(self) -> dict[str, Any]:
        """As QMP's ImageInfoSpecificQCow2."""
        fields = self.header.fields
        found: dict[str, Any] = {
            "compat": "0.10" if fields.version == 2 else "1.1",
            "compression-type": COMPRESSIONS[fields.compression_type],
        }
        found["refcount-bits"] = 1 << fields.refcount_order
        if fields.version > 2:
            found["lazy-refcounts"] = bool(fields.compatible_features & LAZY_REFCOUNTS)
            found["corrupt"] = bool(fields.incompatible_features & CORRUPT)
            if self.records.records:
                found["bitmaps"] = [{"flags": each.flags(), "name": each.name, "granularity": each.granularity} for each in self.bitmaps()]
            found["extended-l2"] = bool(fields.incompatible_features & EXTENDED_L2)
            if fields.incompatible_features & DATA_FILE:
                if self.header.data_file is not None:
                    found["data-file"] = self.header.data_file
                found["data-file-raw"] = self.raw_data
        if self.key is not None:
            found["encrypt"] = self.key.info()
        return found

    @property
    def grain(self) -> int:
        """Bytes that are allocated at once."""
        return self.cluster // EACH if self.map.entry_size == 16 else self.cluster

    @property
    def raw_data(self) -> bool:
        """Whether the external data file must be a raw image of the disk at any time."""
        return bool(self.header.fields.autoclear_features & RAW_DATA_FILE)

    def lookup(self, offset: int, length: int) -> Extent:
        extent, cipher = self.map.lookup(offset, length), self.cipher if self.by_guest else None
        return extent if cipher is None or extent.host is None else extent._replace(file=cipher.at(offset - extent.host))

    def several(self, offset: int, length: int) -> list[Extent]:
        return self.map.several(offset, length) if self.cipher is None else [self.lookup(offset, length)]

    def columns(self, offset: int, length: int) -> Iterator[Columns] | None:
        return self.map.columns(offset, length, self.lock) if self.cipher is None and self.map.entry_size == 8 else None

    def units(self, unit: int, length: int) -> int | None:
        with self.lock:
            return self.map.units(unit, length)

    def unpack(self, offset: int, length: int) -> bytes:
        bits, size = self.map.bits, self.cluster_size
        first, last = offset >> bits, offset + length - 1 >> bits
        with self.lock:
            words = self.map.entries(first, last - first + 1)[:: self.map.entry_size // 8]
            unpacker = self.compressor = self.compressor or compression.codec(self.header.fields.compression_type)
        found = []
        for entry in words:
            if not entry & COMPRESSED:  # somebody wrote there between two looks
                return self.read(offset, length)
            host, most = self.map.compressed(entry)
            try:
                found.append(unpacker.decompress(self.file.read(host, most), size))
            except ValueError as error:
                raise ImageError(f"{self.filename}: the compressed cluster at {host:#x} does not unpack: {error}") from None
        start = offset - (first << bits)
        return b"".join(found)[start : start + length]

    def begin(self) -> None:
        """Before the first change of all: what the header must say while somebody writes. Raises ImageError for a corrupt one."""
        with self.lock:
            fields = self.header.fields
            if self.begun:
                return
            if self.key is not None:
                self.key.cipher()  # without the secret nothing is written
            if fields.incompatible_features & CORRUPT:
                raise self.header.error("Image is corrupt; cannot be opened read/write")
            if self.dirty:
                self.begun = True
                found = check.check(self, True, True)
                if found.errors or found.corruptions > found.corruptions_fixed:
                    self.begun = False
                    raise self.header.error("Could not repair dirty image")
            lazy = self.options.get("lazy-refcounts")
            self.map.lazy = fields.version > 2 and bool(fields.compatible_features & LAZY_REFCOUNTS if lazy is None else lazy)
            before = fields.incompatible_features, fields.autoclear_features
            fields.autoclear_features &= BITMAPS | RAW_DATA_FILE
            fields.incompatible_features |= DIRTY if self.map.lazy else 0
            if fields.autoclear_features & BITMAPS == 0:
                self.header.extensions.pop(BITMAP_DIRECTORY, None)
            if before != (fields.incompatible_features, fields.autoclear_features):
                self.header.write_fields()
                self.file.flush()
            self.begun = True
            self.reserve()
            self.records.begin()
            self.recording = self.records.live

    def readv(self, offset: int, into: Vector) -> None:
        if not self.writable:  # nothing is ever given up
            super().readv(offset, into)
            return
        with self.lock:
            epoch = self.refcounts.enter()
        try:
            super().readv(offset, into)
        finally:
            with self.lock:
                self.refcounts.leave(epoch)

    def writev(self, offset: int, data: Vector) -> None:
        if not self.begun:
            self.begin()
        with self.lock:
            epoch = self.refcounts.enter()
        try:
            super().writev(offset, data)
        finally:
            with self.lock:
                self.refcounts.leave(epoch)
        if self.recording:
            self._record(offset, data.length)

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        if not self.begun:
            self.begin()
        with self.lock:
            epoch = self.refcounts.enter()
        try:
            super().zero(offset, length, unmap)
        finally:
            with self.lock:
                self.refcounts.leave(epoch)
        if self.recording:
            self._record(offset, length)

    def _record(self, offset: int, length: int) -> None:
        with self.lock:
            self.records.mark(offset, length)

    def place(self, offset: int, length: int) -> Room:
        room = self._place(offset, length)
        if self.cipher is None:
            return room
        return room._replace(clear=False, file=self.cipher.at(offset - room.host) if self.by_guest else self.cipher)

    def _place(self, offset: int, length: int) -> Room:
        self.relieve()
        size = self.cluster_size
        index, within = divmod(offset, size)
        self.map.own_table(index)
        length = min(length, self.map.span - offset % self.map.span)
        if self.map.external:  # a raw data file ends where the disk does
            return Room(offset, min(length, self.size - offset), False, self.data)
        if length == size and self.map.entry_size == 8:
            entry = self.map.entry(index)
            if not (entry & OFFSET and entry & COPIED):
                host = self.refcounts.allocate(1)[0] * size
                clear, self.virgin = host >= self.virgin, max(self.virgin, host + size)
                return Room(host, size, clear, self.data)
        entries = self.map.entries(index, (within + length + size - 1) // size)
        words = self.map.entry_size // 8
        if words == 2 and (entries[0] & COMPRESSED or entries[0] & OFFSET and not entries[0] & COPIED):
            entries[0] = self.thaw(index)
        if entries[0] & OFFSET and entries[0] & COPIED:
            count = 1
            while count * words < len(entries) and entries[count * words] & ~ZERO == (entries[0] & ~ZERO) + count * size:
                count += 1
            return Room((entries[0] & OFFSET) + within, min(length, count * size - within), False, self.data)
        count = 1
        while count * words < len(entries) and (
            not entries[count * words] & OFFSET or words == 1 and not entries[count] & COPIED or entries[count * words] & COMPRESSED
        ):
            if words == 2 and entries[count * words] & COMPRESSED:
                break
            count += 1
        first, count = self.refcounts.allocate(count)
        host = first * size
        clear = host >= self.virgin
        self.virgin = max(self.virgin, host + count * size)
        return Room(host + within, min(length, count * size - within), clear, self.data)

    def unplace(self, offset: int, room: Room) -> None:
        """The room was not filled: clusters that were made for it go back."""
        size = self.cluster_size
        index, within = divmod(offset, size)
        for number in range((within + room.length + size - 1) // size):
            host = room.host - within + number * size
            if not self.map.external and self.map.entries(index + number, 1)[0] & OFFSET != host:
                self.refcounts.give_up(host // size, 1)

    def link(self, offset: int, room: Room) -> None:
        size, words = self.cluster_size, self.map.entry_size // 8
        index, within = divmod(offset, size)
        count = (within + room.length + size - 1) // size
        host = room.host - within
        if count == words == 1:
            entry = self.map.entry(index)
            if entry and (entry & COMPRESSED or entry & OFFSET != host):
                self.map.give_up(entry)
            self.map.put_one(index, host | COPIED)
            return
        old = self.map.entries(index, count)
        new = list(old)
        new[::words] = range(host | COPIED, (host | COPIED) + count * size, size)
        for number in range(count):
            entry = old[number * words]
            if entry and (entry & COMPRESSED or entry & OFFSET != host + number * size):
                self.map.give_up(entry)
            if words == 2:
                start = within if not number else 0
                end = min(within + room.length - number * size, size)
                new[number * 2 + 1] = erase.mark(self, old[number * 2 + 1], start, end, ALL)
        self.map.put(index, new)

    def thaw(self, index: int) -> int:
        """Give a cluster that is compressed or shared, whose subclusters may differ, a host cluster of its own; its new entry."""
        entry, bitmap = self.map.entries(index, 1)
        first, _ = self.refcounts.allocate(1)
        host = first * self.cluster_size
        self.virgin = max(self.virgin, host + self.cluster_size)
        if entry & COMPRESSED:
            self.through(index, host).write(host, self.unpack(index * self.cluster_size, self.cluster_size))
            bitmap = ALL
        else:
            old = entry & OFFSET
            self.through(index, host).write(host, self.through(index, old).read(old, self.cluster_size))
        self.map.give_up(entry)
        self.map.put(index, (host | COPIED, bitmap))
        return host | COPIED

    def through(self, index: int, host: int) -> Node:
        """The node that guest cluster `index` at `host` is read and written through."""
        return self.map.data if self.cipher is None or not self.by_guest else self.cipher.at(index * self.cluster - host)

    def erase(self, offset: int, length: int, unmap: bool) -> bool:
        return erase.erase(self, offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        """Whole clusters become zero; where that has no entry, in version 2 over a backing file, nothing happens."""
        if not self.begun:
            self.begin()
        end = offset + length
        offset += -offset % self.cluster_size
        end = end if end == self.size else end - end % self.cluster_size
        if offset < end:
            with self.placing, self.lock:
                erased = self.erase(offset, end - offset, True)
            if self.recording:
                self._record(offset, end - offset)
            if erased and self.map.external:
                self.data.discard(offset, end - offset)

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """Write whole clusters (the disk's last one may be short) packed, each that becomes smaller by it. Threads pack side by side."""
        size = self.cluster_size
        if offset % size or len(data) % size and offset + len(data) != self.size:
            raise self.header.error("compressed writes must be whole clusters")
        if self.map.external:
            raise self.header.error("compressed clusters cannot be in an external data file")
        if self.encrypted:
            raise self.header.error("Compression and encryption not supported at the same time")
        if not self.begun:
            self.begin()
        self.compressor = self.compressor or compression.codec(self.header.fields.compression_type)
        view = memoryview(data)
        for at in range(0, len(data), size):
            part = view[at : at + size]
            packed = self.compressor.compress(part if len(part) == size else bytes(part).ljust(size, b"\0"))
            if len(packed) < size:
                self._store_packed(offset + at, packed)
                if self.recording:
                    self._record(offset + at, len(part))
            else:
                self.write(offset + at, part)

    def _store_packed(self, offset: int, packed: bytes) -> None:
        index, bits = offset >> self.map.bits, self.map.bits
        with self.placing:
            with self.lock:
                self.relieve()
                self.map.own_table(index)
                host = self.refcounts.allocate_bytes(len(packed))
                self.virgin = max(self.virgin, (host + len(packed) + self.cluster_size - 1) >> bits << bits)
            shift = 62 - (bits - 8)
            if host >> min(shift, 56):
                raise OSError(errno.EFBIG, f"{self.filename}: compressed clusters cannot lie so far behind in the file")
            self.file.write(host, packed)
            sectors = (host + len(packed) - 1 >> 9) - (host >> 9)
            with self.lock:
                self.map.give_up(self.map.entries(index, 1)[0])
                self.map.put(index, (COMPRESSED | sectors << shift | host, 0)[: self.map.entry_size // 8])

    def relieve(self) -> None:
        """Keep the list of what waits to be given up short."""
        if len(self.refcounts.pending) > PENDING:
            self.commit()

    def commit(self) -> None:
        """Make tables safe, then give up what they pointed to. Called with `lock` held."""
        self.map.write()
        self.file.flush()
        if self.refcounts.pending or self.refcounts.waiting:
            self.refcounts.settle()

    def flush(self) -> None:
        if self.data is not self.file:
            self.data.flush()
        with self.lock:
            clean = self.map.clean()
            if not clean:
                self.commit()
        if clean:
            self.file.flush()

    def finish(self) -> None:
        if self.begun:
            with self.lock:
                self.flush()
                self.records.end()
                self.commit()
                self.clean()
        self.flush()

    def take(self, clusters: int) -> int:
        """The offset of as many clusters in a row, for tables."""
        first, _ = self.refcounts.allocate(clusters, clusters)
        self.virgin = max(self.virgin, (first + clusters) * self.cluster)
        self.refcounts.reserved.update(range(first, first + clusters))
        return first * self.cluster

    def reserve(self) -> None:
        """Tell the counts which clusters hold tables, so that none is given out even if its count is wrong."""
        self.refcounts.reserved = snapshots.tables(self)

    def clean(self) -> None:
        """All counts are on the disk: the header says so, until somebody writes again. Called with `lock` held."""
        if self.map.lazy:
            self.header.fields.incompatible_features &= ~DIRTY
            self.header.write_fields()
            self.file.flush()
            self.begun = False

    def resize(self, size: int, preallocation: str = "off") -> None:
        """What was past the end before reads as zeros. Raises UserError where snapshots or bitmaps forbid it."""
        self.begin()
        old, end = self.size, min(self.size, size + -size % self.cluster)
        if size < old and size % self.cluster and not size % resize.SECTOR:
            self.zero(size, end - size, False)
        with self.placing, self.lock:
            contents = [self.records.bits(each) for each in self.records.records]
            resize.resize(self, size, preallocation)
            self.records.resize(contents)
        if self.backing is not None and old < min(size, self.backing.size):
            self.zero(old, min(size, self.backing.size) - old)

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        with self.placing, self.lock:
            return check.check(self, fix_leaks, fix_errors)

    def snapshots(self) -> list[Snapshot]:
        return [each.public() for each in self.table_of_snapshots]

    def create_snapshot(self, snapshot: Snapshot) -> None:
        self._no_snapshots_outside()
        self.begin()
        with self.placing, self.lock, snapshots.changing(self):
            snapshots.create(self, snapshot)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        self._no_snapshots_outside()
        self.begin()
        with self.placing, self.lock, snapshots.changing(self):
            snapshots.apply(self, snapshot)

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        self._no_snapshots_outside()
        self.begin()
        with self.placing, self.lock, snapshots.changing(self):
            snapshots.delete(self, snapshot)

    @property
    def state_offset(self) -> int:
        """Where the machine's state begins, past the disk."""
        return snapshots.state_base(self)

    def write_state(self, offset: int, data: Buffer) -> None:
        """Save a part of a machine's state, which the next snapshot made with that `vm_state` keeps."""
        self._no_snapshots_outside()
        self.begin()
        view = memoryview(data).cast("B")
        start, end = offset - offset % self.cluster, offset + len(view)
        end += -end % self.cluster
        with self.placing, self.lock:
            snapshots.make_room_for_state(self, end)
            base = snapshots.state_base(self)
        whole = bytearray(end - start)
        if len(whole) > len(view):
            self.readv(base + start, Vector((whole,)))
        whole[offset - start : offset - start + len(view)] = view
        super().writev(base + start, Vector((whole,)))

    def read_state(self, offset: int, into: Vector) -> None:
        """What was saved with the snapshot that was applied, or is shown."""
        self.readv(snapshots.state_base(self) + offset, into)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        with self.lock:
            snapshots.show(self, snapshot)

    def _no_snapshots_outside(self) -> None:
        if self.map.external:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def bitmaps(self) -> list[Bitmap]:
        return [record.public() for record in self.records.records]

    def add_bitmap(self, bitmap: Bitmap) -> None:
        self.begin()
        with self.placing, self.lock:
            self.records.add(bitmap)
            self.recording = self.records.live

    def remove_bitmap(self, name: str) -> None:
        self.begin()
        with self.placing, self.lock:
            self.records.remove(name)
            self.recording = self.records.live

    def read_bitmap(self, name: str) -> bytes:
        with self.lock:
            return self.records.bits(self.records.find(name))

    def write_bitmap(self, name: str, bits: Buffer, enabled: bool) -> None:
        self.begin()
        with self.placing, self.lock:
            self.records.replace(name, bits, enabled)
            self.recording = self.records.live

    def amend(self, options: dict[str, Any], force: bool, progress: Callable[[float], None]) -> None:
        self.begin()
        size = options.get("size")
        if size is not None and size != self.size and not options.get("compat"):
            self.resize(size)
        with self.placing, self.lock:
            amend.amend(self, options, force, progress)

    def empty(self) -> None:
        """Every cluster is given up at once where there is nothing else in the image."""
        self.begin()
        with self.placing, self.lock:
            resize.empty(self)
            if self.recording:
                self.records.mark(0, self.size)

    def set_backing(self, file: str | None, format: str | None) -> None:
        if file is not None and (self.raw_data or len(file.encode("utf-8", "surrogateescape")) > LONGEST_NAME):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.begin()
        with self.lock:
            self.header.backing_file = file or None
            self.header.set_text(BACKING_FORMAT, format if file else None)
            self.header.write()
            self.file.flush()
            self.backing_file, self.backing_format = self.header.backing_file, self.header.backing_format
