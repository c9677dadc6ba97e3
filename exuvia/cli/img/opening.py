"""How commands open images: by name or description, with a format or by a look at the content, under a cache mode."""

from __future__ import annotations

import sys

from exuvia.cli import keyval
from exuvia.disk.chain import layers
from exuvia.disk.format import Format
from exuvia.disk.graph import PROTOCOLS, describe, nested, open_image
from exuvia.disk.node import Node
from exuvia.disk.protocols.file import File
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODES = ("none", "writeback", "writethrough", "directsync", "unsafe")
GUESSED = """WARNING: Image format was not specified for '{}' and probing guessed raw.
         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.
         Specify the 'raw' format explicitly to remove the restrictions."""


def open_named(
    name: str,
    format: str | None = None,
    *,
    described: bool | dict[str, Any] = False,
    writable: bool = False,
    share: bool = False,
    chain: bool = True,
    cache: str | None = None,
    what: str = "cache",
    locked: bool = False,
) -> Format:
    """The image called `name`, which is a description where `described` (--image-opts), or has the one that is given there.

    `locked`: of encrypted ones, the secret need not be given. Raises UserError that begins with the name.
    """
    if cache is not None and cache not in MODES:
        raise UserError(f"Invalid {what} option: {cache}")
    if described and format is not None:
        raise UserError("--image-opts and --format are mutually exclusive")
    if share and writable:
        raise UserError(f"Could not open '{name}': force-share=on can only be used with read-only images")
    try:
        said = described if isinstance(described, dict) else description(name) if described else describe(name)
        driver = said.get("driver") if described or name.startswith("json:") else None
        if (driver if format is None else format) in PROTOCOLS:
            format = "raw"  # bytes are what was asked for, whatever they look like
        if not (name or described):
            raise UserError("The 'file' block driver requires a file name")
        image = open_image(said, format, writable=writable, share=share, chain=chain)
        try:
            for layer in () if locked else layers(image):
                if isinstance(layer, Format):
                    layer.unlock()
        except BaseException:
            image.close()
            raise
    except UserError as error:
        raise type(error)(f"Could not open '{name}': {str(error).removeprefix(f'{name}: ')}") from None
    if writable and image.name == "raw" and format is None and "driver" not in (said if described or name.startswith("json:") else {}):
        print(GUESSED.format(image.filename), file=sys.stderr)
    if cache is not None:
        set_cache(image, cache)
    return image


def description(text: str) -> dict[str, Any]:
    """What --image-opts says."""
    said = nested(dict(keyval.parse(text, "file")))
    if isinstance(said.get("file"), str) and "driver" not in said:
        raise UserError(f"Cannot find device='{said['file']}' nor node-name='{said['file']}' (write driver=FMT,file.filename=NAME)")
    return said


def set_cache(node: Node, mode: str) -> None:
    """Let the files under an image, not those of its backing images, honour a cache mode."""
    if isinstance(node, File):
        node.unsafe, node.through = mode == "unsafe", mode in ("writethrough", "directsync")
    for role, child in node.children():
        if role != "backing":
            set_cache(child, mode)


def find_layer(top: Format, name: str) -> Format | None:
    """The image of the chain under `top` that is called `name`."""
    import os

    for layer in layers(top):
        if layer is not top and isinstance(layer, Format):
            same = layer.filename == name
            if not same and os.path.exists(name) and os.path.exists(layer.filename):
                same = os.path.samefile(name, layer.filename)
            if same:
                return layer
    return None


def show_snapshot(image: Format, said: str) -> None:
    """Let an image that is open for reading hold what its snapshot `snapshot.id=…,snapshot.name=…`, ID or NAME holds. Raises UserError."""
    known = image.snapshots()
    if said.startswith("snapshot."):
        wanted = dict(keyval.parse(said))
        for key in wanted.keys() - {"snapshot.id", "snapshot.name"}:
            raise UserError(f"Invalid parameter '{key}'\nexuvia-img: Failed in parsing snapshot param '{said}'")
        found = [
            each for each in known if wanted.get("snapshot.id", each.id) == each.id and wanted.get("snapshot.name", each.name) == each.name
        ]
    else:
        found = [each for each in known if each.id == said] or [each for each in known if each.name == said]
    if not image.can_snapshot():
        raise UserError(
            f"Failed to load snapshot: Block format '{image.name}' used by device '' "
            "does not support temporarily loading internal snapshots"
        )
    if not found:
        raise UserError("Failed to load snapshot: Can't find snapshot")
    image.show_snapshot(found[0])
