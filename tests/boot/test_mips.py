"""Linux for MIPS: what lies where, what the ROM hands over, and what bad images say."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from exuvia.boot.layout import MIB
from exuvia.boot.mips import load_kernel
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support.errors import UserError
from tests.boot.images import arm64_image, bzimage, elf, saved

ENTRY = 0x80100040


def memory(mib: int = 64) -> AddressSpace:
    space = AddressSpace()
    space.map_ram(0, mib * MIB, Ram(mib * MIB))
    return space


def kernel(*, big_endian: bool = False, address: int = 0x80100000, size: int = 0x4000, entry: int = ENTRY, machine: int = 8) -> bytes:
    return elf(32, [(address, address, b"kernel" * 100, size)], entry, machine=machine, big_endian=big_endian)


def handed_over(rom: bytes, order: str) -> dict[int, int]:
    """The registers as the last instructions before the jump load them (lui and ori each)."""
    words = struct.unpack_from(f"{order}{(0x800 - 0x580) // 4}I", rom, 0x580)
    registers: dict[int, int] = {}
    for high, low in pairwise(words):
        if high >> 26 == 0x0F and low >> 26 == 0x0D:
            registers[high >> 16 & 31] = (high & 0xFFFF) << 16 | low & 0xFFFF
    return registers


def text(space: AddressSpace, address: int) -> str:
    return space.read_bytes(address & 0x1FFFFFFF, 256).split(b"\0")[0].decode()


@pytest.mark.parametrize("big_endian", [False, True])
def test_kernel_initrd_arguments_environment(tmp_path: Path, big_endian: bool) -> None:
    space, order = memory(512), ">" if big_endian else "<"
    initrd = random.Random(1).randbytes(100_000)
    path = saved(tmp_path, "vmlinux", gzip.compress(kernel(big_endian=big_endian)))
    rom = load_kernel(path, space, 512 * MIB, big_endian=big_endian, initrd=saved(tmp_path, "i", initrd), append="console=ttyS0")
    assert space.read_bytes(0x100000, 606) == b"kernel" * 100 + bytes(6)
    registers = handed_over(rom, order)
    assert (registers[4], registers[7]) == (2, 256 * MIB)
    assert registers[26] == ENTRY
    names = struct.unpack(f"{order}3I", space.read_bytes(registers[5] & 0x1FFFFFFF, 12))
    assert names[2] == 0
    assert text(space, names[0]) == "vmlinux"
    words = dict(word.split("=") for word in text(space, names[1]).split())
    assert words["console"] == "ttyS0"
    assert space.read_bytes(int(words["rd_start"], 16) & 0x1FFFFFFF, int(words["rd_size"])) == initrd
    environment: list[str] = []
    while pointer := int.from_bytes(
        space.read_bytes((registers[6] & 0x1FFFFFFF) + 4 * len(environment), 4), "big" if big_endian else "little"
    ):
        environment.append(text(space, pointer))
    values = dict(zip(environment[::2], environment[1::2], strict=True))
    assert len(bytes.fromhex(values.pop("rngseed"))) == 32
    assert values == {"memsize": str(256 * MIB), "ememsize": str(512 * MIB), "modetty0": "38400n8r"}


def uimage(content: bytes, *, load: int = 0x80100000, entry: int = ENTRY, processor: int = 5, kind: int = 2, compression: int = 1) -> bytes:
    def header(checksum: int) -> bytes:
        numbers = (0x27051956, checksum, 0, len(content), load, entry, zlib.crc32(content), 5, processor, kind, compression)
        return struct.pack(">7I4B32s", *numbers, b"Linux")

    return header(zlib.crc32(header(0))) + content


def test_uimage(tmp_path: Path) -> None:
    space = memory()
    for content, compression in ((gzip.compress(b"code" * 500), 1), (b"code" * 500, 0)):
        path = saved(tmp_path, "uImage", uimage(content, compression=compression))
        assert handed_over(load_kernel(path, space, 64 * MIB, big_endian=True), ">")[26] == ENTRY
        assert space.read_bytes(0x100000, 2000) == b"code" * 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (kernel(big_endian=True), "a big-endian kernel, this machine is little-endian (exuvia-system-mips runs it)"),
        (kernel(machine=3), "an ELF image for x86, not for MIPS"),
        (kernel(machine=2), "an ELF image for another processor (machine 2), not for MIPS"),
        (b"code" * 99, "neither an ELF file nor a uImage"),
        (bzimage(), "a Linux kernel for x86, not for MIPS"),
        (arm64_image(), "a Linux kernel for AArch64, not for MIPS"),
        (b"", "empty file"),
        (elf(64, [(0xFFFFFFFF80100000, 0, b"code", 4)], 0xFFFFFFFF80100000, machine=8), "a 64-bit kernel"),
        (elf(32, [], ENTRY, machine=8), "without anything to load"),
        (kernel(address=0xC0100000), "linked to 0xc0100000, where the processor has no unmapped memory"),
        (kernel(address=0x80000000), "at 0x0; what lies below 0x10000"),
        (kernel(size=0x7FFFFFFF), "do not fit into the machine's memory"),
        (elf(32, [(ENTRY, 0, b"code", 32 << 20)] * 2000, ENTRY, machine=8), "64000.0 MiB do not fit"),
        (kernel(entry=0x400000), "linked to 0x400000"),
        (kernel(entry=0x9F000000), "entry point 0x9f000000 is not in memory"),
        (kernel()[:90], "truncated ELF"),
        (gzip.compress(kernel(), mtime=0)[:-9], "truncated gzip"),
        (uimage(b"code", processor=2), "a uImage for another processor (architecture 2)"),
        (uimage(b"code", kind=4), "holds no kernel (type 4)"),
        (uimage(b"code", compression=3), "compressed in a way that is not supported (3)"),
        (uimage(b"code")[:-1], "truncated uImage"),
        (uimage(b"code")[:-1] + b"f", "damaged uImage"),
        (uimage(b"code")[:40] + b"x" * 24 + b"code", "damaged uImage header"),
        (uimage(b"code", compression=0, load=0x9FFFFFF0), "do not fit"),
    ],
)
def test_what_cannot_be_booted(tmp_path: Path, content: bytes, message: str) -> None:
    path = saved(tmp_path, "k", content)
    with pytest.raises(UserError) as caught:
        load_kernel(path, memory(), 64 * MIB, big_endian=False)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"-kernel {path}: ")


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, "k", kernel())
    with pytest.raises(UserError, match="no room for its 16.0 MiB behind the kernel"):
        load_kernel(path, memory(16), 16 * MIB, big_endian=False, initrd=saved(tmp_path, "i", bytes(16 * MIB)))
    with pytest.raises(UserError, match="-append: 5000 bytes, a kernel takes at most 4095"):
        load_kernel(path, memory(16), 16 * MIB, big_endian=False, append="a" * 5000)


def test_damaged_images_say_so_or_load(tmp_path: Path) -> None:
    chance, space = random.Random(5), memory(16)
    for good in (kernel(), uimage(gzip.compress(b"code" * 20))):
        for _ in range(150):
            image = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                image[chance.randrange(min(len(image), 90))] = chance.getrandbits(8)
            try:
                load_kernel(saved(tmp_path, "k", bytes(image)), space, 16 * MIB, big_endian=False)
            except UserError:
                pass
