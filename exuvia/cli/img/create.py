"""create: make a new image.

usage: exuvia-img create [--object OBJECT] [-q] [-f FMT] [-b BACKING_FILE [-F BACKING_FMT]] [-u] [-o OPTIONS] FILENAME [SIZE]

-b, -F: it stands on this image, in this format, and keeps only what differs; the size may be left out then   -u: do not look at that image
-o: the format's options; -o help lists them

example: exuvia-img create -f qcow2 -o cluster_size=128k disk.qcow2 20G
"""

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.making import check_backing, format_named, help_of, listing, make, must_create, options_of
from exuvia.cli.img.sizes import number
from exuvia.cli.program import Wrong
from exuvia.disk.graph import beside, open_image
from exuvia.support.errors import UserError

OPTIONS = "f= q b= F= u o= object="


def run(arguments: Arguments) -> int:
    """Make it."""
    format = arguments.value("f") or "raw"
    name = arguments.rest[0] if arguments.rest else None
    texts = arguments.values("o")
    if help := help_of(texts, format, name):
        print(help, end="")
        return 0
    if name is None:
        raise Wrong("Expecting image file name")
    if len(arguments.rest) > 2:
        raise Wrong(f"Unexpected argument: {arguments.rest[2]}")
    size = number("image size", arguments.rest[1]) if len(arguments.rest) == 2 else None
    try:
        kind = format_named(format)
        must_create(kind)
        given = options_of(kind, name, texts)
        for key, value in (("backing_file", arguments.value("b")), ("backing_fmt", arguments.value("F"))):
            if value is not None:
                if all(option.name != key for option in kind.CREATE):
                    what = "Backing file" if key == "backing_file" else "Backing file format"
                    raise UserError(f"{what} not supported for file format '{kind.name}'")
                given[key] = value
        if size is not None and "size" in given:
            raise UserError("The image size must be specified only once")
        size = given.pop("size", size)
        backing, backing_format = given.get("backing_file"), given.get("backing_fmt")
        if backing == name:
            raise UserError("Error: Trying to create an image with the same filename as the backing file")
        if backing and not arguments.has("u"):
            size = _size_of_backing(name, backing, backing_format, size)
        elif backing and not backing_format:
            raise UserError("Backing file specified without backing format")
        if size is None:
            raise UserError("Image creation needs a size parameter")
        if not arguments.has("q"):
            print(listing(kind, name, size, given), flush=True)
        check_backing(backing, backing_format)
        make(kind, name, size, given)
    except UserError as error:
        raise UserError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None
    return 0


def _size_of_backing(name: str, backing: str, format: str | None, size: int | None) -> int:
    """Look at the backing image: the size, and the format unless that is given."""
    try:
        with open_image(beside(name, backing), format, share=True) as image:
            if not format:
                raise UserError(f"Backing file specified without backing format\nDetected format of {image.name}.")
            return image.size if size is None else size
    except UserError as error:
        if "without backing format" in str(error):
            raise
        raise UserError(f"{error}\nCould not open backing image.") from None
