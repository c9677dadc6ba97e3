"""Heads of blocks as Python reads them."""

from __future__ import annotations

import struct
from typing import NamedTuple

from exuvia.codegen.layout import ENTRY_SHIFT, HEAD_SIZE, REGION_MASK

HEAD_WORDS = struct.Struct("<QQIHHQQQQIBBBB")  # in the order of layout.HEAD


class Head(NamedTuple):
    """A block's head as it lies in memory (codegen/layout.py). Without a `mask` its block was dropped, or never decoded."""

    address: int
    handler: int
    body: int
    samples: int
    n: int
    offset: int
    word: int
    key: int
    next: int
    sibling: int
    mask: int
    mode: int
    stands: int
    copied: int
    turns: int

    @property
    def region(self) -> int:
        """The region that it is in, 0 for none."""
        return self.word & REGION_MASK if self.stands else 0

    @property
    def entry(self) -> int:
        """Its number there, or NO_ENTRY."""
        return self.word >> ENTRY_SHIFT


assert HEAD_WORDS.size == HEAD_SIZE
