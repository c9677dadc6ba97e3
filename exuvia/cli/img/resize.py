"""resize: make an image larger or smaller.

usage: exuvia-img resize [--object OBJECT] [--image-opts] [-f FMT] [--preallocation=MODE] [-q] [--shrink] FILENAME [+ | -]SIZE

+SIZE and -SIZE: by so much   --shrink: smaller is meant   --preallocation: off, metadata, falloc or full, room for what is new

example: exuvia-img resize disk.qcow2 +10G
"""

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.program import Wrong
from exuvia.disk.node import Unsupported
from exuvia.disk.options import size as parse_size
from exuvia.support.errors import UserError

OPTIONS = "f= q preallocation= shrink object= image-opts"
MODES = ("off", "metadata", "falloc", "full")


def run(arguments: Arguments) -> int:
    """Resize it."""
    if len(arguments.rest) != 2:
        raise Wrong("Expecting image file name and size")
    name, text = arguments.rest
    mode = arguments.value("preallocation") or "off"
    if mode not in MODES:
        raise UserError(f"Invalid preallocation mode '{mode}'")
    sign = text[:1] if text[:1] in "+-" else ""
    try:
        amount = parse_size(text.removeprefix(sign))
    except UserError:
        raise UserError(
            "Parameter 'size' expects a non-negative number below 2^64\n"
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        ) from None
    with open_named(name, arguments.value("f"), described=arguments.has("image-opts"), writable=True, chain=True) as image:
        old = image.size
        new = {"+": old + amount, "-": old - amount}.get(sign, amount)
        if new <= 0:
            raise UserError("New image size must be positive")
        if new <= old and mode != "off":
            raise UserError("Preallocation can only be used for growing images")
        if new < old and not arguments.has("shrink"):
            raise UserError(
                "Use the --shrink option to perform a shrink operation.\n"
                "exuvia-img: warning: Shrinking an image will delete all data beyond the shrunken image's end. "
                "Before performing such an operation, make sure there is no important data there."
            )
        try:
            image.resize(new, mode)
            image.flush()
        except Unsupported as error:
            raise UserError(str(error)) from None
        except OSError as error:
            raise UserError(f"{name}: Could not resize file: {error.strerror}") from None
    if not arguments.has("q"):
        print("Image resized.")
    return 0
