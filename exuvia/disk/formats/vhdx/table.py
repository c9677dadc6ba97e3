"""The block allocation table ([MS-VHDX] 2.5): an entry for each block, and after each chunk of them one for the chunk's sector bitmap."""

from __future__ import annotations

from exuvia.disk.blocks import CACHED, BlockTable
from exuvia.disk.formats.vhdx.log import Log, LoggedPages
from exuvia.disk.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, UNMAPPED_095, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 5, 6, 7
BITMAP_PRESENT = 6
STATE = 7  # the bits of an entry that hold it; bits 20 and up are the offset in the file


def entries_for(blocks: int, ratio: int, parent: bool = False) -> int:
    """How many entries the table has for so many blocks: 2.5, with the last chunk's bitmap only where there is a parent."""
    if parent:
        return -(-blocks // ratio) * (ratio + 1)
    return blocks + max(blocks - 1, 0) // ratio


class ChunkTable(BlockTable):
    """Looked up by block, whatever lies between."""

    def __init__(self, file: Node, offset: int, blocks: int, ratio: int, log: Log) -> None:
        super().__init__(file, offset, entries_for(blocks, ratio), "<Q")
        self.blocks, self.ratio = blocks, ratio
        self.pages = LoggedPages(file, CACHED, log)

    def __getitem__(self, index: int) -> int:
        return super().__getitem__(index + index // self.ratio)

    def bitmap(self, index: int) -> int:
        """The entry for the sector bitmap that covers a block."""
        return super().__getitem__(index // self.ratio * (self.ratio + 1) + self.ratio)

    def set(self, index: int, first: int, step: int, count: int) -> None:
        while count:
            part = min(count, self.ratio - index % self.ratio)
            super().set(index + index // self.ratio, first, step, part)
            index, first, count = index + part, first + part * step, count - part

    def run(self, index: int, last: int, step: int) -> int:
        end = min(last, index - index % self.ratio + self.ratio - 1)
        before = index // self.ratio
        return super().run(index + before, end + before, step)

    def used(self, *empty: int) -> Iterator[tuple[int, int]]:
        """Of blocks."""
        for slot, entry in super().used(*empty):
            if slot % (self.ratio + 1) != self.ratio:
                yield slot - slot // (self.ratio + 1), entry
