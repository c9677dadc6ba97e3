"""-s, --snapshot of several commands: what is written goes to a temporary image on top, which goes when the command ends."""

import tempfile
from contextlib import ExitStack

from exuvia.disk.format import Format


def overlay(image: Format, stack: ExitStack) -> Format:
    """A temporary qcow2 image over `image`; `stack` removes it."""
    from exuvia.disk.graph import FORMATS, open_protocol
    from exuvia.disk.options import values

    kind = FORMATS["qcow2"]
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="exuvia-"))
    file = open_protocol(f"{folder}/overlay.qcow2", writable=True, create=True)
    kind.create(file, image.size, values(kind.CREATE, {}, "qcow2"))
    top = kind(file, writable=True)
    top.backing = image
    return top
