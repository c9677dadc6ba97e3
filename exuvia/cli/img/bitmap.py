"""bitmap: change the persistent dirty bitmaps inside an image.

usage: exuvia-img bitmap (--merge SOURCE | --add | --remove | --clear | --enable | --disable)… [-b SOURCE_FILE [-F SOURCE_FMT]]
           [-g GRANULARITY] [--object OBJECT] [--image-opts | -f FMT] FILENAME BITMAP

The actions are done in order. -g: how many bytes a bit of the added one stands for   -b, -F: where the SOURCE of --merge is, if elsewhere

example: exuvia-img bitmap --add -g 64k disk.qcow2 since-monday
"""

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import open_named
from exuvia.cli.img.sizes import number
from exuvia.disk.format import Bitmap, Format
from exuvia.support.errors import UserError

OPTIONS = "source-file/b= f= source-format/F= granularity/g= object= image-opts merge= add remove clear enable disable"
ACTIONS = ("merge", "add", "remove", "clear", "enable", "disable")


def run(arguments: Arguments) -> int:
    """Do all of it."""
    granularity = number("granularity", arguments.value("granularity") or "0", 1 if arguments.has("granularity") else 0)
    actions = [(action, value) for action, value in arguments.given if action in ACTIONS]
    done = [action for action, _ in actions]
    if not actions:
        raise UserError("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge")
    if len(arguments.rest) != 2:
        raise UserError("Expecting filename and bitmap name")
    if granularity and "add" not in done:
        raise UserError("granularity only supported with --add")
    source_name, source_format = arguments.value("source-file"), arguments.value("source-format")
    if source_format and source_name is None:
        raise UserError("-F only supported with -b")
    if source_name is not None and "merge" not in done:
        raise UserError("Merge bitmap source file only supported with --merge")
    name, bitmap = arguments.rest
    with open_named(name, arguments.value("f"), described=arguments.has("image-opts"), writable=True) as image:
        source = image if source_name is None else open_named(source_name, source_format)
        try:
            for action, value in actions:
                act(image, action, bitmap, granularity, source, value)
        except (UserError, OSError) as error:
            raise UserError(f"Operation {action} on bitmap {bitmap} failed: {error}") from None
        finally:
            if source is not image:
                source.close()
    return 0


def act(image: Format, action: str, name: str, granularity: int, source: Format, other: str) -> None:
    """One action on the bitmap `name`."""
    if not image.can_keep_bitmaps():
        raise UserError(f"Can't store persistent bitmaps to {image.filename}: Operation not supported")
    if action == "add":
        image.add_bitmap(Bitmap(name, granularity or default_granularity(image)))
        return
    bitmap = find(image, name)
    match action:
        case "remove":
            image.remove_bitmap(name)
        case "clear":
            _sound(bitmap)
            image.write_bitmap(name, bytes(len(image.read_bitmap(name))), bitmap.enabled)
        case "enable" | "disable":
            _sound(bitmap)
            image.write_bitmap(name, image.read_bitmap(name), action == "enable")
        case "merge":
            merge(source, other, image, name)


def default_granularity(image: Format) -> int:
    """As QEMU chooses it: the cluster's size between 4 KiB and 64 KiB."""
    return max(4096, min(65536, image.cluster or 65536))


def find(image: Format, name: str) -> Bitmap:
    """The bitmap. Raises UserError."""
    for bitmap in image.bitmaps():
        if bitmap.name == name:
            return bitmap
    raise UserError(f"Dirty bitmap '{name}' not found")


def _sound(bitmap: Bitmap) -> None:
    if bitmap.in_use:
        raise UserError(
            f"Bitmap '{bitmap.name}' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to delete this bitmap from disk"
        )


def merge(source: Format, name: str, target: Format, other: str, *, enabled: bool | None = None) -> None:
    """What bitmap `name` of `source` says, `other` of `target` says too."""
    here, there = find(source, name), find(target, other)
    _sound(here)
    _sound(there)
    if source.size != target.size:
        raise UserError(f"Bitmaps are of different sizes (destination size is {target.size} bytes and source size is {source.size} bytes)")
    bits = regrained(source.read_bitmap(name), here.granularity, there.granularity, target.size)
    old = int.from_bytes(target.read_bitmap(other), "little")
    length = len(bits)
    target.write_bitmap(
        other, (old | int.from_bytes(bits, "little")).to_bytes(length, "little"), there.enabled if enabled is None else enabled
    )


def regrained(bits: bytes, old: int, new: int, size: int) -> bytes:
    """The same with bits that stand for `new` bytes each."""
    length = (-(-size // new) + 7) // 8
    if old == new:
        return bits[:length].ljust(length, b"\0")
    result = bytearray(length)
    for at, byte in enumerate(bits):
        for bit in range(8) if byte else ():
            if byte >> bit & 1:
                start = (at * 8 + bit) * old
                for each in range(start // new, -(-min(start + old, size) // new)):
                    result[each // 8] |= 1 << each % 8
    return bytes(result)
