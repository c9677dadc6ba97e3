"""Multiboot 1 kernels (Multiboot Specification version 0.6.96): ELF images and flat images with address fields."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from exuvia.boot.elf import ElfError, is_elf, parse
from exuvia.boot.entry import Entry, protected32
from exuvia.boot.layout import EBDA, HIGH_MEMORY, KIB, Memory, MemoryRange, top_of_low_ram
from exuvia.boot.modules import InfoArea, in_ram, place_elf, place_modules, place_segment
from exuvia.support.errors import UserError

HEADER_MAGIC, LOADER_MAGIC = 0x1BADB002, 0x2BADB002
SEARCH = 8192
ADDRESS_FIELDS = 1 << 16
UNDERSTOOD = 0x7  # page-aligned modules, memory information, video mode (a wish)
INFO_MEMORY, INFO_COMMAND, INFO_MODULES, INFO_MMAP, INFO_LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9


def find_header(data: bytes) -> int | None:
    """The offset of the multiboot header in the first 8 KiB of `data`, None when there is none."""
    for at in range(0, min(len(data), SEARCH) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", data, at)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return at
    return None


def load(memory: Memory, ranges: Sequence[MemoryRange], path: str, data: bytes, header: int, *, initrd: str | None, append: str) -> Entry:
    """Place the image whose header stands at offset `header`, its modules and the information structure. UserError when it cannot be."""
    flags = struct.unpack_from("<I", data, header + 4)[0]
    if flags & 0xFFFF & ~UNDERSTOOD:
        raise UserError(f"-kernel {path}: requires multiboot features {flags & 0xFFFF & ~UNDERSTOOD:#x} that are not provided")
    if flags & ADDRESS_FIELDS:
        entry, end = _place_flat(memory, ranges, path, data, header)
    elif is_elf(data):
        try:
            image = parse(data)
        except ElfError as error:
            raise UserError(f"-kernel {path}: {error}") from None
        entry, end = image.physical_entry(), place_elf(memory, ranges, path, image)
    else:
        raise UserError(f"-kernel {path}: a multiboot image that is no ELF file and has no address fields")
    if not in_ram(ranges, entry, 1):
        raise UserError(f"-kernel {path}: entry point {entry:#x} is not in memory")

    top = top_of_low_ram(ranges)
    area = InfoArea()
    info = area.reserve(120)
    modules = place_modules(memory, initrd, end, top) if initrd else []
    command = area.text(f"{path} {append}".strip())
    loader = area.text("exuvia")
    strings = [area.text(module.command) for module in modules]
    records = (struct.pack("<IIII", m.start, m.end, text, 0) for m, text in zip(modules, strings, strict=True))
    module_list = area.add(b"".join(records))
    lines = b"".join(struct.pack("<IQQI", 20, r.start, r.size, r.kind) for r in ranges)
    mmap = area.add(lines)
    structure = bytearray(120)
    present = INFO_MEMORY | INFO_COMMAND | INFO_MODULES | INFO_MMAP | INFO_LOADER
    struct.pack_into("<III", structure, 0, present, EBDA // KIB, (top - HIGH_MEMORY) // KIB)
    struct.pack_into("<III", structure, 16, command, len(modules), module_list)
    struct.pack_into("<II", structure, 44, len(lines), mmap)
    struct.pack_into("<I", structure, 64, loader)
    area.fill(info, bytes(structure))
    area.write(memory)
    return protected32(memory, "multiboot", entry, {"rax": LOADER_MAGIC, "rbx": info})


def _place_flat(memory: Memory, ranges: Sequence[MemoryRange], path: str, data: bytes, header: int) -> tuple[int, int]:
    """The address fields (section 3.1.3): entry point and end of the image with its bss."""
    if header + 32 > len(data):
        raise UserError(f"-kernel {path}: truncated multiboot header")
    header_at, load_at, load_end, bss_end, entry = struct.unpack_from("<5I", data, header + 12)
    offset = header - (header_at - load_at)
    if header_at < load_at or offset < 0 or (load_end and load_end < load_at) or (bss_end and bss_end < load_end):
        raise UserError(f"-kernel {path}: impossible multiboot address fields")
    size = load_end - load_at if load_end else len(data) - offset
    if offset + size > len(data):
        raise UserError(f"-kernel {path}: truncated multiboot image")
    whole = bss_end - load_at if bss_end else size
    return entry, place_segment(memory, ranges, path, load_at, data[offset : offset + size], max(size, whole))
