"""amend: change options of creation of an image that is there.

usage: exuvia-img amend [--object OBJECT] [--image-opts] [-p] [-q] [-f FMT] [-t CACHE] [--force] -o OPTIONS FILENAME

-o: the options; -o help lists those that can be changed   --force: also what cannot be undone, such as erasing the last key

example: exuvia-img amend -o compat=1.1,lazy_refcounts=on disk.qcow2
"""

from exuvia.cli import keyval
from exuvia.cli.arguments import Arguments
from exuvia.cli.img.making import described, format_named, options_of
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.watch import Watch
from exuvia.cli.program import Wrong
from exuvia.disk.format import Format
from exuvia.disk.node import Unsupported
from exuvia.disk.options import Option
from exuvia.support.errors import UserError

OPTIONS = "f= o= p q t= force object= image-opts"


def run(arguments: Arguments) -> int:
    """Amend it."""
    texts = arguments.values("o")
    if not texts:
        raise Wrong("Must specify options (-o)")
    format = arguments.value("f")
    asked = any(word in ("help", "?") for text in texts for word in keyval.split(text))
    if asked and format is not None:
        print(help_of(format_named(format)), end="")
        return 0
    if len(arguments.rest) != 1:
        raise UserError("Expecting one image file name")
    cache = arguments.value("t") or "writeback"
    with open_named(arguments.rest[0], format, described=arguments.has("image-opts"), writable=True, cache=cache) as image:
        if asked:
            print(help_of(type(image)), end="")
            return 0
        if not image.AMEND:
            raise UserError(f"Format driver '{image.name}' does not support option amendment")
        given = options_of(type(image), None, texts, image.AMEND)
        with Watch(arguments.has("p"), arguments.has("q")) as watch:
            try:
                image.amend(
                    {key: option.value(given[key]) for key, option in known(image).items() if key in given},
                    arguments.has("force"),
                    watch.share,
                )
                image.flush()
            except Unsupported as error:
                raise UserError(str(error)) from None
            except OSError as error:
                raise UserError(f"{image.filename}: could not be amended: {error.strerror or error}") from None
    return 0


def known(image: Format) -> dict[str, Option]:
    """The options by name."""
    return {option.name: option for option in image.AMEND}


def help_of(kind: type[Format]) -> str:
    """What can be changed. Raises UserError."""
    if not kind.AMEND:
        raise UserError(f"Format driver '{kind.name}' does not support option amendment")
    return "\n".join([f"Amend options for '{kind.name}':", *described({option.name: option for option in kind.AMEND})]) + "\n"
