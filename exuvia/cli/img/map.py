"""map: where the bytes of an image lie.

usage: exuvia-img map [--object OBJECT] [--image-opts] [-f FMT] [-s OFFSET] [-l LENGTH] [--output=OFMT] [-U] FILENAME

-s, --start-offset; -l, --max-length: a part of it. For people it lists what is not known to be zero, with the file and the place in it;
JSON lists everything, with the number of layers between the image and the one that has it (depth).

example: exuvia-img map --output=json disk.qcow2
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from exuvia.cli.img.arguments import Arguments, number
from exuvia.cli.img.opening import open_named
from exuvia.disk.chain import pieces
from exuvia.disk.format import Format
from exuvia.disk.node import Extent, Kind, Node
from exuvia.support.errors import UserError

OPTIONS = "format/f= start-offset/s= max-length/l= output= force-share/U object= image-opts"


class Entry(NamedTuple):
    """QMP's MapEntry."""

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int | None
    filename: str | None

    def continues(self, other: "Entry") -> bool:
        """Whether both are one entry."""
        if self[2:6] != other[2:6] or self.filename != other.filename or (self.offset is None) != (other.offset is None):
            return False
        return self.offset is None or other.offset == self.offset + self.length


def run(arguments: Arguments) -> int:
    """Print it."""
    as_json, name = arguments.json(), arguments.one()
    start = number("start offset", arguments.value("start-offset") or "0")
    length = arguments.value("max-length")
    most = None if length is None else number("max length", length)
    described, format = arguments.has("image-opts"), arguments.value("format")
    with open_named(name, format, described=described, share=arguments.has("force-share")) as image:
        end = image.size if most is None else min(image.size, start + most)
        found = merged(entries(image, start, max(end - start, 0)))
        if as_json:
            write_json(found, start)
        else:
            write_table(found)
    return 0


def entries(image: Node, start: int, length: int) -> Iterator[Entry]:
    """What there is, layer by layer."""
    for extent, layer, depth in pieces(image, start, length):
        for part in narrowed(layer, extent):
            unlike = isinstance(layer, Format) and (layer.encrypted or part.file is layer)
            verbatim = part.kind in (Kind.DATA, Kind.ZERO) and not unlike
            host = part.host if verbatim else None
            file = part.file or (layer.file if isinstance(layer, Format) and host is not None else None)
            silent = part.kind is Kind.ABSENT and not can_stand_on_another(layer)
            yield Entry(
                start,
                part.length,
                depth,
                part.kind is not Kind.ABSENT,
                part.kind is Kind.ZERO or (part.kind is Kind.ABSENT and not silent) or part.frozen,
                part.kind in (Kind.DATA, Kind.COMPRESSED),
                host,
                file.filename if file is not None and host is not None else None,
            )
            start += part.length


def narrowed(layer: Node, extent: Extent) -> Iterator[Extent]:
    """Where a format says so (`recurse`), data is looked at again in the file, whose holes are zeros (`frozen` says so here)."""
    plain = extent._replace(frozen=False)
    if extent.kind is not Kind.DATA or extent.host is None or not isinstance(layer, Format) or not on_holes(layer):
        yield plain
        return
    file, at = extent.file or layer.file, extent.host
    for part in file.extents(at, extent.length):
        yield plain._replace(length=part.length, host=at, file=file, frozen=part.kind in (Kind.ABSENT, Kind.ZERO))
        at += part.length


def on_holes(layer: Format) -> bool:
    """Whether data may lie on holes: the format gives room in advance, or can, and the file takes much less room than it is long."""
    if layer.recurse:
        return True
    taken = getattr(layer.file, "allocated", None)
    if taken is None or not layer.cluster or all(option.name != "preallocation" for option in layer.CREATE):
        return False
    clusters = taken() // layer.cluster
    return bool(layer.file.size // layer.cluster >= max(clusters * 10 // 9, clusters + 2))


def can_stand_on_another(layer: Node) -> bool:
    """Whether what this layer does not have could be in a backing image."""
    return not isinstance(layer, Format) or layer.supports_backing or any(option.name == "backing_file" for option in layer.CREATE)


def merged(found: Iterator[Entry]) -> Iterator[Entry]:
    """Neighbours that are alike as one."""
    last: Entry | None = None
    for entry in found:
        if last is not None and last.continues(entry):
            last = last._replace(length=last.length + entry.length)
            continue
        if last is not None:
            yield last
        last = entry
    if last is not None:
        yield last


def write_json(found: Iterator[Entry], start: int) -> None:
    """One object a line."""
    lines = []
    for entry in found:
        offset = "" if entry.offset is None else f', "offset": {entry.offset}'
        flags = ", ".join(f'"{key}": {json.dumps(getattr(entry, key))}' for key in ("present", "zero", "data"))
        lines.append(f'{{ "start": {entry.start}, "length": {entry.length}, "depth": {entry.depth}, {flags}{offset}}}')
    if not lines:
        lines.append(f'{{ "start": {start}, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}}')
    print("[" + ",\n".join(lines) + "]")


def write_table(found: Iterator[Entry]) -> None:
    """What is not zero."""
    print(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File")
    for entry in found:
        if entry.data and entry.offset is None:
            raise UserError("File contains external, encrypted or compressed clusters.")
        if entry.data and not entry.zero:
            assert entry.offset is not None
            print(
                "".join(f"{f'{each:#x}' if each else '0':<16}" for each in (entry.start, entry.length, entry.offset)) + str(entry.filename)
            )
