"""map: where the bytes of an image lie.

usage: exuvia-img map [--object OBJECT] [--image-opts] [-f FMT] [-s OFFSET] [-l LENGTH] [--output=OFMT] [-U] FILENAME

-s, --start-offset; -l, --max-length: a part of it. For people it lists what is not known to be zero, with the file and the place in it;
JSON lists everything, with the number of layers between the image and the one that has it (depth).

example: exuvia-img map --output=json disk.qcow2
"""

from __future__ import annotations

import sys
from itertools import islice, repeat
from operator import sub

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.sizes import number
from exuvia.disk.chain import on_holes, pieces
from exuvia.disk.clusters import Clustered, Columns
from exuvia.disk.format import Format
from exuvia.disk.node import Extent, Kind, Node
from exuvia.support.errors import UserError
from exuvia.support.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

Entry: TypeAlias = "tuple[int, int, Flags, int | None, str | None]"
"""Where on the disk, how many bytes, what they are, where in which file they lie."""
KINDS = (Kind.DATA, Kind.COMPRESSED, Kind.ZERO, Kind.ABSENT)
OPTIONS = "format/f= start-offset/s= max-length/l= output= force-share/U object= image-opts"


class Flags(NamedTuple):
    """What QMP's MapEntry says of a stretch beside where it is."""

    depth: int
    present: bool
    zero: bool
    data: bool


def run(arguments: Arguments) -> int:
    """Print it."""
    as_json, name = arguments.json(), arguments.one()
    start = number("start offset", arguments.value("start-offset") or "0")
    length = arguments.value("max-length")
    most = None if length is None else number("max length", length)
    described, format = arguments.has("image-opts"), arguments.value("format")
    with open_named(name, format, described=described, share=arguments.has("force-share")) as image:
        end = image.size if most is None else min(image.size, start + most)
        found = together(image, start, max(end - start, 0)) or merged(entries(image, start, max(end - start, 0)))
        write(objects(found, start) if as_json else rows(found))
    return 0


def together(image: Node, start: int, length: int) -> Iterator[Entry] | None:
    """`merged` `entries`, many at once; None where that cannot be: in a chain, where files have holes, without columns."""
    if not isinstance(image, Clustered) or image.backing is not None or image.encrypted or image.recurse or on_holes(image):
        return None
    columns = image.columns(start, length)
    if columns is None:
        return None
    return listed(columns, {kind: flags_of(kind, stands=can_stand_on_another(image)) for kind in KINDS}, image.file.filename)


def listed(columns: Iterator[Columns], flags: dict[Kind, Flags], name: str) -> Iterator[Entry]:
    """The columns' extents; the last of each may go on in the next."""
    held: Entry | None = None
    for places, kinds, hosts in columns:
        lengths = map(sub, places[1:], places)
        found: list[Entry] = [*zip(places, lengths, map(flags.__getitem__, kinds), hosts, repeat(name))]
        if held is not None:
            yield from (row := [*merged(iter((held, found[0])))])[:-1]
            found[0] = row[-1]
        held = found.pop()
        yield from found
    if held is not None:
        yield held


def entries(image: Node, start: int, length: int) -> Iterator[Entry]:
    """What there is, layer by layer. Equal flags are one object."""
    known: dict[int, tuple[bool, bool, bool, bool, Node | None]] = {}
    flags: dict[tuple[int, Kind, bool, bool], Flags] = {}
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
            name = None
            if host is not None:
                if kind is Kind.COMPRESSED or encrypted or (own and file is layer):
                    host = None  # the bytes do not lie there as they are
                else:
                    name = file.filename if file is not None else own.filename if own is not None else None
            key = depth, kind, empty, host is None
            said = flags.get(key)
            if said is None:
                said = flags[key] = flags_of(kind, depth, stands, empty and holes, flat and host is not None)
            yield start, count, said, host, name
            start += count


def flags_of(kind: Kind, depth: int = 0, stands: bool = False, hole: bool = False, flat: bool = False) -> Flags:
    """`stands`: a backing image could have what is ABSENT; `hole`: the file has nothing there; `flat`: zeros that are there are data."""
    absent, zero = kind is Kind.ABSENT, kind is Kind.ZERO
    return Flags(depth, not absent, zero or (absent and stands) or hole, not (absent or zero) or (flat and zero))


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
    start, length, flags, host, name = next(found, (0, 0, None, None, None))
    for entry in found:
        _, count, said, place, file = entry
        if (
            (said is flags or said == flags)
            and file == name
            and (place is None if host is None else place is not None and place == host + length)
        ):
            length += count
        else:
            yield start, length, flags, host, name  # type: ignore[misc]
            start, length, flags, host, name = entry
    if flags is not None:
        yield start, length, flags, host, name


def write(lines: Iterator[str]) -> None:
    """Many at once, and those before an error."""
    some: list[str] = []
    try:
        while True:
            some.extend(islice(lines, 1000))
            if not some:
                return
            text = "".join(some)
            some.clear()
            sys.stdout.write(text)
    finally:
        sys.stdout.write("".join(some))


def objects(found: Iterator[Entry], start: int) -> Iterator[str]:
    """JSON, one object a line; an empty disk has one of no length."""
    word, before = ("false", "true"), "["
    texts: dict[int, str] = {}
    for at, length, flags, host, _ in found:
        text = texts.get(id(flags))  # those that are alike are one object, or few, which stay
        if text is None:
            depth, present, zero, data = flags
            text = f'"depth": {depth}, "present": {word[present]}, "zero": {word[zero]}, "data": {word[data]}'
            texts[id(flags)] = text
        if host is None:
            yield f'{before}{{ "start": {at}, "length": {length}, {text}}}'
        else:
            yield f'{before}{{ "start": {at}, "length": {length}, {text}, "offset": {host}}}'
        before = ",\n"
    if before == "[":
        yield f'[{{ "start": {start}, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}}'
    yield "]\n"


def rows(found: Iterator[Entry]) -> Iterator[str]:
    """A table of what is not zero."""
    yield f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n"
    for start, length, (_, _, zero, data), host, name in found:
        if data and host is None:
            raise UserError("File contains external, encrypted or compressed clusters.")
        if data and not zero:
            yield f"{place(start)}{hex(length).ljust(16)}{place(host)}{name}\n"


def place(at: int | None) -> str:
    """A column of the table, in which C's `%#x` prints."""
    return hex(at).ljust(16) if at else "0".ljust(16)
