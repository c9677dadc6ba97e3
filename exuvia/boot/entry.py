"""The processor state in which a loaded image begins, said without knowing a processor (Intel SDM volume 3, sections 3.4 and 4.5)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from exuvia.boot.layout import GDT, PAGE, PAGE_TABLES, Memory

Mode = Literal["long64", "protected32", "real16"]

CR0_PE, CR0_ET, CR0_NE, CR0_PG = 1 << 0, 1 << 4, 1 << 5, 1 << 31
CR4_PAE = 1 << 5
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
RFLAGS_RESET = 2


@dataclass(frozen=True)
class Segment:
    """A segment register as loaded: the visible selector and the descriptor behind it.

    access   descriptor bits 40-47: type, S, DPL, P
    flags    descriptor bits 52-55: AVL, L, D/B, G
    limit    in bytes, the last offset that is valid
    """

    selector: int
    base: int
    limit: int
    access: int
    flags: int

    @property
    def descriptor(self) -> int:
        """The 8 bytes of the GDT entry as a number."""
        limit = self.limit >> 12 if self.flags & 8 else self.limit
        return (
            (limit & 0xFFFF)
            | (self.base & 0xFFFFFF) << 16
            | self.access << 40
            | (limit >> 16 & 0xF) << 48
            | self.flags << 52
            | (self.base >> 24 & 0xFF) << 56
        )


@dataclass(frozen=True)
class Entry:
    """Everything a processor is set to before its first instruction. Registers not named are zero.

    kind       what was loaded, for the log: "linux", "multiboot", "pvh", "firmware"
    ip         the linear or, in real mode, the offset of the first instruction
    registers  lower-case 64-bit names (rax, rsi ...) to values
    segments   cs ds es fs gs ss tr
    gdt        base and limit of the GDT in RAM; (0, 0xFFFF) in real mode
    """

    kind: str
    mode: Mode
    ip: int
    segments: Mapping[str, Segment]
    registers: Mapping[str, int] = field(default_factory=dict)
    gdt: tuple[int, int] = (0, 0xFFFF)
    cr0: int = CR0_ET
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    rflags: int = RFLAGS_RESET


CODE32, CODE64, DATA, TSS = 0x10, 0x10, 0x18, 0x20
FLAT = 0xFFFFFFFF


def _place_gdt(memory: Memory, code_flags: int) -> dict[str, Segment]:
    code = Segment(CODE32, 0, FLAT, 0x9B, code_flags)
    data = Segment(DATA, 0, FLAT, 0x93, 0xC)
    task = Segment(TSS, 0, 0x67, 0x8B, 0)
    table = [0, 0, code.descriptor, data.descriptor, task.descriptor, 0]
    memory.write_bytes(GDT, struct.pack("<6Q", *table))
    return {"cs": code, "ds": data, "es": data, "fs": data, "gs": data, "ss": data, "tr": task}


def protected32(memory: Memory, kind: str, ip: int, registers: Mapping[str, int]) -> Entry:
    """32-bit protected mode, flat segments, paging off. Writes the GDT."""
    segments = _place_gdt(memory, 0xC)
    return Entry(kind, "protected32", ip, segments, registers, (GDT, 6 * 8 - 1), CR0_PE | CR0_ET | CR0_NE)


def long64(memory: Memory, kind: str, ip: int, registers: Mapping[str, int]) -> Entry:
    """64-bit mode with the first 4 GiB mapped to themselves. Writes the GDT and the page tables."""
    segments = _place_gdt(memory, 0xA)
    present_writable, large = 0x3, 0x80
    pdpt, directories = PAGE_TABLES + PAGE, PAGE_TABLES + 2 * PAGE
    memory.write_bytes(PAGE_TABLES, struct.pack("<Q", pdpt | present_writable).ljust(PAGE, b"\0"))
    memory.write_bytes(pdpt, struct.pack("<4Q", *(directories + n * PAGE | present_writable for n in range(4))).ljust(PAGE, b"\0"))
    memory.write_bytes(directories, struct.pack("<2048Q", *(n << 21 | large | present_writable for n in range(2048))))
    cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG
    return Entry(kind, "long64", ip, segments, registers, (GDT, 6 * 8 - 1), cr0, PAGE_TABLES, CR4_PAE, EFER_LME | EFER_LMA)


def reset_vector() -> Entry:
    """The state after RESET (SDM volume 3, table 9-1): real mode at F000:FFF0 with the CS base at the top of 4 GiB."""
    code = Segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B, 0)
    data = Segment(0, 0, 0xFFFF, 0x93, 0)
    segments = {"cs": code, **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data), "tr": Segment(0, 0, 0xFFFF, 0x8B, 0)}
    return Entry("firmware", "real16", 0xFFF0, segments, {}, (0, 0xFFFF), 0x60000010)
