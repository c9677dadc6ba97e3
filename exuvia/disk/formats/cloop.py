"""cloop: compressed loop images, format V2.0 (cloop's README): a script, a list of offsets, blocks deflated with zlib. Read only."""

from exuvia.disk.blocks import BlockTable
from exuvia.disk.clusters import Clustered
from exuvia.disk.node import Extent, ImageError, Kind
from exuvia.disk.packed import LARGEST, Chunks, inflate
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from exuvia.support import deflate
else:
    deflate = Later("exuvia.support.deflate")

SCRIPT = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
HEADER, SECTOR = 128, 512  # bytes of the script's room
MOST_OFFSETS = 512 << 20  # bytes


class Cloop(Clustered):
    """Blocks of equal size, each packed for itself."""

    name = "cloop"
    dirty = None
    suffixes = (".cloop",)

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        return 2 if head.startswith(SCRIPT) else 0

    def open(self) -> None:
        numbers = self.file.read(HEADER, 8)
        self.cluster, self.count = int.from_bytes(numbers[:4], "big"), int.from_bytes(numbers[4:], "big")
        if not self.cluster or self.cluster % SECTOR or self.cluster > LARGEST:
            raise ImageError(f"{self.filename}: block size {self.cluster} must be a multiple of {SECTOR} from {SECTOR} to {LARGEST}")
        behind = HEADER + 8 + (self.count + 1) * 8
        if behind > MOST_OFFSETS or behind > self.file.size:
            raise ImageError(f"{self.filename}: {self.count} blocks are more than the file has room to list")
        self.size = self.cluster * self.count
        self.offsets = BlockTable(self.file, HEADER + 8, self.count + 1, ">Q")
        self.chunks = Chunks(self._chunk)

    def lookup(self, offset: int, length: int) -> Extent:
        return Extent(Kind.COMPRESSED, min(length, self.cluster - offset % self.cluster))

    def unpack(self, offset: int, length: int) -> bytes:
        index, inside = divmod(offset, self.cluster)
        return self.chunks[index][inside : inside + length]

    def _chunk(self, index: int) -> bytes:
        with self.lock:
            first, last = self.offsets[index], self.offsets[index + 1]
        if not first < last <= self.file.size or last - first > 2 * LARGEST:
            raise ImageError(f"{self.filename}: block {index} lies from byte {first} to {last}, which cannot be")
        return inflate(deflate.unpack, self.file.read(first, last - first), self.cluster, f"{self.filename}: block {index}")
