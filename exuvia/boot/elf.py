"""ELF executables: the header, program headers and notes, 32- and 64-bit, of either byte order (System V ABI, chapter 4 and 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PT_LOAD, PT_NOTE = 1, 4
EM_386, EM_MIPS, EM_PPC, EM_PPC64, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 8, 20, 21, 40, 62, 183, 243
_MAX_PROGRAM_HEADERS = 0xFFFE  # PN_XNUM marks the extended numbering that no kernel uses
_MAX_NOTES = 1 << 20  # bytes


class ElfError(ValueError):
    """The image is not an ELF file that can be loaded; the text says why."""


@dataclass(frozen=True)
class ProgramHeader:
    """One segment: `file_size` bytes at `offset` go to physical address `physical`; zeros follow up to `memory_size`."""

    kind: int
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True)
class Elf:
    """A parsed ELF file. Every segment's file range lies within `data`."""

    data: bytes
    bits: int
    big_endian: bool
    machine: int
    entry: int
    segments: tuple[ProgramHeader, ...]

    def content(self, segment: ProgramHeader) -> bytes:
        """The bytes that the file holds of `segment`."""
        return self.data[segment.offset : segment.offset + segment.file_size]

    def loads(self) -> list[ProgramHeader]:
        """The segments that take memory, in file order."""
        return [segment for segment in self.segments if segment.kind == PT_LOAD and segment.memory_size]

    def memory_size(self) -> int:
        """What they take together, more than there is where they overlap again and again."""
        return sum(segment.memory_size for segment in self.loads())

    def physical_entry(self) -> int:
        """The entry point as a physical address: the header holds a virtual one where the two differ."""
        for segment in self.loads():
            if segment.virtual <= self.entry < segment.virtual + segment.memory_size:
                return self.entry - segment.virtual + segment.physical
        return self.entry

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(name, type, description) of each note; a damaged note ends its segment."""
        for segment in self.segments:
            if segment.kind != PT_NOTE:
                continue
            data = self.content(segment)
            align = 8 if segment.align == 8 else 4
            at = 0
            while at + 12 <= len(data):
                name_size, desc_size, kind = struct.unpack_from(">III" if self.big_endian else "<III", data, at)
                name_at = at + 12
                desc_at = name_at + name_size + (-(12 + name_size) % align)
                if desc_at + desc_size > len(data):
                    break
                yield data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[desc_at : desc_at + desc_size]
                at = desc_at + desc_size + (-desc_size % align)


def is_elf(data: bytes) -> bool:
    """Whether `data` begins with the ELF magic."""
    return data.startswith(b"\x7fELF")


def parse(data: bytes) -> Elf:
    """Parse an ELF file. ElfError says in a few words what is wrong with it."""
    if not is_elf(data):
        raise ElfError("not an ELF file")
    if len(data) < 52:
        raise ElfError("truncated ELF header")
    bits = {1: 32, 2: 64}.get(data[4])
    if bits is None:
        raise ElfError("neither a 32-bit nor a 64-bit ELF file")
    if data[5] not in (1, 2):
        raise ElfError("an ELF file of unknown byte order")
    order = ">" if data[5] == 2 else "<"
    if len(data) < (52 if bits == 32 else 64):
        raise ElfError("truncated ELF header")
    machine = struct.unpack_from(order + "H", data, 18)[0]
    if bits == 32:
        entry, table = struct.unpack_from(order + "II", data, 24)
        entry_size, count = struct.unpack_from(order + "HH", data, 42)
        layout = order + "IIIIIIII"
    else:
        entry, table = struct.unpack_from(order + "QQ", data, 24)
        entry_size, count = struct.unpack_from(order + "HH", data, 54)
        layout = order + "IIQQQQQQ"
    if count > _MAX_PROGRAM_HEADERS:
        raise ElfError("too many program headers")
    if count and entry_size < struct.calcsize(layout):
        raise ElfError("program headers of an impossible size")
    if table + count * entry_size > len(data):
        raise ElfError("truncated ELF program headers")
    segments = []
    for n in range(count):
        fields = struct.unpack_from(layout, data, table + n * entry_size)
        if bits == 32:
            kind, offset, virtual, physical, file_size, memory_size, _flags, align = fields
        else:
            kind, _flags, offset, virtual, physical, file_size, memory_size, align = fields
        if kind in (PT_LOAD, PT_NOTE) and offset + file_size > len(data):
            raise ElfError("truncated ELF segment")
        if kind == PT_LOAD and file_size > memory_size:
            raise ElfError("an ELF segment that is larger in the file than in memory")
        segments.append(ProgramHeader(kind, offset, virtual, physical, file_size, memory_size, align))
    if sum(segment.file_size for segment in segments if segment.kind == PT_NOTE) > _MAX_NOTES:
        raise ElfError("more notes than an ELF file has")
    return Elf(data, bits, order == ">", machine, entry, tuple(segments))
