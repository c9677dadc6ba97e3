"""A bare program on malta, in both byte orders: what it prints through the monitor's services is what it prints on QEMU's malta."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boot.images import elf, saved
from tests.isa.mips.assembler import NOP, li, word

LOAD, SHOW, BUFFER = 0x80100000, 0x80101000, 0x80102000
GT, FLASH, FPGA, ROM = 0xBBE00000, 0xBE000000, 0xBF000000, 0xBFC00000
PRINT_COUNT, PRINT = 0x504, 0x534
OPTIONS = "-M malta -m 64 -display none -monitor none -serial stdio -no-reboot"
EXPECTED = """71108086
0b0b0a0a
{order}
00000420
0000005e
000000df
0000003f
00000060
00000051
00000052
00800080
12345678
ffffffff
00000002
67108864
red green
"""


def service(vector: int) -> list[int]:
    """Call one of the monitor's functions."""
    return [word("lui", rt="t9", upper=0x9FC0), word("lw", rt="t9", base="t9", offset=vector), word("jalr", rd="ra", rs="t9"), NOP]


def show() -> list[int]:
    """A routine that prints a0 as eight hexadecimal digits."""
    digits = [
        word("srl", rd="t1", rt="a0", sa=28),
        word("sltiu", rt="t2", rs="t1", imm=10),
        word("bne", rs="t2", rt="zero", branch=2),
        word("addiu", rt="t1", rs="t1", imm=ord("0")),
        word("addiu", rt="t1", rs="t1", imm=ord("a") - ord("0") - 10),
        word("sb", rt="t1", base="s2", offset=0),
        word("addiu", rt="s2", rs="s2", imm=1),
        word("addiu", rt="t3", rs="t3", imm=-1),
        word("bne", rs="t3", rt="zero", branch=-9),
        word("sll", rd="a0", rt="a0", sa=4),
    ]
    begin = [word("or", rd="s1", rs="ra", rt="zero"), *li("s2", BUFFER), word("addiu", rt="t3", rs="zero", imm=8)]
    end = [word("addiu", rt="t1", rs="zero", imm=ord("\n")), word("sb", rt="t1", base="s2", offset=0), *li("a1", BUFFER)]
    call = [word("addiu", rt="a2", rs="zero", imm=9), *service(PRINT_COUNT)]
    return [*begin, *digits, *end, *call, word("jr", rs="s1"), NOP]


def program(big_endian: bool) -> bytes:
    """An ELF file."""

    def turned(value: int) -> int:
        return int.from_bytes(value.to_bytes(4, "little"), "big") if big_endian else value

    def shown(address: int) -> list[int]:
        return [*li("t0", address), word("lw", rt="a0", base="t0", offset=0), word("jal", target=SHOW >> 2), NOP]

    def store(address: int, value: int) -> list[int]:
        return [*li("t0", address), *li("t1", value), word("sw", rt="t1", base="t0", offset=0)]

    def swapped(address: int) -> list[int]:
        load = [*li("t0", address), word("lw", rt="a0", base="t0", offset=0)]
        turn = [word("wsbh", rd="a0", rt="a0"), word("rotr", rd="a0", rt="a0", sa=16)] if big_endian else []
        return [*load, *turn, word("jal", target=SHOW >> 2), NOP]

    code = [word("or", rd=to, rs=of, rt="zero") for to, of in (("s4", "a0"), ("s5", "a1"), ("s6", "a2"))]
    for register in (0x80005000, 0x80005060):  # PIIX4's identity, and its routes of PCI's interrupts
        code += [*store(GT + 0xCF8, turned(register)), *shown(GT + 0xCFC)]
    code += shown(FPGA + 0x208) + shown(ROM + 0x10)
    for register in (0x088, 0x068, 0x060):
        code += swapped(GT + register)
    code += [*store(FPGA + 0x920, 0), *shown(FPGA + 0x928)]  # the board's own UART
    code += store(FLASH, 0x980098)
    for register in (0x10, 0x11):  # of both chips side by side, or one in their place
        code += [*li("t0", FLASH + 4 * register), word("lw", rt="a0", base="t0", offset=0)]
        code += [word("andi", rt="a0", rs="a0", uimm=0xFF), word("jal", target=SHOW >> 2), NOP]
    for command in (0xFF00FF, 0x200020, 0xD000D0, 0x400040, 0x12345678):  # read the array, erase, program
        code += store(FLASH + 0x3E0000, command)
    code += [*store(FLASH, 0x700070), *shown(FLASH), *store(FLASH, 0xFF00FF), *shown(FLASH + 0x3E0000), *shown(FLASH + 0x3E0004)]
    code += [word("or", rd="a0", rs="s4", rt="zero"), word("jal", target=SHOW >> 2), NOP]
    newline = [*li("a1", BUFFER), word("addiu", rt="t1", rs="zero", imm=ord("\n")), word("sb", rt="t1", base="a1", offset=0)]
    newline += [word("addiu", rt="a2", rs="zero", imm=1), *service(PRINT_COUNT)]
    for table in ("s6", "s5"):  # the first variable's value, memsize; the command line
        code += [word("lw", rt="a1", base=table, offset=4), *service(PRINT), *newline]
    code += [*store(FPGA + 0x500, 0x42), word("beq", rs="zero", rt="zero", branch=-1), NOP]
    order = ">" if big_endian else "<"
    segments = [
        (at, at, struct.pack(f"{order}{len(words)}I", *words), 0x1000) for at, words in ((LOAD, code), (SHOW, show()), (BUFFER, []))
    ]
    return elf(32, segments, LOAD, machine=8, big_endian=big_endian)


@pytest.mark.parametrize("target", ["mipsel", "mips"])
@pytest.mark.parametrize("qemu", [False, True], ids=["exuvia", "qemu"])
def test_registers_arguments_services(tmp_path: Path, target: str, qemu: bool) -> None:
    if qemu and shutil.which(f"qemu-system-{target}") is None:
        pytest.skip(f"qemu-system-{target} is not installed")
    emulator = [f"qemu-system-{target}"] if qemu else [str(Path(sys.executable).with_name(f"exuvia-system-{target}"))]
    kernel = saved(tmp_path, "kernel", program(target == "mips"))
    words = [*emulator, *OPTIONS.split(), "-kernel", kernel, "-append", "red green"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
    assert done.stdout == EXPECTED.format(order="00000012" if target == "mips" else "00000010"), done.stderr
    assert done.returncode == 0
