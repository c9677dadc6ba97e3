"""convert: copy images into one of another format, or of other properties.

usage: exuvia-img convert [--object OBJECT] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps [--skip-broken-bitmaps]]
           [-U] [-C] [-c] [-p] [-q] [-n] [-f FMT] [-t CACHE] [-T CACHE] [-O FMT] [-B BACKING_FILE [-F BACKING_FMT]] [-o OPTIONS]
           [-l SNAPSHOT] [-S SIZE] [-r RATE] [-m N] [-W] [--salvage] FILENAME [FILENAME …] TARGET

-O: the target's format (raw); -o its options   -c: compressed   -n: the target is there already   -B: the target stands on that image
-l: of that snapshot   -S: so many zeros become a hole (4k), 0 writes everything   -W: in any order, -m: with so many writers
-C: let the host copy   -r: bytes a second at most   --salvage: zeros for what cannot be read   --target-is-zero: with -n, it reads as zeros

example: exuvia-img convert -p -O qcow2 -c disk.raw disk.qcow2
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.bitmap import merge
from exuvia.cli.img.making import blank, format_named, help_of, make, must_create, not_needed, options_of
from exuvia.cli.img.opening import open_named, show_snapshot
from exuvia.cli.img.sizes import number
from exuvia.cli.img.watch import Watch
from exuvia.disk.format import Bitmap, Format
from exuvia.disk.graph import beside, describe, nested, open_image
from exuvia.disk.jobs.copy import Copy, whole
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = """f= O= B= F= c o= l= S= p q n t= T= C r= m= W force-share/U object= image-opts target-image-opts target-is-zero bitmaps
skip-broken-bitmaps salvage"""
SECTOR = 512
CONCATENATED = "Having a backing file for the target makes no sense when concatenating multiple input images"


def run(arguments: Arguments) -> int:
    """Convert."""
    has, value = arguments.has, arguments.value
    sparse = 4096
    if (text := value("S")) is not None:
        sparse = number("buffer size for sparse output", text)
        if sparse % SECTOR or sparse > 16 << 20:
            raise UserError(
                "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to 16777216. "
                "Select 0 to disable sparse detection (fully allocates output)."
            )
    writers = value("m") or "8"
    if not writers.isdecimal() or not 1 <= int(writers) <= 16:
        raise UserError("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16")
    rate = number("rate limit", value("r") or "0")
    format = value("O")
    if help := help_of(arguments.values("o"), format or "raw", arguments.rest[-1] if len(arguments.rest) > 1 else None):
        print(help, end="")
        return 0
    _refuse(arguments)
    *names, target_name = arguments.rest
    with ExitStack() as stack:
        sources: list[Format] = []
        for name in names:
            image = open_named(
                name,
                value("f"),
                described=has("image-opts"),
                share=has("force-share"),
                cache=value("T") or "writeback",
                what="source cache",
            )
            stack.enter_context(image)
            sources.append(image)
        if (snapshot := value("l")) is not None:
            show_snapshot(sources[0], snapshot)
        size = sum(whole(source.size) for source in sources)
        keys = _create(arguments, sources, target_name, size)
        created = keys is not None
        watch = stack.enter_context(Watch(has("p"), has("q")))
        target = open_named(
            target_name,
            None if keys else format if format or has("n") else "raw",
            described={"driver": format or "raw", "file": describe(target_name), **nested(keys)} if keys else has("target-image-opts"),
            writable=True,
            cache=value("t") or "unsafe",
        )
        with target:
            if target.size < size:
                raise UserError("output file is smaller than input file")
            if has("c") and not target.can_compress():
                raise UserError("Compression not supported for this file format")
            if has("c") and target.cluster is None:
                raise UserError("invalid cluster size")
            backed = target.backing is not None
            if backed and has("target-is-zero"):
                raise UserError("Cannot use --target-is-zero when the destination image has a backing file")
            bitmaps = _bitmaps(sources[0], target, has("skip-broken-bitmaps")) if has("bitmaps") else []
            job = Copy(
                sources,
                target,
                zeroed=has("target-is-zero") if has("n") else created and not backed and blank(target),
                backed=backed and value("B") is not None or (created and backed),
                sparse=sparse,
                compress=has("c") if target.compresses is None else target.compresses,
                offload=has("C") or (not sparse and not has("salvage")),
                writers=int(writers) if has("W") else 1,
                salvage=(lambda at, error: _warn(at, error, has("q"))) if has("salvage") else None,
            )
            job.speed, job.watch = rate, watch
            job.run()
            watch.share(1.0)
            for bitmap in bitmaps:
                target.add_bitmap(Bitmap(bitmap.name, bitmap.granularity, False))
                merge(sources[0], bitmap.name, target, bitmap.name, enabled=bitmap.enabled)
    return 0


def _warn(offset: int, error: OSError, quiet: bool) -> None:
    if not quiet:
        print(f"exuvia-img: warning: error while reading offset {offset}: {error.strerror}", file=sys.stderr)


def _refuse(arguments: Arguments) -> None:
    """What does not go together."""
    has, value = arguments.has, arguments.value
    wrong = [
        (len(arguments.rest) < 2, "Must specify image file name"),
        (has("skip-broken-bitmaps") and not has("bitmaps"), "Use of --skip-broken-bitmaps requires --bitmaps"),
        (has("C") and has("S"), "Cannot enable copy offloading when -S is used"),
        (has("C") and has("c"), "Cannot enable copy offloading when -c is used"),
        (has("C") and has("salvage"), "Cannot use copy offloading in salvaging mode"),
        (has("target-image-opts") and not has("n"), "--target-image-opts requires use of -n flag"),
        (has("target-image-opts") and value("O") is not None, "--image-opts and --format are mutually exclusive"),
        (has("target-is-zero") and not has("n"), "--target-is-zero requires use of -n flag"),
        (has("n") and has("o"), "-o has no effect when skipping image creation"),
        (value("l") is not None and len(arguments.rest) > 2, "No support for concatenating multiple snapshot"),
        (
            value("B") is not None and len(arguments.rest) > 2,
            CONCATENATED,
        ),
        (has("bitmaps") and len(arguments.rest) > 2, "Copying bitmaps only possible with single source"),
    ]
    for bad, text in wrong:
        if bad:
            raise UserError(text)


def _create(arguments: Arguments, sources: list[Format], name: str, size: int) -> dict[str, Any] | None:
    """Make the target, unless -n says that it is there: None. The ids of secrets with which it is opened then."""
    has, value = arguments.has, arguments.value
    if has("n"):
        return None
    kind = format_named(value("O") or "raw")
    must_create(kind)
    given: dict[str, Any] = options_of(kind, name, arguments.values("o"))
    for key, text, what in (("backing_file", value("B"), "Backing file"), ("backing_fmt", value("F"), "Backing file format")):
        if text is not None:
            if all(option.name != key for option in kind.CREATE):
                raise UserError(f"{what} not supported for file format '{kind.name}'")
            given[key] = text
    if given.get("backing_file") and not given.get("backing_fmt"):
        raise UserError("Use of backing file requires explicit backing format")
    if has("c"):
        if not kind.can_compress():
            raise UserError("Compression not supported for this file format")
        if given.get("encryption") or given.get("encrypt.format"):
            raise UserError("Compression and encryption not supported at the same time")
        if given.get("preallocation", "off") != "off":
            raise UserError("Compression and preallocation not supported at the same time")
    if has("bitmaps"):
        _bitmaps(sources[0], kind, has("skip-broken-bitmaps"))
    try:
        for source in sources:
            not_needed(name, source)
        if given.get("backing_fmt") and not given.get("backing_file"):
            raise UserError("Backing format cannot be used without backing file")
        if given.get("backing_file"):
            _look_at(name, given)
        make(kind, name, size, {key: text for key, text in given.items() if key != "size"})
    except Unopened:
        raise
    except UserError as error:
        raise UserError(f"{name}: error while converting {kind.name}: {str(error).removeprefix(f'{name}: ')}") from None
    return {key: value for key, value in given.items() if key.endswith("key-secret")}


def _look_at(name: str, given: dict[str, Any]) -> None:
    """Whether the target will find its backing image. Raises UserError."""
    try:
        open_image(beside(name, given["backing_file"]), given["backing_fmt"], share=True).close()
    except UserError as error:
        raise Unopened(f"Could not open '{name}': Could not open backing file: {error}") from None


class Unopened(UserError):
    """An image that the target needs cannot be opened."""


def _bitmaps(source: Format, target: Format | type[Format], skip_broken: bool) -> list[Bitmap]:
    """Those that can be copied."""
    if not source.can_keep_bitmaps() or source.info().get("compat") == "0.10":
        raise UserError("Source lacks bitmap support")
    if not target.can_keep_bitmaps():
        raise UserError(f"Format driver '{target.name}' does not support bitmaps")
    found = source.bitmaps()
    for bitmap in found:
        if bitmap.in_use and not skip_broken:
            raise UserError(
                f"Cannot copy inconsistent bitmap '{bitmap.name}'\nTry --skip-broken-bitmaps, or use 'exuvia-img bitmap --remove'"
            )
        if bitmap.in_use:
            print(f"exuvia-img: warning: Skipping inconsistent bitmap '{bitmap.name}'", file=sys.stderr)
    return [bitmap for bitmap in found if not bitmap.in_use]
