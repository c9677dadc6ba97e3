"""measure: how large a new image's file would be.

usage: exuvia-img measure [--output=OFMT] [-O FMT] [-o OPTIONS] [--size SIZE | [--image-opts] [-f FMT] [-l SNAPSHOT] FILENAME]

Of an empty image of that size, or of a copy of FILENAME. -O: its format (raw)   -o: its options of creation

example: exuvia-img measure -O qcow2 disk.raw
"""

from __future__ import annotations

from contextlib import ExitStack

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.making import declared, format_named, help_of, options_of
from exuvia.cli.img.opening import open_named, show_snapshot
from exuvia.cli.img.output import pretty
from exuvia.cli.img.sizes import number
from exuvia.disk.format import Format
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = "f= l= o= O= force-share/U output= size= object= image-opts"


def run(arguments: Arguments) -> int:
    """Print the sizes."""
    json = arguments.json()
    text, format = arguments.value("size"), arguments.value("O") or "raw"
    size = None if text is None else number("image size", text)
    if help := help_of(arguments.values("o"), format, None):
        print(help, end="")
        return 0
    if len(arguments.rest) > 1:
        raise UserError("At most one filename argument is allowed.")
    name = arguments.rest[0] if arguments.rest else None
    if name is None and any(arguments.has(option) for option in ("f", "l", "image-opts")):
        raise UserError("--image-opts, -f, and -l require a filename argument.")
    if (name is None) == (size is None):
        raise UserError(
            "--size N cannot be used together with a filename." if name else "Either --size N or one filename must be specified."
        )
    kind = format_named(format)
    options = declared(kind, None)
    given = options_of(kind, None, arguments.values("o"))
    values: dict[str, Any] = {key: option.value(given[key]) if key in given else option.default for key, option in options.items()}
    with ExitStack() as stack:
        source: Format | None = None
        if name is not None:
            source = open_named(name, arguments.value("f"), described=arguments.has("image-opts"), share=arguments.has("force-share"))
            stack.enter_context(source)
            if (snapshot := arguments.value("l")) is not None:
                show_snapshot(source, snapshot)
            size = source.size
        assert size is not None
        size += -size % 512
        measured = kind.measure(size, {**values, "size": size}, source)
    if json:
        extra = {} if measured.bitmaps is None else {"bitmaps": measured.bitmaps}
        print(pretty({"required": measured.required, "fully-allocated": measured.fully_allocated, **extra}))
    else:
        print(f"required size: {measured.required}\nfully allocated size: {measured.fully_allocated}")
        if measured.bitmaps is not None:
            print(f"bitmaps size: {measured.bitmaps}")
    return 0
