"""How an empty image is made: header section, log, block table and metadata in that order, each in whole MiB."""

from __future__ import annotations

from exuvia.disk.formats.vhdx import header, metadata
from exuvia.disk.formats.vhdx.header import MIB
from exuvia.disk.formats.vhdx.table import FULLY_PRESENT, ZERO, entries_for
from exuvia.disk.node import Node
from exuvia.support.errors import UserError
from exuvia.support.later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import uuid
    from typing import Any
else:
    uuid = Later("uuid")

PART = 1 << 17  # entries written at once


def automatic(size: int) -> int:
    """The block size that QEMU takes for a disk of `size` bytes."""
    for limit, block in ((32 << 40, 64), (100 << 30, 32), (1 << 30, 16)):
        if size > limit:
            return block * MIB
    return 8 * MIB


def create(file: Node, size: int, options: dict[str, Any]) -> None:
    """Write the image. Raises UserError before, for what cannot be."""
    size += -size % 512
    if size > metadata.MOST_BYTES:
        raise UserError(f"{file.filename}: Image size too large; max of 64TB")
    log = max(options["log_size"] or MIB, MIB)
    log += -log % MIB
    if log >= 4 << 30:
        raise UserError(f"{file.filename}: Log size must be smaller than 4 GB")
    subformat = options["subformat"] or "dynamic"
    if subformat not in ("dynamic", "fixed"):
        raise UserError(f"{file.filename}: Invalid subformat '{subformat}' (write dynamic or fixed)")
    block = min(max(options["block_size"] or automatic(size), MIB), metadata.LARGEST_BLOCK)
    if block & (block - 1):
        raise UserError(f"{file.filename}: Block size must be a power of two")
    fixed = subformat == "fixed"
    blocks, ratio = -(-size // block), (1 << 23) * 512 // block
    count = entries_for(blocks, ratio)
    bat = max(count * 8 + -(count * 8) % MIB, MIB)
    places = {"log": MIB, "bat": MIB + log, "metadata": MIB + log + bat, "data": MIB + log + bat + MIB}

    file.resize(places["data"] + (blocks * block if fixed else 0))
    file.write(0, header.IDENTIFIER + "Exuvia".encode("utf-16-le"))
    table = header.region_table(
        [header.Region(header.BAT, places["bat"], bat), header.Region(header.METADATA, places["metadata"], MIB)],
    )
    for offset in header.REGIONS:
        file.write(offset, table)
    file.write(places["metadata"], metadata.Metadata(block, size, fixed=fixed).pack())
    state = ZERO if options["block_state_zero"] is not False else 0
    if fixed or state:
        for first in range(0, count, PART):
            entries = bytearray()
            for slot in range(first, min(first + PART, count)):
                index, of_bitmap = slot - slot // (ratio + 1), slot % (ratio + 1) == ratio
                entries += (0 if of_bitmap else places["data"] + index * block | FULLY_PRESENT if fixed else state).to_bytes(8, "little")
            file.write(places["bat"] + first * 8, entries)
    one = header.Header(
        sequence=1, file_write=uuid.uuid4().bytes_le, data_write=uuid.uuid4().bytes_le, log_length=log, log_offset=places["log"]
    )
    for offset in header.HEADERS:
        file.write(offset, header.sealed(one))
        one.sequence += 1
