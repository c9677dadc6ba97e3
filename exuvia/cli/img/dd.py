"""dd: copy a part of an image, as dd(1) does.

usage: exuvia-img dd [--image-opts] [-U] [-f FMT] [-O FMT] [bs=BLOCK_SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT

bs: 512 bytes unless given   count: so many blocks at most   skip: leave out so many at the start   -O: the output's format (raw)

example: exuvia-img dd -O qcow2 bs=1M count=100 if=disk.raw of=start.qcow2
"""

import sys

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.making import format_named, make, must_create, not_needed
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.sizes import number
from exuvia.disk.node import CHUNK, Node
from exuvia.disk.options import LARGEST
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

OPTIONS = "f= O= force-share/U object= image-opts"


def run(arguments: Arguments) -> int:
    """Copy it."""
    given: dict[str, str] = {}
    for word in arguments.rest:
        key, equals, value = word.partition("=")
        if not equals or key not in ("if", "of", "bs", "count", "skip"):
            raise UserError(f"unrecognized operand {key}")
        given[key] = value
    block = number("bs", given.get("bs", "512"), 1, (1 << 31) - 1)
    count = number("count", given["count"]) if "count" in given else None
    skip = number("skip", given.get("skip", "0"))
    if "if" not in given or "of" not in given:
        raise UserError("Must specify both input and output files")
    if arguments.has("image-opts") and arguments.has("f"):
        raise UserError("--image-opts and --format are mutually exclusive")
    with open_named(given["if"], arguments.value("f"), described=arguments.has("image-opts"), share=arguments.has("force-share")) as source:
        kind = format_named(arguments.value("O") or "raw")
        must_create(kind)
        end = source.size if count is None or count > LARGEST // block else min(source.size, count * block)
        start = skip * block
        length = max(end - start, 0)
        try:
            not_needed(given["of"], source)
            make(kind, given["of"], length, {})
        except UserError as error:
            raise UserError(f"{given['of']}: error while creating output image of type '{kind.name}': {error}") from None
        with open_named(given["of"], kind.name, writable=True) as target:
            if end < start:
                print(f"exuvia-img: {given['if']}: cannot skip to specified offset", file=sys.stderr)  # no failure, as for dd(1)
            move(source, start, target, length)
    return 0


def move(source: Node, start: int, target: Node, length: int) -> None:
    """Copy the bytes."""
    buffer = bytearray(CHUNK)
    for at in range(0, length, CHUNK):
        count = min(CHUNK, length - at)
        part = Vector((memoryview(buffer)[:count],))
        source.readv(start + at, part)
        target.writev(at, part)
