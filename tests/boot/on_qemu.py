"""Runs on QEMU's processor and chipset what a Pc leaves in memory: RAM is the same file, and a small ROM enters the state of the Entry."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from exuvia.boot.entry import Entry
from exuvia.machines.config import MachineConfig
from exuvia.machines.pc import Pc
from tests.machines.fake import FakeVcpu

ROM_BASE = 0xFFFF0000
ROM_GDT, OWN_GDTR, ENTRY_GDTR, PROTECTED = 0x40, 0x60, 0x68, 0x100
# what Pc does to its chipset, for QEMU's: configuration address, value
CHIPSET = [(0x58, 0x33333000), (0x5C, 0x33333333), (0x860, 0x0B0B0A0A), (0xB40, 0x601), (0xB80, 1)]
EXIT_PORT = 0xF4


def rom(entry: Entry) -> bytes:
    """64 KiB at the top of 4 GiB: real mode, own flat segments, the chipset, then control registers and registers as `entry` has them."""

    def load(opcode: int, value: int) -> bytes:
        return bytes([opcode]) + struct.pack("<I", value)

    eax, ecx, edx = 0xB8, 0xB9, 0xBA
    segments = bytes.fromhex("8ed88ec08ed08ee08ee8")  # ds es ss fs gs = ax
    real = bytes.fromhex("fa 2e660f0116") + struct.pack("<H", OWN_GDTR) + bytes.fromhex("0f20c0 0c01 0f22c0 66ea")
    real += struct.pack("<IH", ROM_BASE + PROTECTED, 8)
    code = bytes.fromhex("66b81000") + segments
    for address, value in CHIPSET:
        code += load(edx, 0xCF8) + load(eax, 1 << 31 | address) + b"\xef" + load(edx, 0xCFC) + load(eax, value) + b"\xef"
    code += load(eax, entry.cr4) + bytes.fromhex("0f22e0") + load(eax, entry.cr3) + bytes.fromhex("0f22d8")
    if entry.efer:
        code += load(ecx, 0xC0000080) + load(eax, entry.efer & 0x100) + bytes.fromhex("31d2 0f30")
    code += bytes.fromhex("0f0115") + struct.pack("<I", ROM_BASE + ENTRY_GDTR) + load(eax, entry.cr0) + bytes.fromhex("0f22c0")
    code += b"\x66\xb8" + struct.pack("<H", entry.segments["ds"].selector) + segments
    names = ("rax", "rcx", "rdx", "rbx", "", "rbp", "rsi", "rdi")
    code += b"".join(load(0xB8 + n, entry.registers.get(name, 0)) for n, name in enumerate(names) if name)
    code += b"\xea" + struct.pack("<IH", entry.ip, entry.segments["cs"].selector)

    image = bytearray(0x10000)
    pieces = {
        0: real,
        ROM_GDT: struct.pack("<3Q", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF),
        OWN_GDTR: struct.pack("<HI", 23, ROM_BASE + ROM_GDT),
        ENTRY_GDTR: struct.pack("<HI", entry.gdt[1], entry.gdt[0]),
        PROTECTED: code,
        0xFFF0: b"\xe9" + struct.pack("<H", -0xFFF3 & 0xFFFF),
    }
    for at, piece in pieces.items():
        image[at : at + len(piece)] = piece
    return bytes(image)


def prepare(config: MachineConfig, folder: Path) -> list[str]:
    """The QEMU command for a machine with what `config` loads."""

    def nothing(cpu: FakeVcpu) -> Iterator[str]:
        yield "hlt"

    made: list[FakeVcpu] = []

    def factory(machine: object, index: int, controller: object) -> FakeVcpu:
        made.append(FakeVcpu(index, nothing))
        return made[-1]

    pc = Pc(config, vcpus=factory)
    pc.reset()
    assert pc.ram is not None
    assert made[0].entry is not None
    (folder / "ram").write_bytes(pc.ram.view)
    (folder / "rom").write_bytes(rom(made[0].entry))
    ram = f"memory-backend-file,id=ram,size={config.memory},mem-path={folder / 'ram'},share=off"
    words = f"qemu-system-x86_64 -machine pc,accel=tcg,hpet=off,memory-backend=ram -m {config.memory >> 20} -smp {config.smp}"
    words += f" -nodefaults -display none -serial stdio -no-reboot -device isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"
    return [*words.split(), "-object", ram, "-bios", str(folder / "rom")]


def run(config: MachineConfig, folder: Path, *, until: bytes | None = None, timeout: float = 30) -> tuple[int, bytes]:
    """(exit status, console): to the end, or until the console has said `until`."""
    with subprocess.Popen(prepare(config, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            if until is None:
                console, _ = qemu.communicate(timeout=timeout)
                return qemu.returncode, console
            console = b""
            assert qemu.stdout is not None
            while until not in console and (part := os.read(qemu.stdout.fileno(), 4096)):
                console += part
            return 0, console
        finally:
            qemu.kill()
