"""map: where the bytes of an image lie.

usage: exuvia-img map [--object OBJECT] [--image-opts] [-f FMT] [-s OFFSET] [-l LENGTH] [--output=OFMT] [-U] FILENAME

-s, --start-offset; -l, --max-length: a part of it. For people it lists what is not known to be zero, with the file and the place in it;
JSON lists everything, with the number of layers between the image and the one that has it (depth).

example: exuvia-img map --output=json disk.qcow2
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from exuvia.cli.img.arguments import Arguments, number
from exuvia.cli.img.opening import open_named
from exuvia.disk.chain import on_holes, pieces
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
    known: dict[int, tuple[bool, bool, bool, bool, Node | None]] = {}
    for extent, layer, depth in pieces(image, start, length):
        if depth not in known:
            known[depth] = (
                on_holes(layer),
                can_stand_on_another(layer),
                layer.name == "vmdk",  # QEMU calls holes of its flat extents data that is zero
                isinstance(layer, Format) and layer.encrypted,
                layer.file if isinstance(layer, Format) else None,
            )
        holes, stands, flat, encrypted, own = known[depth]
        for kind, count, host, file, empty in narrowed(layer, extent) if holes and extent[0] is Kind.DATA else (extent,):
            absent, zero = kind is Kind.ABSENT, kind is Kind.ZERO
            if host is not None and (kind is Kind.COMPRESSED or encrypted or (own and file is layer)):
                host = None  # the bytes do not lie there as they are
            name = None if host is None else file.filename if file is not None else own.filename if own is not None else None
            silent = zero or (absent and stands) or (empty and holes)
            data = not (absent or zero) or (flat and zero and host is not None)
            yield Entry(start, count, depth, not absent, silent, data, host, name)
            start += count


def narrowed(layer: Node, extent: Extent) -> Iterator[Extent]:
    """Data is looked at again in the file, whose holes are zeros (`frozen` says so here)."""
    plain = extent._replace(frozen=False)
    if extent.host is None or not isinstance(layer, Format):
        yield plain
        return
    file, at = extent.file or layer.file, extent.host
    for part in file.extents(at, extent.length):
        yield plain._replace(length=part.length, host=at, file=file, frozen=part.kind in (Kind.ABSENT, Kind.ZERO))
        at += part.length


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
    word, before, write = ("false", "true"), "[", sys.stdout.write
    for start, length, depth, present, zero, data, host, _ in found:
        offset = "" if host is None else f', "offset": {host}'
        flags = f'"present": {word[present]}, "zero": {word[zero]}, "data": {word[data]}'
        write(f'{before}{{ "start": {start}, "length": {length}, "depth": {depth}, {flags}{offset}}}')
        before = ",\n"
    if before == "[":
        sys.stdout.write(f'[{{ "start": {start}, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}}')
    print("]")


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
