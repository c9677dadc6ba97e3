"""Scattered memory as one run of bytes: what a guest's request points at, sliced without copying."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Buffer = bytes | bytearray | memoryview


class Vector:
    """Pieces of memory in order. `length` is their sum in bytes; slices share the memory."""

    __slots__ = ("length", "parts")

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self.parts = [part if isinstance(part, memoryview) and part.format == "B" else memoryview(part).cast("B") for part in parts]
        self.length = sum(map(len, self.parts))

    def slice(self, start: int, length: int) -> Vector:
        """The bytes [start, start+length), which must lie inside."""
        if start == 0 and length == self.length:
            return self
        piece = Vector(())
        piece.length = length
        for part in self.parts:
            size = len(part)
            if start >= size:
                start -= size
                continue
            if not length:
                break
            end = min(start + length, size)
            piece.parts.append(part[start:end])
            length -= end - start
            start = 0
        return piece

    def gather(self) -> bytes:
        """A copy of all bytes."""
        return b"".join(self.parts)

    def scatter(self, data: Buffer) -> None:
        """Fill the memory from `data`, which has as many bytes."""
        view = memoryview(data).cast("B")
        at = 0
        for part in self.parts:
            part[:] = view[at : at + len(part)]
            at += len(part)

    def clear(self) -> None:
        """Fill the memory with zeros."""
        for part in self.parts:
            part[:] = bytes(len(part))

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self.parts)
