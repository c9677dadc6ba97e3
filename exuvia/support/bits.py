"""Bit fields in the manuals' notation: `bit[7]` and `bit[18:16]`, high bit first, both ends included."""

from typing import NamedTuple


class Field(NamedTuple):
    """The bits `high` down to `low` of a word."""

    high: int
    low: int

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.high - self.low + 1

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return (1 << self.high + 1) - (1 << self.low)

    def extract(self, word: int) -> int:
        """The field's value in `word`."""
        return (word & self.mask) >> self.low

    def insert(self, word: int, value: int) -> int:
        """`word` with the field set to `value`; raises ValueError when `value` does not fit."""
        if value < 0 or value >> self.width:
            raise ValueError(f"{value:#x} does not fit in {self.width} bits")
        return word & ~self.mask | value << self.low

    def __str__(self) -> str:
        return f"bit[{self.high}]" if self.high == self.low else f"bit[{self.high}:{self.low}]"


class _Bits:
    def __getitem__(self, key: int | slice) -> Field:
        if not isinstance(key, slice):
            return Field(key, key)
        if key.step is not None or not isinstance(key.start, int) or not isinstance(key.stop, int) or not 0 <= key.stop <= key.start:
            raise ValueError("a field is bit[high:low] with high >= low >= 0")
        return Field(key.start, key.stop)


bit = _Bits()
