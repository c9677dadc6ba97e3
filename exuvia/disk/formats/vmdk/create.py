"""Making VMDK images: the descriptor, and the extents that a subformat asks for."""

from __future__ import annotations

import os
from array import array

from exuvia.disk.format import Opener
from exuvia.disk.formats.vmdk import header as headers
from exuvia.disk.formats.vmdk.descriptor import NO_PARENT, SECTOR, TEMPLATE, Descriptor
from exuvia.disk.formats.vmdk.header import SparseHeader
from exuvia.disk.node import Node
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GRAIN = 128  # sectors
ENTRIES = 512  # of a grain table
TABLE = ENTRIES * 4 // SECTOR  # sectors
ROOM = 20  # sectors for the descriptor
PIECE = 2 << 30  # bytes of an extent in subformats that split
SUBFORMATS = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")
ADAPTERS = ("ide", "lsilogic", "buslogic", "legacyESX")


def check(options: dict[str, Any]) -> None:
    """Refuse options that do not go together, in QEMU's words."""
    if options["adapter_type"] not in (None, *ADAPTERS):
        raise UserError(f"Unknown adapter type: {options['adapter_type']} (write {', '.join(ADAPTERS)})")
    if options["compat6"] and options["hwversion"] != "undefined":
        raise UserError("compat6 cannot be enabled with hwversion set")
    if (options["subformat"] or "").endswith("Flat"):
        if options["backing_file"]:
            raise UserError("Flat image can't have backing file")
        if options["zeroed_grain"]:
            raise UserError("Flat image can't enable zeroed grain")
    for name in ("hwversion", "toolsversion", "backing_file"):
        if any(letter in (options[name] or "") for letter in '"\r\n\0'):
            raise UserError(f"option {name} cannot have quotes or line ends in it")


def make(file: Node, size: int, options: dict[str, Any], opener: Opener | None, parent: Descriptor | None) -> None:
    """Write a new image into `file`, and further extents through `opener`."""
    size += -size % SECTOR
    subformat = options["subformat"] or SUBFORMATS[0]
    split, flat = subformat.startswith("twoGb"), subformat.endswith("Flat")
    base = file.filename.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    if not dot:
        stem, ending = base, ""
    lines = []
    if not split and not flat:
        lines.append(f'RW {size // SECTOR} SPARSE "{base}"')
    else:
        starts = range(0, size, PIECE if split else max(size, 1))
        for number, start in enumerate(starts, 1):
            length = min(PIECE, size - start) if split else size
            letter = f"-{'f' if flat else 's'}{number:03}" if split else "-flat"
            name = f"{stem}{letter}{dot}{ending}"
            if opener is None:
                raise UserError(f"{subformat} has several files and needs a folder to make them in")
            extent = opener(name, True)
            try:
                extent.resize(0)
                if flat:
                    extent.resize(length)
                else:
                    sparse(extent, length, options, None)
                extent.flush()
            finally:
                extent.close()
            lines.append(f'RW {length // SECTOR} {"FLAT" if flat else "SPARSE"} "{name}"' + (" 0" if flat else ""))
    heads = 16 if options["adapter_type"] in (None, "ide") else 255
    text = TEMPLATE.format(
        cid=int.from_bytes(os.urandom(4), "little") & 0xFFFFFFFE,
        parent_cid=parent.cid if parent else NO_PARENT,
        create_type=subformat,
        parent=f'parentFileNameHint="{options["backing_file"]}"' if parent else "",
        extents="".join(line + "\n" for line in lines),
        hwversion="6" if options["compat6"] else "4" if options["hwversion"] in (None, "undefined") else options["hwversion"],
        cylinders=size // (63 * heads * SECTOR),
        heads=heads,
        adapter=options["adapter_type"] or "ide",
        tools=options["toolsversion"] or "2147483647",
    ).encode("utf-8", "surrogateescape")
    if split or flat:
        file.write(0, text)
        return
    if len(text) > ROOM * SECTOR:
        raise UserError(f"the descriptor has {len(text)} bytes, more than fit ({ROOM * SECTOR}): choose shorter names")
    sparse(file, size, options, text, subformat == "streamOptimized")


def sparse(file: Node, size: int, options: dict[str, Any], text: bytes | None, stream: bool = False) -> None:
    """An empty sparse extent in an empty file: both directories point to tables that stand behind them, and are holes."""
    header = SparseHeader(capacity=size // SECTOR, grain=GRAIN, entries=ENTRIES)
    if stream:
        header.version, header.compression = 3, headers.DEFLATE
        header.flags |= headers.COMPRESSED | headers.MARKERS
    elif options["zeroed_grain"]:
        header.version = 2
    if options["zeroed_grain"]:
        header.flags |= headers.ZERO_GRAINS
    tables = -(-size // (GRAIN * ENTRIES * SECTOR))
    sectors = -(-tables * 4 // SECTOR)
    header.copy = header.descriptor + header.descriptor_size
    header.directory = header.copy + sectors + tables * TABLE
    header.overhead = header.directory + sectors + tables * TABLE
    header.overhead += -header.overhead % GRAIN
    if header.overhead + header.capacity > 0xFFFFFFFF + GRAIN and header.overhead > 0xFFFFFFFF:
        raise UserError(f"a sparse VMDK of {size} bytes cannot be: its tables alone pass 2 TiB")
    file.resize(header.overhead * SECTOR)
    for directory in (header.copy, header.directory):
        entries = array("I", range(directory + sectors, directory + sectors + tables * TABLE, TABLE))
        file.write(directory * SECTOR, b"".join(entry.to_bytes(4, "little") for entry in entries))
    if text is not None:
        file.write(header.descriptor * SECTOR, text)
    file.write(0, header.pack().ljust(SECTOR, b"\0"))
