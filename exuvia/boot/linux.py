"""Linux bzImage: the x86 boot protocol from 2.00 (Documentation/arch/x86/boot.rst and zero-page.rst), 32- and 64-bit entry.

The kernel's own 16-bit setup code is not run: it would ask a BIOS for what the zero page says here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from exuvia.boot.entry import Entry, long64, protected32
from exuvia.boot.layout import (
    BOOT_PARAMS,
    COMMAND_LINE,
    COMMAND_LINE_SIZE,
    HIGH_MEMORY,
    KIB,
    MIB,
    PAGE,
    Memory,
    MemoryRange,
    top_of_low_ram,
)
from exuvia.support.errors import UserError

SECTOR = 512
SETUP_HEADER = 0x1F1
SETUP_HEADER_LIMIT = 0x290
E820_TABLE, E820_MAX = 0x2D0, 128
LOADED_HIGH = 1 << 0
XLF_KERNEL_64 = 1 << 0
ENTRY_64 = 0x200
UNDEFINED_LOADER = 0xFF


def is_linux(data: bytes) -> bool:
    """Whether `data` carries the setup header's magic."""
    return data[0x202:0x206] == b"HdrS"


class SetupHeader:
    """The setup header of a bzImage; fields that its protocol version does not have read as their documented default."""

    def __init__(self, data: bytes) -> None:
        """`data`: the image. ValueError when it ends before the header does."""
        if len(data) < 2 * SECTOR:
            raise ValueError("truncated setup header")
        self.raw = data
        self.version: int = self._u16(0x206)
        self.setup_size = (1 + (data[SETUP_HEADER] or 4)) * SECTOR
        self.end = min(0x202 + data[0x201], SETUP_HEADER_LIMIT)
        self.syssize = self._u32(0x1F4) if self.version >= 0x204 else self._u16(0x1F4)
        self.loadflags = data[0x211]
        self.code32_start = self._u32(0x214)
        self.initrd_addr_max = self._u32(0x22C) if self.version >= 0x203 else 0x37FFFFFF
        self.relocatable = bool(data[0x234]) if self.version >= 0x205 else False
        self.xloadflags = self._u16(0x236) if self.version >= 0x20C else 0
        self.cmdline_size = self._u32(0x238) if self.version >= 0x206 else 255
        self.pref_address = self._u64(0x258) if self.version >= 0x20A else 0
        self.init_size = self._u32(0x260) if self.version >= 0x20A else 0

    def _u16(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 2], "little")

    def _u32(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 4], "little")

    def _u64(self, at: int) -> int:
        return int.from_bytes(self.raw[at : at + 8], "little")


def load(
    memory: Memory,
    ranges: Sequence[MemoryRange],
    path: str,
    data: bytes,
    *,
    initrd: tuple[str, bytes] | None,
    append: str,
    long_mode: bool,
    rsdp: int,
) -> Entry:
    """Place a bzImage, its initrd (path, content), command line and zero page.

    long_mode says whether the processor has it; the 64-bit entry is taken when the kernel has one too.
    UserError: truncated or too old images, not enough memory, a command line that is too long.
    """
    try:
        header = SetupHeader(data)
    except ValueError as error:
        raise UserError(f"-kernel {path}: {error}") from None
    if header.version < 0x200:
        raise UserError(f"-kernel {path}: Linux boot protocol {header.version:#06x} is too old")
    if not header.loadflags & LOADED_HIGH:
        raise UserError(f"-kernel {path}: a zImage, which loads low; only bzImage kernels are supported")
    kernel = data[header.setup_size :]
    # syssize counts 16-byte units and may be rounded up past the end of a file that was not padded
    if not kernel or len(data) < SETUP_HEADER_LIMIT or (header.version >= 0x204 and len(kernel) + 15 < header.syssize * 16):
        raise UserError(f"-kernel {path}: truncated Linux kernel")

    start = header.code32_start or HIGH_MEMORY
    top = top_of_low_ram(ranges)
    if start < HIGH_MEMORY:
        raise UserError(f"-kernel {path}: asks to be loaded at {start:#x}, below 1 MiB")
    runs_at = max(start, header.pref_address) if header.relocatable else (header.pref_address or start)
    kernel_end = max(start + len(kernel), runs_at + header.init_size)
    if kernel_end > top:
        raise UserError(f"-kernel {path}: needs at least {-(-kernel_end // MIB)} MiB of memory, the machine has {top // MIB} MiB (see -m)")

    command = os.fsencode(append) + b"\0"
    limit = min(header.cmdline_size, COMMAND_LINE_SIZE - 1)
    if len(command) - 1 > limit:
        raise UserError(f"-append: {len(command) - 1} bytes, this kernel takes at most {limit}")

    params = bytearray(PAGE)
    params[SETUP_HEADER : header.end] = data[SETUP_HEADER : header.end]
    _set(params, 0x210, "<B", UNDEFINED_LOADER)
    _set(params, 0x228, "<I", COMMAND_LINE)
    if initrd is not None:
        at = _place_initrd(memory, initrd, kernel_end, min(top, header.initrd_addr_max + 1))
        _set(params, 0x218, "<II", at, len(initrd[1]))
    _set(params, 0x070, "<Q", rsdp)
    above_1m = (top - HIGH_MEMORY) // KIB
    _set(params, 0x002, "<H", min(above_1m, 0xFFFF))
    _set(params, 0x1E0, "<I", above_1m)
    table = ranges[:E820_MAX]
    _set(params, 0x1E8, "<B", len(table))
    for n, entry in enumerate(table):
        _set(params, E820_TABLE + n * 20, "<QQI", entry.start, entry.size, entry.kind)

    memory.write_bytes(start, kernel)
    memory.write_bytes(COMMAND_LINE, command)
    memory.write_bytes(BOOT_PARAMS, bytes(params))
    registers = {"rsi": BOOT_PARAMS}
    if long_mode and header.xloadflags & XLF_KERNEL_64:
        return long64(memory, "linux", start + ENTRY_64, registers)
    return protected32(memory, "linux", start, registers)


def _set(params: bytearray, at: int, layout: str, *values: int) -> None:
    struct.pack_into(layout, params, at, *values)


def _place_initrd(memory: Memory, initrd: tuple[str, bytes], low: int, high: int) -> int:
    """As high as the kernel allows, so that it is out of the way of everything that the kernel unpacks."""
    path, content = initrd
    at = (high - len(content)) & -PAGE
    if at < low:
        room = max(0, high - low)
        raise UserError(
            f"-initrd {path}: {len(content) / MIB:.1f} MiB do not fit into the {room / MIB:.1f} MiB left beside the kernel (see -m)"
        )
    memory.write_bytes(at, content)
    return at
