"""Linux on MIPS: the kernel's ELF file, its initrd, and the arguments and environment that YAMON gives (User's Manual, MD00005, chapter 7).

The first processor begins at the reset vector, in the ROM that `load_kernel` returns, which enters the kernel.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from exuvia.boot import elf, foreign, uimage, yamon
from exuvia.boot.image import gunzip, read_image
from exuvia.boot.layout import KIB, MIB, Memory, MemoryKind, MemoryRange
from exuvia.boot.modules import must_fit, place_segment
from exuvia.boot.yamon import A0, A1, A2, A3, SP
from exuvia.support.errors import UserError

LOW = 256 * MIB  # of RAM, at the most, lie below the board's devices
KSEG0, KSEG1 = 0x80000000, 0xA0000000
ARGUMENTS = 0x2000  # a table of addresses, then what it points to
ARGUMENTS_END = 0x10000
COMMAND_LINE_LIMIT = 4095
INITRD_ALIGNMENT = 64 * KIB
ABOVE_INITRD = 128 * KIB  # left free


def load_kernel(path: str, memory: Memory, ram: int, *, big_endian: bool, initrd: str | None = None, append: str = "") -> bytes:
    """Load `path`, an ELF file or a uImage of one, gzipped or not, into `ram` bytes of RAM; return the ROM that enters it.

    UserError when it is no kernel for this processor, is damaged, or does not fit.
    """
    low = min(ram, LOW)
    ranges = [MemoryRange(0, low, MemoryKind.RAM)]
    data = gunzip("-kernel", path, read_image("-kernel", path, low), low)

    def place(virtual: int, content: bytes, size: int) -> int:
        return place_segment(memory, ranges, path, _physical(path, virtual), content, size, ARGUMENTS_END)

    if uimage.is_uimage(data):
        image = uimage.parse(path, data, uimage.MIPS, low)
        end = place(image.load, image.content, len(image.content))
        entry = image.entry
    else:
        parsed = _parse(path, data, big_endian)
        must_fit(ranges, path, parsed)
        end = max(place(s.virtual, parsed.content(s), s.memory_size) for s in parsed.loads())
        entry = parsed.entry
    if not _physical(path, entry) < low:
        raise UserError(f"-kernel {path}: entry point {entry:#x} is not in memory")
    command = append
    if initrd is not None:
        content = read_image("-initrd", initrd, low)
        at = low - ABOVE_INITRD - len(content) & -INITRD_ALIGNMENT
        if at < end:
            raise UserError(f"-initrd {initrd}: no room for its {len(content) / MIB:.1f} MiB behind the kernel (see -m)")
        memory.write_bytes(at, content)
        command = f"rd_start={KSEG0 + at:#x} rd_size={len(content)} {append}".rstrip()
    if len(os.fsencode(command)) > COMMAND_LINE_LIMIT:
        raise UserError(f"-append: {len(os.fsencode(command))} bytes, a kernel takes at most {COMMAND_LINE_LIMIT}")
    pairs = ["memsize", str(low), "ememsize", str(ram), "modetty0", "38400n8r", "rngseed", os.urandom(32).hex()]
    arguments = [os.path.basename(path), command]
    memory.write_bytes(ARGUMENTS, _table(arguments, pairs, ">" if big_endian else "<"))
    table = KSEG0 + ARGUMENTS
    registers = [(SP, table - 64), (A0, len(arguments)), (A1, table), (A2, table + 4 * (len(arguments) + 1)), (A3, low)]
    return yamon.rom(entry, registers, big_endian=big_endian)


def _parse(path: str, data: bytes, big_endian: bool) -> elf.Elf:
    if not elf.is_elf(data):
        raise UserError(f"-kernel {path}: " + foreign.file(data, "MIPS", "neither an ELF file nor a uImage"))
    try:
        image = elf.parse(data)
    except elf.ElfError as error:
        raise UserError(f"-kernel {path}: {error}") from None
    if image.machine != elf.EM_MIPS:
        raise UserError(f"-kernel {path}: {foreign.elf_image(image, 'MIPS')}")
    if image.big_endian != big_endian:
        found, wanted, program = ("big", "little", "mips") if image.big_endian else ("little", "big", "mipsel")
        raise UserError(f"-kernel {path}: a {found}-endian kernel, this machine is {wanted}-endian (exuvia-system-{program} runs it)")
    if image.bits != 32:
        raise UserError(f"-kernel {path}: a 64-bit kernel, this machine's processor is a 32-bit one")
    if not image.loads():
        raise UserError(f"-kernel {path}: an ELF image without anything to load")
    return image


def _physical(path: str, address: int) -> int:
    """Where an unmapped address (kseg0, kseg1) lies."""
    if not KSEG0 <= address < KSEG1 + (KSEG1 - KSEG0):
        raise UserError(f"-kernel {path}: linked to {address:#x}, where the processor has no unmapped memory")
    return address & 0x1FFFFFFF


def _table(arguments: Sequence[str], environment: Sequence[str], order: str) -> bytes:
    """Addresses of the arguments, 0, addresses of the environment's names and values in turn, 0; then the texts."""
    texts = [*arguments, None, *environment, None]
    addresses, strings = [], b""
    for text in texts:
        addresses.append(0 if text is None else KSEG0 + ARGUMENTS + 4 * len(texts) + len(strings))
        strings += b"" if text is None else os.fsencode(text) + b"\0"
    table = struct.pack(f"{order}{len(addresses)}I", *addresses) + strings
    if len(table) > ARGUMENTS_END - ARGUMENTS:
        raise UserError("-append: more than fits with the environment")
    return table
