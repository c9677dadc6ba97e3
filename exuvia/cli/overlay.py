"""-s, --snapshot of several commands: what is written goes to a temporary image on top, which goes when the command ends."""

import tempfile

from exuvia.disk.format import Format


def overlay(image: Format) -> Format:
    """A temporary qcow2 image over `image`, of a file that has no name any more: nothing is left, however the command ends."""
    from exuvia.disk.graph import FORMATS, open_protocol
    from exuvia.disk.options import values

    kind = FORMATS["qcow2"]
    with tempfile.TemporaryDirectory(prefix="exuvia-") as folder:
        file = open_protocol(f"{folder}/overlay.qcow2", writable=True, create=True)
        try:
            kind.create(file, image.size, values(kind.CREATE, {}, "qcow2"))
            top = kind(file, writable=True)
        except BaseException:
            file.close()
            raise
    top.backing = image
    return top
