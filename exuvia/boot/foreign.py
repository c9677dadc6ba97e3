"""What a file is that `-kernel` names and that this machine's processor cannot run, in the words of an error."""

from __future__ import annotations

from exuvia.boot import elf, linux

ELF = {
    elf.EM_386: "x86", elf.EM_X86_64: "x86-64", elf.EM_MIPS: "MIPS", elf.EM_PPC: "PowerPC", elf.EM_PPC64: "PowerPC",
    elf.EM_ARM: "32-bit ARM", elf.EM_AARCH64: "AArch64", elf.EM_RISCV: "RISC-V",
}  # fmt: skip
PE = {0x14C: "x86", 0x8664: "x86", 0x1C2: "32-bit ARM", 0xAA64: "AArch64", 0x5032: "RISC-V", 0x5064: "RISC-V"}
MAGICS = {0x24: (b"\x18\x28\x6f\x01", "32-bit ARM"), 0x38: (b"ARM\x64", "AArch64"), 0x30: (b"RISCV\0\0\0", "RISC-V")}


def elf_image(image: elf.Elf, processor: str) -> str:
    """An ELF file of another processor."""
    known = ELF.get(image.machine)
    return f"an ELF image for {known or f'another processor (machine {image.machine})'}, not for {processor}"


def file(data: bytes, processor: str, otherwise: str) -> str:
    """A file that begins as no kernel for `processor` does; `otherwise` where it is none of another's either."""
    if not data:
        return "empty file"
    other = _linux(data)
    if other is not None and other != processor:
        return f"a Linux kernel for {other}, not for {processor}"
    return "an EFI program, but not a Linux kernel" if data[:2] == b"MZ" else otherwise


def _linux(data: bytes) -> str | None:
    """Whose Linux it is: by the header that loaders look for, or by PE's where it is packed for EFI (zboot)."""
    if linux.is_linux(data):
        return "x86"
    for at, (magic, name) in MAGICS.items():
        if data[at : at + len(magic)] == magic:
            return name
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        header = int.from_bytes(data[60:64], "little")
        return PE.get(int.from_bytes(data[header + 4 : header + 6], "little"))
    return None
