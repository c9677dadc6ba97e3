"""The header section ([MS-VHDX] 2.2): the file identifier, two headers of which one counts, and two equal tables of regions."""

from exuvia.disk.node import ImageError, Node
from exuvia.disk.structure import Structure, at
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid

    from exuvia.disk.formats.vhdx import checksum
else:
    checksum, uuid = Later("exuvia.disk.formats.vhdx.checksum"), Later("uuid")


def guid(text: str) -> bytes:
    """As it is stored: the first three numbers with their lowest byte first."""
    one, two, three, *rest = map(bytes.fromhex, text.split("-"))
    return one[::-1] + two[::-1] + three[::-1] + b"".join(rest)


MIB = 1 << 20
IDENTIFIER = b"vhdxfile"
HEADERS, HEADER_ROOM = (64 << 10, 128 << 10), 4096
REGIONS, REGION_ROOM = (192 << 10, 256 << 10), 64 << 10
MOST_REGIONS = 2047
BAT = guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")
REQUIRED = 1
NO_LOG = bytes(16)


class Header(Structure, order="<"):
    """2.2.2: all that is ever rewritten here."""

    signature: bytes = at("4s", b"head")
    checksum: int = at("I")
    sequence: int = at("Q")
    file_write: bytes = at("16s", b"")
    data_write: bytes = at("16s", b"")
    log_guid: bytes = at("16s", NO_LOG)
    log_version: int = at("H")
    version: int = at("H", 1)
    log_length: int = at("I")
    log_offset: int = at("Q")


class Region(Structure, order="<"):
    """2.2.3.2: one region."""

    guid: bytes = at("16s")
    offset: int = at("Q")
    length: int = at("I")
    flags: int = at("I", REQUIRED)


def sealed(header: Header) -> bytes:
    """The header's 4 KiB with their checksum."""
    return bytes(checksum.seal(bytearray(header.pack().ljust(HEADER_ROOM, b"\0"))))


def region_table(regions: list[Region]) -> bytes:
    """The region table's 64 KiB with their checksum."""
    table = b"regi" + bytes(4) + len(regions).to_bytes(4, "little") + bytes(4) + b"".join(each.pack() for each in regions)
    return bytes(checksum.seal(bytearray(table.ljust(REGION_ROOM, b"\0"))))


class Headers:
    """The current header, and the way to replace it so that one is always whole. Raises ImageError when neither is."""

    def __init__(self, file: Node) -> None:
        self.file = file
        if file.read(0, 8) != IDENTIFIER:
            raise ImageError(f"{file.filename}: not a VHDX image (it does not begin with 'vhdxfile')")
        found = []
        for place, offset in enumerate(HEADERS):
            data = file.read(offset, HEADER_ROOM)
            header = Header.unpack(data)
            if header.signature == b"head" and header.version == 1 and checksum.sound(data):
                found.append((header.sequence, place, header))
        if not found:
            raise ImageError(f"{file.filename}: No valid VHDX header found")
        _, self.place, self.now = max(found, key=lambda each: each[0])
        if self.now.log_version or self.now.log_length % MIB or self.now.log_offset % MIB:
            raise ImageError(f"{file.filename}: unsupported log (version {self.now.log_version}, or it is not made of whole MiB)")
        if self.now.log_length and self.now.log_offset < MIB:
            raise ImageError(f"{file.filename}: the log lies at byte {self.now.log_offset}, inside the headers")

    def update(self, **changes: bytes) -> None:
        """Write the other header with `changes` and the next sequence number; it counts once it is safe, which it is on return."""
        self.now = self.now.replaced(sequence=self.now.sequence + 1 & 0xFFFFFFFFFFFFFFFF, **changes)
        self.place ^= 1
        self.file.flush()
        self.file.write(HEADERS[self.place], sealed(self.now))
        self.file.flush()

    def regions(self) -> dict[bytes, Region]:
        """The regions by GUID, each checked to lie in the file and apart from the others. Raises ImageError."""
        name, size = self.file.filename, self.file.size
        for offset in REGIONS:
            data = self.file.read(offset, REGION_ROOM)
            count = int.from_bytes(data[8:12], "little")
            if data[:4] == b"regi" and count <= MOST_REGIONS and checksum.sound(data):
                break
        else:
            raise ImageError(f"{name}: neither region table is whole")
        found: dict[bytes, Region] = {}
        taken = [(0, MIB, "headers"), (self.now.log_offset, self.now.log_offset + self.now.log_length, "log")]
        for index in range(count):
            region = Region.unpack(data, 16 + index * Region.SIZE)
            if region.guid not in (BAT, METADATA):
                if region.flags & REQUIRED:
                    raise ImageError(f"{name}: needs a region of unknown kind {uuid.UUID(bytes_le=region.guid)}")
                continue
            first, last = region.offset, region.offset + region.length
            if first % MIB or region.length % MIB or last > size or region.guid in found:
                raise ImageError(f"{name}: region {index} is unaligned, outside the file, or there twice")
            for start, end, what in taken:
                if first < end and start < last:
                    raise ImageError(f"{name}: region {index} overlaps the {what}")
            taken.append((first, last, f"region {index}"))
            found[region.guid] = region
        if len(found) < 2:
            raise ImageError(f"{name}: the block table or the metadata is missing")
        return found
