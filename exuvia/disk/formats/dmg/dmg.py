"""dmg: Apple's Universal Disk Image Format, read only: raw, zero, zlib, bzip2, lzma and ADC runs."""

from __future__ import annotations

from bisect import bisect_right

from exuvia.disk.clusters import Clustered
from exuvia.disk.formats.dmg import adc
from exuvia.disk.formats.dmg.blocks import ADC, BZIP2, IGNORE, LZFSE, LZMA, RAW, SECTOR, ZERO, ZLIB, Chunk, read
from exuvia.disk.node import Extent, ImageError, Kind, Unsupported
from exuvia.disk.packed import LARGEST, Chunks, inflate
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import bz2
    import lzma
    from collections.abc import Callable

    from exuvia.support import deflate
else:
    bz2, deflate, lzma = Later("bz2"), Later("exuvia.support.deflate"), Later("lzma")

MEMORY = 256 << 20  # bytes that a hostile lzma header may ask for


class Dmg(Clustered):
    """The runs of all of the image's tables, in order."""

    name = "dmg"
    dirty = None
    suffixes = (".dmg",)

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        """What it is stands at the file's end, so the name decides (as with QEMU)."""
        return 2 if filename.endswith(".dmg") else 0

    def open(self) -> None:
        self.size, self.runs = read(self.file)
        self.cluster = SECTOR
        self.starts = [each.start for each in self.runs]
        for run in self.runs:
            packed = run.kind not in (ZERO, RAW, IGNORE)
            if packed and (run.size > LARGEST or run.length > LARGEST):
                raise ImageError(f"{self.filename}: the run at byte {run.start} of the disk has {run.size} bytes, {LARGEST} are the most")
            if run.kind not in (ZERO, IGNORE) and run.offset + run.length > self.file.size:
                raise ImageError(f"{self.filename}: the run at byte {run.start} of the disk points outside the file")
            if run.kind == RAW and run.length < run.size:
                raise ImageError(f"{self.filename}: the run at byte {run.start} of the disk is shorter than it says")
        self.chunks = Chunks(self._chunk)

    def _find(self, offset: int) -> int:
        """The run that holds a byte of the disk, or ends before it; -1 for none."""
        return bisect_right(self.starts, offset) - 1

    def lookup(self, offset: int, length: int) -> Extent:
        index = self._find(offset)
        following = self.starts[index + 1] if index + 1 < len(self.starts) else self.size
        if index < 0 or offset >= self.starts[index] + self.runs[index].size:
            return Extent(Kind.ZERO, min(length, following - offset))
        run = self.runs[index]
        length = min(length, run.start + run.size - offset)
        if run.kind in (ZERO, IGNORE):
            return Extent(Kind.ZERO, length)
        if run.kind == RAW:
            return Extent(Kind.DATA, length, run.offset + offset - run.start, self.file)
        return Extent(Kind.COMPRESSED, length)

    def unpack(self, offset: int, length: int) -> bytes:
        index = self._find(offset)
        inside = offset - self.starts[index]
        return self.chunks[index][inside : inside + length]

    def _chunk(self, index: int) -> bytes:
        run = self.runs[index]
        what = f"{self.filename}: the run at byte {run.start} of the disk"
        if run.kind == LZFSE:
            raise Unsupported(f"{what} is packed with LZFSE, which is not supported")
        data = self.file.read(run.offset, run.length)
        if run.kind == ADC:
            return self._adc(run, data, what)
        unpackers: dict[int, Callable[[bytes, int], bytes]] = {
            ZLIB: lambda data, most: deflate.unpack(data, most),
            BZIP2: lambda data, most: bz2.BZ2Decompressor().decompress(data, most),
            LZMA: lambda data, most: lzma.LZMADecompressor(lzma.FORMAT_AUTO, MEMORY).decompress(data, most),
        }
        return inflate(unpackers[run.kind], data, run.size, what)

    def _adc(self, run: Chunk, data: bytes, what: str) -> bytes:
        try:
            made = adc.unpack(data, run.size)
        except ValueError as error:
            raise ImageError(f"{what} does not unpack: {error}") from None
        if len(made) != run.size:
            raise ImageError(f"{what} has {len(made)} bytes instead of {run.size}")
        return made
