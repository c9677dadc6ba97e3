"""What a server exports: a node or a part of it, under a name, with the metadata contexts that tell of it."""

from collections.abc import Iterator, Sequence

from exuvia.disk.chain import pieces, stretches
from exuvia.disk.format import Format
from exuvia.disk.nbd.wire import LONGEST, STATE_HOLE, STATE_ZERO, Flag
from exuvia.disk.node import Kind, Node
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

ALLOCATION, DEPTH, BITMAP = "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:"
SECTOR = 512


class Export:
    """`length` bytes from `offset` of `node` on; without a length, all that there is, also when that changes.

    `detect_zeroes` on: written zeros are zeroed, which keeps room out of images; unmap: room may be given up for that.
    """

    def __init__(
        self,
        node: Node,
        name: str = "",
        *,
        description: str = "",
        offset: int = 0,
        length: int | None = None,
        writable: bool = True,
        multi: bool = False,
        depth: bool = False,
        bitmaps: Sequence[str] = (),
        detect_zeroes: str = "off",
    ) -> None:
        if len(name.encode()) > LONGEST or len(description.encode()) > LONGEST:
            raise UserError(f"an export's name and its description have {LONGEST} bytes at most")
        if offset > node.size or (length is not None and offset + length > node.size):
            raise UserError(f"{node.filename}: the image has {node.size} bytes, the part to be exported would end past that")
        self.node, self.name, self.description, self.offset, self.length = node, name, description, offset, length
        self.writable = writable and node.writable
        self.multi = multi
        self.detect_zeroes = detect_zeroes
        self.contexts = [ALLOCATION, *([DEPTH] if depth else [])]
        self.bitmaps: dict[str, tuple[int, bytes]] = {}
        for bitmap in bitmaps:
            self._add_bitmap(bitmap)

    def _add_bitmap(self, name: str) -> None:
        """Of the image, or of one under it. What it says now is what clients are told."""
        layer: Node | None = self.node
        while layer is not None:
            for bitmap in layer.bitmaps() if isinstance(layer, Format) else []:
                if bitmap.name == name:
                    if not self.writable and bitmap.enabled and layer is self.node:
                        raise UserError(f"Enabled bitmap '{name}' incompatible with readonly export")
                    assert isinstance(layer, Format)
                    self.bitmaps[BITMAP + name] = bitmap.granularity, layer.read_bitmap(name)
                    self.contexts.append(BITMAP + name)
                    return
            layer = getattr(layer, "backing", None)
        raise UserError(f"Bitmap '{name}' is not found")

    @property
    def size(self) -> int:
        """In bytes, as it is now."""
        return max(0, self.node.size - self.offset) if self.length is None else self.length

    @property
    def flags(self) -> Flag:
        """What it can do."""
        can = Flag.HAS_FLAGS | Flag.FLUSH | Flag.FUA | Flag.CACHE
        if self.multi:
            can |= Flag.MULTI
        if not self.writable:
            return can | Flag.READ_ONLY
        can |= Flag.TRIM | Flag.ZEROES
        return can | Flag.RESIZE if self.length is None and not self.offset and self.node.can("resize") else can

    def readv(self, offset: int, into: Vector) -> None:
        """Fill `into`."""
        self.node.readv(self.offset + offset, into)

    def write(self, offset: int, data: bytes) -> None:
        """Write `data`."""
        if self.detect_zeroes != "off" and data.count(0) == len(data):
            self.zero(offset, len(data), self.detect_zeroes == "unmap")
        else:
            self.node.write(self.offset + offset, data)

    def zero(self, offset: int, length: int, unmap: bool) -> None:
        """Make bytes zero."""
        self.node.zero(self.offset + offset, length, unmap)

    def discard(self, offset: int, length: int) -> None:
        """Give bytes up."""
        self.node.discard(self.offset + offset, length)

    def zeros(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """(length, whether it reads as zeros without a look)."""
        for start, end, kind in stretches(self.node, self.offset + offset, length):
            yield end - start, kind is not Kind.DATA

    def status(self, context: str, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """(length, flags) of a context; neighbours may be alike."""
        start = self.offset + offset
        if context == ALLOCATION:
            for count, zero in self.zeros(offset, length):
                yield count, STATE_HOLE | STATE_ZERO if zero else 0
        elif context == DEPTH:
            for extent, _, depth in pieces(self.node, start, length):
                yield extent.length, 0 if extent.kind is Kind.ABSENT else depth + 1
        else:
            yield from self._dirty(*self.bitmaps[context], start, start + length)

    @staticmethod
    def _dirty(unit: int, bits: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
        while at < end:
            index = at // unit
            byte, bit = divmod(index, 8)
            value = bits[byte] if byte < len(bits) else 0
            if value in (0, 255) and not bit:
                step = byte
                while step < len(bits) and bits[step] == value and step * 8 * unit < end:
                    step += 1
                stop = max(step, byte + 1) * 8 * unit
            else:
                stop = (index + 1) * unit
            yield min(stop, end) - at, value >> bit & 1
            at = min(stop, end)

    def close(self) -> None:
        """Nothing: the node is whose it was."""
