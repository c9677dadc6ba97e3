"""Xen PVH direct boot: an ELF image with a PHYS32_ENTRY note (Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from exuvia.boot.elf import Elf
from exuvia.boot.entry import Entry, protected32
from exuvia.boot.layout import Memory, MemoryRange, top_of_low_ram
from exuvia.boot.modules import InfoArea, in_ram, place_elf, place_modules
from exuvia.support.errors import UserError

XEN_ELFNOTE_PHYS32_ENTRY = 18
MAGIC, VERSION = 0x336EC578, 1


def entry_point(image: Elf) -> int | None:
    """The physical address in the image's PHYS32_ENTRY note, None when it has no such note."""
    for name, kind, content in image.notes():
        if name == b"Xen" and kind == XEN_ELFNOTE_PHYS32_ENTRY and len(content) in (4, 8):
            return int.from_bytes(content, "little")
    return None


def load(
    memory: Memory,
    ranges: Sequence[MemoryRange],
    path: str,
    image: Elf,
    entry: int,
    *,
    initrd: str | None,
    append: str,
    rsdp: int,
) -> Entry:
    """Place the image, its modules and the start information. UserError when they do not fit."""
    end = place_elf(memory, ranges, path, image)
    if not in_ram(ranges, entry, 1):
        raise UserError(f"-kernel {path}: entry point {entry:#x} is not in memory")
    area = InfoArea()
    info = area.reserve(56)
    modules = place_modules(memory, initrd, end, top_of_low_ram(ranges)) if initrd else []
    command = area.text(append)
    strings = [area.text(module.command.partition(" ")[2]) for module in modules]
    records = (struct.pack("<QQQQ", m.start, m.end - m.start, text, 0) for m, text in zip(modules, strings, strict=True))
    module_list = area.add(b"".join(records)) if modules else 0
    memmap = area.add(b"".join(struct.pack("<QQII", r.start, r.size, r.kind, 0) for r in ranges))
    structure = struct.pack("<IIIIQQQQII", MAGIC, VERSION, 0, len(modules), module_list, command, rsdp, memmap, len(ranges), 0)
    area.fill(info, structure)
    area.write(memory)
    return protected32(memory, "pvh", entry, {"rbx": info})
