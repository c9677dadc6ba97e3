"""Formats that are read only and made of packed chunks: the last chunks that were unpacked are kept."""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict

from exuvia.disk.node import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 32 << 20  # bytes
LARGEST = 64 << 20  # bytes of one chunk, packed or not


class Chunks:
    """A cache of unpacked chunks, by number."""

    def __init__(self, unpack: Callable[[int], bytes]) -> None:
        self._unpack, self._guard = unpack, allocate_lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, number: int) -> bytes:
        with self._guard:
            found = self._kept.get(number)
            if found is not None:
                self._kept.move_to_end(number)
                return found
        made = self._unpack(number)
        with self._guard:
            if number not in self._kept:
                self._kept[number] = made
                self._bytes += len(made)
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made


def inflate(unpack: Callable[[bytes, int], bytes], data: bytes, length: int, what: str) -> bytes:
    """Exactly `length` bytes from a function that unpacks; `what` is what the ImageError calls the chunk."""
    import lzma

    try:
        made = unpack(data, length)
    except (lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise ImageError(f"{what} does not unpack: {error}") from None
    if len(made) != length:
        raise ImageError(f"{what} has {len(made)} bytes instead of {length}")
    return made
