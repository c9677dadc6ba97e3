"""map: where the bytes of an image lie.

usage: exuvia-img map [--object OBJECT] [--image-opts] [-f FMT] [-s OFFSET] [-l LENGTH] [--output=OFMT] [-U] FILENAME

-s, --start-offset; -l, --max-length: a part of it. For people it lists what is not known to be zero, with the file and the place in it;
JSON lists everything, with the number of layers between the image and the one that has it (depth).

example: exuvia-img map --output=json disk.qcow2
"""

from __future__ import annotations

import sys

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.sizes import number
from exuvia.disk.chain import on_holes, pieces
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
        found = merged(entries(image, start, max(end - start, 0)))
        if as_json:
            write_json(found, start)
        else:
            write_table(found)
    return 0


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
                absent, zero = kind is Kind.ABSENT, kind is Kind.ZERO
                silent = zero or (absent and stands) or (empty and holes)
                data = not (absent or zero) or (flat and zero and host is not None)
                said = flags[key] = Flags(depth, not absent, silent, data)
            yield start, count, said, host, name
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


def write_json(found: Iterator[Entry], start: int) -> None:
    """One object a line."""
    word, before, write = ("false", "true"), "[", sys.stdout.write
    texts: dict[Flags, str] = {}
    for at, length, flags, host, _ in found:
        text = texts.get(flags)
        if text is None:
            depth, present, zero, data = flags
            text = f'"depth": {depth}, "present": {word[present]}, "zero": {word[zero]}, "data": {word[data]}'
            texts[flags] = text
        offset = "" if host is None else f', "offset": {host}'
        write(f'{before}{{ "start": {at}, "length": {length}, {text}{offset}}}')
        before = ",\n"
    if before == "[":
        write(f'[{{ "start": {start}, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}}')
    print("]")


def write_table(found: Iterator[Entry]) -> None:
    """What is not zero."""
    print(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File")
    for start, length, flags, host, name in found:
        if flags.data and host is None:
            raise UserError("File contains external, encrypted or compressed clusters.")
        if flags.data and not flags.zero:
            print("".join(f"{f'{each:#x}' if each else '0':<16}" for each in (start, length, host)) + str(name))
