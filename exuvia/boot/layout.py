"""Where direct boot puts things in guest-physical memory. The one place that knows; every loader and table builder takes it from here.

A PC without firmware still owes a kernel what firmware leaves below 1 MiB: the BIOS data area, an EBDA, and the RSDP and SMBIOS
anchor in the 0xF0000 segment (ACPI 6.5 section 5.2.5.1, SMBIOS 3.6 section 5.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE = 4 * KIB

GDT = 0x1000
BOOT_PARAMS = 0x7000
PAGE_TABLES = 0x9000  # PML4, PDPT and four page directories: the first 4 GiB in 2 MiB pages
START_INFO = 0x10000  # multiboot information or hvm_start_info, with the lists they point to
START_INFO_SIZE = 0x10000
COMMAND_LINE = 0x20000
COMMAND_LINE_SIZE = 0x10000
EBDA = 0x9FC00
VGA_WINDOW = 0xA0000
TABLES = 0xE0000  # ACPI tables
TABLES_SIZE = 0x10000
RSDP = 0xF0000
SMBIOS = 0xF1000
SMBIOS_SIZE = 0xF000
HIGH_MEMORY = 0x100000

PCI_HOLE = 0xE0000000  # RAM below 4 GiB ends here at the latest
PCI_HOLE_END = 0xFEC00000
IOAPIC = 0xFEC00000
HPET = 0xFED00000
LOCAL_APIC = 0xFEE00000
FOUR_GIB = 4 * GIB


class MemoryKind(IntEnum):
    """Address range types (ACPI 6.5 table 15.1)."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4
    UNUSABLE = 5


@dataclass(frozen=True)
class MemoryRange:
    """One line of the e820 map, bytes."""

    start: int
    size: int
    kind: MemoryKind

    @property
    def end(self) -> int:
        """The first address after the range."""
        return self.start + self.size


class Memory(Protocol):
    """What a loader needs of an address space."""

    def write_bytes(self, address: int, data: bytes) -> None:
        """Copy `data` to `address`."""


def ram_below_4g(memory: int) -> int:
    """How much of `memory` bytes of RAM stands below the PCI hole."""
    return min(memory, PCI_HOLE)


def memory_map(memory: int) -> list[MemoryRange]:
    """The e820 map of a PC with `memory` bytes of RAM."""
    low = ram_below_4g(memory)
    ranges = [
        MemoryRange(0, EBDA, MemoryKind.RAM),
        MemoryRange(EBDA, VGA_WINDOW - EBDA, MemoryKind.RESERVED),
        MemoryRange(TABLES, HIGH_MEMORY - TABLES, MemoryKind.RESERVED),
        MemoryRange(HIGH_MEMORY, low - HIGH_MEMORY, MemoryKind.RAM),
        MemoryRange(IOAPIC, PAGE, MemoryKind.RESERVED),
        MemoryRange(LOCAL_APIC, PAGE, MemoryKind.RESERVED),
    ]
    if memory > low:
        ranges.append(MemoryRange(FOUR_GIB, memory - low, MemoryKind.RAM))
    return ranges


def top_of_low_ram(ranges: Sequence[MemoryRange]) -> int:
    """The end of the RAM that begins at 1 MiB; HIGH_MEMORY when there is none."""
    return next((r.end for r in ranges if r.kind is MemoryKind.RAM and r.start == HIGH_MEMORY), HIGH_MEMORY)
