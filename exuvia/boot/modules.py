"""Segments, modules and command lines as multiboot and PVH images take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from exuvia.boot.elf import Elf
from exuvia.boot.image import read_image
from exuvia.boot.layout import HIGH_MEMORY, MIB, PAGE, START_INFO, START_INFO_SIZE, Memory, MemoryKind, MemoryRange
from exuvia.support.errors import UserError

MAX_MODULES = 64
BEHIND_INFO = START_INFO + START_INFO_SIZE


@dataclass(frozen=True)
class Module:
    """A file in RAM, with the text after its name in `-initrd "FILE ARGUMENTS,..."` (the name itself included)."""

    start: int
    end: int
    command: str


def in_ram(ranges: Sequence[MemoryRange], start: int, size: int) -> bool:
    """Whether [start, start + size) lies within one range of RAM."""
    return any(r.kind is MemoryKind.RAM and r.start <= start and start + size <= r.end for r in ranges)


def place_segment(
    memory: Memory,
    ranges: Sequence[MemoryRange],
    path: str,
    address: int,
    content: bytes,
    size: int,
    low: int = BEHIND_INFO,
) -> int:
    """Write `content` and zeros up to `size` bytes at `address`; return the end. UserError when that is not all RAM of the guest's own.

    low  the first address that is: what the loader leaves for the kernel lies below
    """
    size = max(size, len(content))
    if address < low:
        raise UserError(f"-kernel {path}: a segment at {address:#x}; what lies below {low:#x} is not for a kernel's own use")
    if not in_ram(ranges, address, size):
        raise UserError(f"-kernel {path}: {size / MIB:.1f} MiB at {address:#x} do not fit into the machine's memory (see -m)")
    memory.write_bytes(address, content)
    at, left = address + len(content), size - len(content)
    while left:
        step = min(left, MIB)
        memory.write_bytes(at, bytes(step))
        at, left = at + step, left - step
    return address + size


def must_fit(ranges: Sequence[MemoryRange], path: str, image: Elf) -> None:
    """UserError when the segments together are more than all RAM."""
    size = image.memory_size()
    if size > sum(r.end - r.start for r in ranges if r.kind is MemoryKind.RAM):
        raise UserError(f"-kernel {path}: segments of {size / MIB:.1f} MiB do not fit into the machine's memory (see -m)")


def place_elf(memory: Memory, ranges: Sequence[MemoryRange], path: str, image: Elf) -> int:
    """Write every PT_LOAD segment to its physical address; return the end of the highest."""
    loads = image.loads()
    if not loads:
        raise UserError(f"-kernel {path}: an ELF image without anything to load")
    must_fit(ranges, path, image)
    return max(place_segment(memory, ranges, path, s.physical, image.content(s), s.memory_size) for s in loads)


def split_modules(text: str) -> list[str]:
    """`a args,b` as ["a args", "b"]; a doubled comma stands for a comma."""
    parts = text.replace(",,", "\0").split(",")
    return [part.replace("\0", ",") for part in parts if part]


def place_modules(memory: Memory, text: str, low: int, high: int) -> list[Module]:
    """Read the modules that `-initrd` names and write them page-aligned from `low` on. UserError when they pass `high`."""
    modules: list[Module] = []
    at = max(low, HIGH_MEMORY)
    parts = split_modules(text)
    if len(parts) > MAX_MODULES:
        raise UserError(f"-initrd: {len(parts)} modules, at most {MAX_MODULES} are supported")
    for part in parts:
        at = (at + PAGE - 1) & -PAGE
        content = read_image("-initrd", part.split(" ", 1)[0], max(0, high - at))
        memory.write_bytes(at, content)
        modules.append(Module(at, at + len(content), part))
        at += len(content)
    return modules


class InfoArea:
    """Structures laid one after another into START_INFO."""

    def __init__(self) -> None:
        """Begin with an empty area."""
        self._data = bytearray()

    def reserve(self, size: int) -> int:
        """Room for `size` bytes, filled later with `fill`; its address, 8-byte aligned."""
        return self.add(bytes(size))

    def add(self, content: bytes) -> int:
        """Append `content`; its address. UserError when the area is full."""
        self._data += bytes(-len(self._data) % 8)
        at = START_INFO + len(self._data)
        self._data += content
        if len(self._data) > START_INFO_SIZE:
            raise UserError("-append and -initrd: command lines longer than 64 KiB together")
        return at

    def fill(self, address: int, content: bytes) -> None:
        """Overwrite what `reserve` made room for."""
        at = address - START_INFO
        self._data[at : at + len(content)] = content

    def text(self, text: str) -> int:
        """Append a zero-terminated string; its address."""
        return self.add(os.fsencode(text) + b"\0")

    def write(self, memory: Memory) -> None:
        """Write the area to the guest."""
        memory.write_bytes(START_INFO, bytes(self._data))
