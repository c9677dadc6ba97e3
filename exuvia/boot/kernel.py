"""`-kernel`: tell what the file is and load it."""

from __future__ import annotations

from collections.abc import Sequence

from exuvia.boot import elf, foreign, linux, multiboot, pvh
from exuvia.boot.entry import Entry
from exuvia.boot.image import gunzip, read_image
from exuvia.boot.layout import Memory, MemoryRange, top_of_low_ram
from exuvia.support.errors import UserError


def load_kernel(
    path: str,
    memory: Memory,
    ranges: Sequence[MemoryRange],
    *,
    initrd: str | None = None,
    append: str = "",
    long_mode: bool = True,
    rsdp: int = 0,
) -> Entry:
    """Load `path` (Linux bzImage, multiboot 1 or PVH; each may be gzipped) into `memory`, and say how it begins.

    ranges     the e820 map of the machine
    initrd     a file for Linux; for multiboot and PVH "FILE ARGUMENTS,FILE ..."
    long_mode  whether the processor has it
    rsdp       where the ACPI root pointer stands, 0 for none
    UserError  when the file is none of these, is damaged, or does not fit.
    """
    room = top_of_low_ram(ranges)
    data = gunzip("-kernel", path, read_image("-kernel", path, room), room)
    if linux.is_linux(data):
        ramdisk = (initrd, read_image("-initrd", initrd, room)) if initrd else None
        return linux.load(memory, ranges, path, data, initrd=ramdisk, append=append, long_mode=long_mode, rsdp=rsdp)
    header = multiboot.find_header(data)
    if header is not None:
        return multiboot.load(memory, ranges, path, data, header, initrd=initrd, append=append)
    if elf.is_elf(data):
        try:
            image = elf.parse(data)
        except elf.ElfError as error:
            raise UserError(f"-kernel {path}: {error}") from None
        if image.big_endian or image.machine not in (elf.EM_386, elf.EM_X86_64):
            raise UserError(f"-kernel {path}: {foreign.elf_image(image, 'x86')}")
        entry = pvh.entry_point(image)
        if entry is None:
            raise UserError(f"-kernel {path}: an ELF image with neither a multiboot header nor a PVH note")
        return pvh.load(memory, ranges, path, image, entry, initrd=initrd, append=append, rsdp=rsdp)
    raise UserError(f"-kernel {path}: " + foreign.file(data, "x86", "not a Linux, multiboot or ELF image"))
