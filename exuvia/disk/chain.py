"""What an image and those under it are made of together: which layer has each stretch."""

from __future__ import annotations

from exuvia.disk.format import Format
from exuvia.disk.node import Extent, Kind, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    A = TypeVar("A")
    B = TypeVar("B")

HOLE = 1 << 20  # bytes; data shorter than that is searched for holes of the file under it only where there must be many


Piece = tuple[Extent, Node, int]
"""An extent of the layer that decides what is there, that layer, how many layers under the top it is. ABSENT: nobody has anything."""


def layers(top: Node) -> Iterator[Node]:
    """The images from `top` down to the last."""
    node: Node | None = top
    while node is not None:
        yield node
        node = getattr(node, "backing", None)


def pieces(top: Node, offset: int, length: int, base: Node | None = None, _depth: int = 0) -> Iterator[Piece]:
    """[offset, offset+length) of `top` in order. What only `base` or those under it have is ABSENT.

    A layer that is shorter than the one on it has nothing past its end: that is ABSENT in the longer one.
    """
    under: Node | None = getattr(top, "backing", None)
    for extent in top.extents(offset, length):
        if extent.kind is not Kind.ABSENT or under is None or under is base:
            yield extent, top, _depth
        else:
            there = max(0, min(extent.length, under.size - offset))
            if there:
                yield from pieces(under, offset, there, base, _depth + 1)
            if there < extent.length:
                yield Extent(Kind.ABSENT, extent.length - there), top, _depth
        offset += extent.length


def on_holes(layer: Node) -> bool:
    """Whether data may lie on holes: the format gives room in advance, or can, and the file takes much less room than it is long."""
    if not isinstance(layer, Format) or layer.recurse:
        return isinstance(layer, Format)
    taken = getattr(layer.file, "allocated", None)
    if taken is None or not layer.cluster:
        return False
    clusters = taken() // layer.cluster
    many = layer.file.size // layer.cluster >= max(clusters * 10 // 9, clusters + 2)
    return many and any(option.name == "preallocation" for option in layer.CREATE)


def places(top: Node, offset: int, length: int, base: Node | None = None) -> Iterator[tuple[int, int, Kind, Node | None, int]]:
    """(start, end, kind, file, host) of what `pieces` gives: DATA lies verbatim at `host` of `file`, without one `top` must be asked.

    DATA stands for COMPRESSED too, and leaves out holes of the file. Neighbours are one where their bytes are neighbours too.
    """
    start, last, host = offset, Kind.ABSENT, 0
    where: Node | None = None
    holes: dict[int, bool] = {}
    for extent, layer, depth in pieces(top, offset, length, base):
        kind, count, at, file, _ = extent
        if kind is Kind.DATA and at is not None and file is not None:
            if (count >= HOLE or (holes[depth] if depth in holes else holes.setdefault(depth, on_holes(layer)))) and file is not top:
                for part in file.extents(at, count):
                    kind = Kind.DATA if part.kind is Kind.DATA or part.kind is Kind.COMPRESSED else Kind.ZERO
                    if kind is not last or where is not file or host + offset - start != at:
                        if start < offset:
                            yield start, offset, last, where, host
                        start, last, where, host = offset, kind, file, at
                    offset += part.length
                    at += part.length
                continue
        else:
            kind = Kind.DATA if kind is Kind.COMPRESSED else kind
            file = at = None
        if kind is not last or where is not file or (file is not None and host + offset - start != at):
            if start < offset:
                yield start, offset, last, where, host
            start, last, where, host = offset, kind, file, at or 0
        offset += count
    if start < offset:
        yield start, offset, last, where, host


def stretches(top: Node, offset: int, length: int, base: Node | None = None) -> Iterator[tuple[int, int, Kind]]:
    """(start, end, kind) of what `places` gives, as long as can be."""
    start, last = offset, Kind.ABSENT
    for first, end, kind, _, _ in places(top, offset, length, base):
        if kind is not last:
            if start < first:
                yield start, first, last
            start, last = first, kind
        offset = end
    if start < offset:
        yield start, offset, last


def together(one: Iterator[tuple[int, int, A]], other: Iterator[tuple[int, int, B]]) -> Iterator[tuple[int, int, A, B]]:
    """Two sequences of (start, end, what) over the same bytes as one, cut where either is."""
    here, there = next(one, None), next(other, None)
    while here is not None and there is not None:
        end = min(here[1], there[1])
        yield max(here[0], there[0]), end, here[2], there[2]
        if here[1] == end:
            here = next(one, None)
        if there[1] == end:
            there = next(other, None)
