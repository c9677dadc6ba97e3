"""The log ([MS-VHDX] 2.3): changes of tables are written here first, so that a change that was cut short can be done again."""

from exuvia.disk.formats.vhdx.header import MIB, NO_LOG, Headers
from exuvia.disk.node import ImageError, Node
from exuvia.disk.pages import Pages
from exuvia.disk.structure import Structure, at
from exuvia.disk.vector import Vector
from exuvia.support.later import Later
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid

    from exuvia.disk.formats.vhdx import checksum
else:
    checksum, uuid = Later("exuvia.disk.formats.vhdx.checksum"), Later("uuid")

SECTOR = 4096
DESCRIPTOR = 32  # bytes
BATCH = 100  # pages in an entry of ours: less than half of the smallest log
MOST_CHECKED = 64 << 20  # bytes of hostile entries whose checksums are looked at


class EntryHeader(Structure, order="<"):
    """2.3.1.1."""

    signature: bytes = at("4s", b"loge")
    checksum: int = at("I")
    length: int = at("I")
    tail: int = at("I")
    sequence: int = at("Q")
    descriptors: int = at("I")
    reserved: int = at("I")
    guid: bytes = at("16s")
    flushed: int = at("Q")
    last: int = at("Q")


class Descriptor(Structure, order="<"):
    """2.3.1.2 and 2.3.1.3: of a sector of zeros (`desc` is "zero", `leading` the length) or of data."""

    kind: bytes = at("4s", b"desc")
    trailing: bytes = at("4s", b"")
    leading: bytes = at("8s", b"")
    offset: int = at("Q")
    sequence: int = at("Q")


class Entry(Record):
    """A valid entry: its place in the log, and what it says."""

    at: int
    header: EntryHeader
    data: bytes

    def replay(self, file: Node) -> None:
        """Do what the descriptors say."""
        payload = self.data_at(self.header.descriptors)
        for index in range(self.header.descriptors):
            descriptor = Descriptor.unpack(self.data, EntryHeader.SIZE + index * DESCRIPTOR)
            if descriptor.kind == b"zero":
                file.zero(descriptor.offset, int.from_bytes(descriptor.leading, "little"))
            else:
                sector = self.data[payload : payload + SECTOR]
                file.write(descriptor.offset, descriptor.leading + sector[8:-4] + descriptor.trailing)
                payload += SECTOR

    @staticmethod
    def data_at(descriptors: int) -> int:
        """Where the data sectors begin."""
        size = EntryHeader.SIZE + descriptors * DESCRIPTOR
        return size + -size % SECTOR


class Log:
    """The log of an image whose headers are known; its entries have the GUID that the header names."""

    def __init__(self, file: Node, headers: Headers) -> None:
        self.file, self.headers = file, headers
        self.offset, self.length = headers.now.log_offset, headers.now.log_length
        if self.offset + self.length > file.size:
            raise ImageError(f"{file.filename}: the log ends at byte {self.offset + self.length}, the file at {file.size}")
        self.guid = NO_LOG
        self.position = 0
        self.sequence = 0

    def pending(self) -> list[Entry]:
        """The active sequence (2.3.2): what must be replayed, oldest first. Raises ImageError where no bounded look finds out."""
        if self.headers.now.log_guid == NO_LOG:
            return []
        heads = []
        for place in range(0, self.length, SECTOR):
            header = EntryHeader.unpack(self.file.read(self.offset + place, EntryHeader.SIZE))
            if header.signature == b"loge" and header.guid == self.headers.now.log_guid and header.sequence:
                heads.append((header.sequence, place))
        self.checked = 0
        for _, place in sorted(heads, reverse=True):
            found = self._sequence(place)
            if found:
                return found
        return []

    def _sequence(self, last: int) -> list[Entry]:
        """The entries from the tail that the entry at `last` names up to itself; [] unless all of them are valid."""
        head = self._entry(last)
        if head is None:
            return []
        found: list[Entry] = []
        place = head.header.tail
        while True:
            entry = head if place == last else self._entry(place)
            if entry is None or (found and entry.header.sequence != found[-1].header.sequence + 1):
                return []
            found.append(entry)
            if place == last:
                return found
            place = (place + entry.header.length) % self.length

    def _read(self, at: int, length: int) -> bytes:
        """Bytes of the log, which begins again behind its end."""
        first = min(length, self.length - at)
        return self.file.read(self.offset + at, first) + (self.file.read(self.offset, length - first) if length > first else b"")

    def _entry(self, at: int) -> Entry | None:
        """The entry there, None where there is no valid one (2.3.1.1)."""
        if at % SECTOR or at >= self.length:
            return None
        header = EntryHeader.unpack(self.file.read(self.offset + at, EntryHeader.SIZE))
        if header.signature != b"loge" or header.guid != self.headers.now.log_guid or not SECTOR <= header.length <= self.length:
            return None
        if header.length % SECTOR or Entry.data_at(header.descriptors) > header.length:
            return None
        self.checked += header.length
        if self.checked > MOST_CHECKED:
            raise ImageError(f"{self.file.filename}: the log has too many damaged entries")
        data = self._read(at, header.length)
        place = Entry.data_at(header.descriptors)
        for index in range(header.descriptors):
            descriptor = Descriptor.unpack(data, EntryHeader.SIZE + index * DESCRIPTOR)
            if descriptor.sequence != header.sequence or descriptor.offset % SECTOR or descriptor.kind not in (b"zero", b"desc"):
                return None
            if descriptor.kind == b"zero":
                continue
            sector = data[place : place + SECTOR]
            place += SECTOR
            if len(sector) < SECTOR or sector[:4] != b"data" or sector[4:8] + sector[-4:] != _halves(header.sequence):
                return None
        return Entry(at, header, data) if checksum.sound(data) else None

    def replay(self, entries: list[Entry]) -> None:
        """Bring the file to the state that the log says, and mark the log as empty. Raises ImageError where the file is cut off."""
        if self.file.size < entries[-1].header.flushed:
            raise ImageError(f"{self.file.filename}: the file is shorter than its log says: it was cut off")
        for entry in entries:
            entry.replay(self.file)
        last = entries[-1].header.last
        if self.file.size < last:
            self.file.resize(last)
        self.file.flush()
        self.close(entries[-1].header.sequence)

    def commit(self, pages: dict[int, bytearray]) -> None:
        """One entry that makes `pages` (offset in the file to 4 KiB) certain. It is alone in its sequence: what came before is done."""
        room = Entry.data_at(len(pages)) + len(pages) * SECTOR
        if self.position + room > self.length:
            self.position = 0
        self.sequence += 1
        guid = self.guid if self.guid != NO_LOG else uuid.uuid4().bytes_le
        end = self.file.size - self.file.size % MIB
        header = EntryHeader(
            length=room, tail=self.position, sequence=self.sequence, descriptors=len(pages), guid=guid, flushed=end, last=end
        )
        entry = bytearray(header.pack())
        for offset, page in pages.items():
            entry += Descriptor(b"desc", bytes(page[-4:]), bytes(page[:8]), offset, self.sequence).pack()
        entry += bytes(-len(entry) % SECTOR)
        halves = _halves(self.sequence)
        for page in pages.values():
            entry += b"data" + halves[:4] + page[8:-4] + halves[4:]
        self.file.write(self.offset + self.position, checksum.seal(entry))
        self.position += room
        self.file.flush()
        if self.guid == NO_LOG:  # only now there is a log that a reader finds valid
            self.guid = guid
            self.headers.update(log_guid=guid)

    def close(self, sequence: int = 0) -> None:
        """Everything is in its place: the header says that there is no log."""
        self.sequence = max(self.sequence, sequence)
        if self.headers.now.log_guid != NO_LOG:
            self.headers.update(log_guid=NO_LOG)
        self.guid = NO_LOG


class LoggedPages(Pages):
    """Pages of 4 KiB that go through the log."""

    def __init__(self, file: Node, limit: int, log: Log) -> None:
        super().__init__(file, SECTOR, limit)
        self.log = log

    def write(self) -> None:
        dirty = sorted(self._dirty)
        if dirty:
            self.file.flush()
        for first in range(0, len(dirty), BATCH):
            batch = dirty[first : first + BATCH]
            self.log.commit({offset: self._pages[offset] for offset in batch})
            for offset in batch:
                self.file.writev(offset, Vector((self._pages[offset],)))
            self.file.flush()
            self._dirty.difference_update(batch)


def _halves(sequence: int) -> bytes:
    """The sequence number as data sectors carry it: the high half in front, the low half at the end."""
    return (sequence >> 32).to_bytes(4, "little") + (sequence & 0xFFFFFFFF).to_bytes(4, "little")
