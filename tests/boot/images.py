"""Kernel images made of thin air, and a memory to load them into."""

from __future__ import annotations

import struct
from pathlib import Path

from exuvia.boot.layout import MIB, MemoryRange, memory_map
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace


def memory(mib: int = 64) -> tuple[AddressSpace, list[MemoryRange]]:
    """RAM from 0, and its map."""
    space = AddressSpace()
    space.map_ram(0, mib * MIB, Ram(mib * MIB))
    return space, memory_map(mib * MIB)


def bzimage(code: bytes = b"\xf4" * 0x400, *, version: int = 0x20F, loadflags: int = 1, xloadflags: int = 1, **fields: int) -> bytes:
    """A bzImage with one setup sector whose protected-mode part is `code`. Fields: pref, init_size, initrd_max, cmdline."""
    image = bytearray(1024)
    image[0x1F1] = 1
    struct.pack_into("<I", image, 0x1F4, (len(code) + 15) // 16)
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x6aHdrS"
    struct.pack_into("<H", image, 0x206, version)
    image[0x211] = loadflags
    struct.pack_into("<I", image, 0x214, 0x100000)
    struct.pack_into("<I", image, 0x22C, fields.get("initrd_max", 0x7FFFFFFF))
    struct.pack_into("<IBBHI", image, 0x230, 0x200000, fields.get("relocatable", 1), 21, xloadflags, fields.get("cmdline", 2047))
    struct.pack_into("<QI", image, 0x258, fields.get("pref", 0x1000000), fields.get("init_size", 0x800000))
    return bytes(image) + code


def elf(
    bits: int,
    segments: list[tuple[int, int, bytes, int]],
    entry: int,
    *,
    machine: int = 3,
    notes: bytes = b"",
    big_endian: bool = False,
) -> bytes:
    """An ELF file of (virtual, physical, content, memory size) segments."""
    order = ">" if big_endian else "<"
    header_size, entry_size = (52, 32) if bits == 32 else (64, 56)
    count = len(segments) + bool(notes)
    at = header_size + entry_size * count
    headers, body = b"", b""

    def add(kind: int, virtual: int, physical: int, content: bytes, size: int) -> None:
        nonlocal headers, body
        offset = at + len(body)
        if bits == 32:
            headers += struct.pack(order + "8I", kind, offset, virtual, physical, len(content), size, 7, 4)
        else:
            headers += struct.pack(order + "II6Q", kind, 7, offset, virtual, physical, len(content), size, 4)
        body += content

    for virtual, physical, content, size in segments:
        add(1, virtual, physical, content, size)
    if notes:
        add(4, 0, 0, notes, len(notes))
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 2 if big_endian else 1, 1]).ljust(12, b"\0")
    layout = order + ("HHIIIIIHHHHHH" if bits == 32 else "HHIQQQIHHHHHH")
    return ident + struct.pack(layout, 2, machine, 1, entry, header_size, 0, 0, header_size, entry_size, count, 0, 0, 0) + headers + body


def multiboot_header(flags: int, *fields: int) -> bytes:
    """A multiboot 1 header."""
    magic = 0x1BADB002
    return struct.pack(f"<III{len(fields)}I", magic, flags, -(magic + flags) & 0xFFFFFFFF, *fields)


def note(name: bytes, kind: int, content: bytes) -> bytes:
    """One ELF note, 4-byte aligned."""
    padded = name + b"\0" + b"\0" * (-(len(name) + 1) % 4)
    return struct.pack("<III", len(name) + 1, len(content), kind) + padded + content + b"\0" * (-len(content) % 4)


def saved(folder: Path, name: str, content: bytes) -> str:
    """`content` in a file; its path."""
    path = folder / name
    path.write_bytes(content)
    return str(path)


def arm64_image(code: bytes = b"\x5f\x20\x03\xd5" * 1000, *, offset: int = 0, size: int = 0x100000, flags: int = 0xA) -> bytes:
    """A Linux Image for AArch64."""
    return struct.pack("<IIQQQ24sII", 0x14000010, 0, offset, size, flags, b"", int.from_bytes(b"ARM\x64", "little"), 0) + code


def zboot(payload: bytes, method: str) -> bytes:
    """An EFI zboot image around a packed kernel."""
    return struct.pack("<4s4sII8x32sI", b"MZ\0\0", b"zimg", 0x200, len(payload), method.encode(), 0).ljust(0x200, b"\0") + payload
