"""bochs: Bochs' growing disk images (Bochs' documentation, "Redolog" headers of bximage): read only.

A catalog gives each extent its number in the file; there a bitmap of sectors stands before the extent's data.
"""

from exuvia.disk.blocks import BlockTable
from exuvia.disk.clusters import Clustered
from exuvia.disk.node import Extent, ImageError, Kind
from exuvia.disk.structure import Structure, at

MAGIC, KIND, GROWING = b"Bochs Virtual HD Image", b"Redolog", b"Growing"
V1, V2 = 0x10000, 0x20000
NONE = 0xFFFFFFFF
SECTOR = 512
LARGEST_CATALOG, LARGEST_EXTENT = 0x100000, 0x800000  # QEMU's
KEPT = 1024  # bitmaps


class Header(Structure, order="<"):
    """The header of version 2; in version 1 `disk` stands where `timestamp` is."""

    magic: bytes = at("32s", MAGIC)
    kind: bytes = at("16s", KIND)
    subtype: bytes = at("16s", GROWING)
    version: int = at("I", V2)
    header: int = at("I", SECTOR)
    catalog: int = at("I")
    bitmap: int = at("I")
    extent: int = at("I")
    timestamp: int = at("I")
    disk: int = at("Q")


class Bochs(Clustered):
    """Growing images of both versions."""

    name = "bochs"
    dirty = None

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        header = Header.unpack(head)
        known = [each.split(b"\0")[0] for each in (header.magic, header.kind, header.subtype)] == [MAGIC, KIND, GROWING]
        return 100 if known and header.version in (V1, V2) else 0

    def open(self) -> None:
        data = self.file.read(0, Header.SIZE)
        header = Header.unpack(data)
        if not self.probe(data, self.filename):
            raise ImageError(f"{self.filename}: Image not in Bochs format")
        self.size = header.disk if header.version == V2 else int.from_bytes(data[84:92], "little")
        self.size -= self.size % SECTOR
        if not 0 < header.catalog <= LARGEST_CATALOG:
            raise ImageError(f"{self.filename}: Catalog size of {header.catalog} entries is zero or too large")
        if header.extent < SECTOR or header.extent & (header.extent - 1) or header.extent > LARGEST_EXTENT:
            raise ImageError(f"{self.filename}: Extent size {header.extent} must be a power of two from {SECTOR} to {LARGEST_EXTENT}")
        if header.bitmap * 8 * SECTOR < header.extent or header.bitmap > LARGEST_EXTENT:
            raise ImageError(f"{self.filename}: a bitmap of {header.bitmap} bytes does not fit extents of {header.extent}")
        if header.catalog < -(-self.size // header.extent):
            raise ImageError(f"{self.filename}: Catalog size of {header.catalog} entries is too small for this disk size")
        if header.header + header.catalog * 4 > self.file.size:
            raise ImageError(f"{self.filename}: the catalog does not lie in the file")
        self.cluster = header.extent
        self.bitmap = -(-header.bitmap // SECTOR) * SECTOR
        self.data = header.header + header.catalog * 4
        self.table = BlockTable(self.file, header.header, header.catalog, "<I")
        self.bits: dict[int, str] = {}

    def lookup(self, offset: int, length: int) -> Extent:
        index, inside = divmod(offset, self.cluster)
        entry = self.table[index]
        length = min(length, self.cluster - inside)
        if entry == NONE:
            return Extent(Kind.ZERO, length)
        start = self.data + entry * (self.bitmap + self.cluster)
        bits, first = self._bits(start), inside // SECTOR
        there = bits[first] == "1"
        end = bits.find("0" if there else "1", first)
        length = min(length, (end if end >= 0 else len(bits)) * SECTOR - inside)
        return Extent(Kind.DATA, length, start + self.bitmap + inside, self.file) if there else Extent(Kind.ZERO, length)

    def _bits(self, start: int) -> str:
        """Which sectors of an extent were written, the first one's bit (the lowest of its byte) first."""
        bits = self.bits.get(start)
        if bits is None:
            if start >= self.file.size:
                raise ImageError(f"{self.filename}: the catalog points to byte {start}, behind the file's end")
            if len(self.bits) >= KEPT:
                self.bits.clear()
            size = -(-self.cluster // SECTOR // 8) or 1
            value = int.from_bytes(self.file.read(start, size), "little")
            bits = self.bits[start] = f"{value:0{size * 8}b}"[::-1][: self.cluster // SECTOR]
        return bits
