"""Guest memory as a device reaches it by itself: RAM only, so that no address leads back into a device."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace


class BadAddress(ValueError):
    """The guest named an address where no RAM is, or none that a device may write."""


class Stretch(NamedTuple):
    """`length` bytes of the Ram from `offset` on."""

    offset: int
    length: int


class Dma:
    """What `space` shows of `ram`, which is all the RAM that it shows."""

    def __init__(self, space: AddressSpace, ram: Ram) -> None:
        self._space, self._ram = space, ram
        self._look()
        space.on_change.append(self._look)

    def _look(self) -> None:
        self._slots = self._space.slots
        self._starts = [slot.start for slot in self._slots]

    def find(self, address: int, length: int, to_write: bool = False) -> list[Stretch]:
        """Where the `length` bytes at guest address `address` lie, in order. Raises BadAddress."""
        found: list[Stretch] = []
        while length:
            index = bisect_right(self._starts, address) - 1
            slot = self._slots[index] if index >= 0 else None
            if slot is None or address >= slot.start + slot.size or (to_write and not slot.writable):
                raise BadAddress(f"no {'writable ' if to_write else ''}RAM at {address:#x}")
            count = min(length, slot.start + slot.size - address)
            found.append(Stretch(slot.offset + address - slot.start, count))
            address, length = address + count, length - count
        return found

    def place(self, address: int, length: int, to_write: bool = False) -> int:
        """The offset in the Ram of `length` bytes that lie in one piece. Raises BadAddress."""
        found = self.find(address, length, to_write)
        if len(found) != 1:
            raise BadAddress(f"the {length} bytes at {address:#x} are not in one piece")
        return found[0].offset

    def views(self, stretches: Iterable[Stretch]) -> list[memoryview]:
        """The bytes themselves. Whoever changes them says so with `written`."""
        view = self._ram.view
        return [view[offset : offset + length] for offset, length in stretches]

    def read(self, stretches: Iterable[Stretch]) -> bytes:
        """A copy of the bytes."""
        return b"".join(self.views(stretches))

    def load(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset` of the Ram."""
        self._ram.load(offset, data)

    @property
    def ram(self) -> memoryview:
        """All of the Ram."""
        return self._ram.view

    def written(self, stretches: Iterable[Stretch]) -> None:
        """The bytes were changed: whoever keeps something derived from them (decoded code) is told."""
        for offset, length in stretches:
            for hook in self._ram.on_write:
                hook(offset, length)
