"""rebase: let an image stand on another one, and read as before.

usage: exuvia-img rebase [--object OBJECT] [--image-opts] [-U] [-q] [-f FMT] [-t CACHE] [-T CACHE] [-p] [-u]
           -b BACKING_FILE [-F FMT] FILENAME

-b: what it will stand on, "" for nothing   -u: only change the name in the image, whatever that does to its content

example: exuvia-img rebase -b new-base.qcow2 -F qcow2 overlay.qcow2
"""

import os
from contextlib import ExitStack

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import find_layer, open_named
from exuvia.cli.img.watch import Watch
from exuvia.cli.program import Wrong
from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS, beside, open_image
from exuvia.disk.jobs.rebase import Rebase
from exuvia.disk.node import Unsupported
from exuvia.support.errors import UserError

OPTIONS = "b= f= F= p q t= T= u force-share/U object= image-opts"


def run(arguments: Arguments) -> int:
    """Rebase it."""
    name, unsafe = arguments.one(), arguments.has("u")
    new, format = arguments.value("b"), arguments.value("F")
    if new is None and not unsafe:
        raise Wrong("Must specify backing file (-b) or use unsafe mode (-u)")
    cache, source_cache = arguments.value("t") or "writeback", arguments.value("T") or "writeback"
    if source_cache not in ("none", "writeback", "writethrough", "directsync", "unsafe"):
        raise UserError(f"Invalid source cache option: {source_cache}")
    with ExitStack() as stack:
        image = open_named(name, arguments.value("f"), described=arguments.has("image-opts"), writable=True, chain=not unsafe, cache=cache)
        stack.enter_context(image)
        if format is not None and format not in FORMATS:
            raise UserError(f"Invalid format name: '{format}'")
        failed = f"Could not change the backing file to '{new}': "
        if not image.can_rebase():
            raise UserError(failed + "Operation not supported")
        if new and not format:
            raise UserError(failed + "backing format must be specified")
        if not unsafe:
            _compare(image, new, format, arguments, stack)
        try:
            image.set_backing(new or None, format if new else None)
            image.flush()
        except (Unsupported, OSError) as error:
            raise UserError(f"{failed}{getattr(error, 'strerror', None) or error}") from None
    return 0


def _compare(image: Format, new: str | None, format: str | None, arguments: Arguments, stack: ExitStack) -> None:
    """Keep in the image what would change."""
    shared = find_layer(image, beside(image.filename, new)) if new else None
    other = shared
    if new and shared is None:
        path = beside(image.filename, new)
        if os.path.exists(path) and os.path.exists(image.filename) and os.path.samefile(path, image.filename):
            raise UserError(f"Could not open new backing file '{new}': '{image.filename}' cannot stand on itself")
        try:
            other = open_image(path, format, share=arguments.has("force-share"))
        except UserError as error:
            raise UserError(f"Could not open new backing file '{new}': {error}") from None
        stack.enter_context(other)
    with Watch(arguments.has("p"), arguments.has("q")) as watch:
        job = Rebase(image, other, shared)
        job.watch = watch
        try:
            job.run()
            watch.share(1.0)
        except OSError as error:
            raise UserError(f"{image.filename}: error while rebasing at byte {job.done}: {error.strerror or error}") from None
