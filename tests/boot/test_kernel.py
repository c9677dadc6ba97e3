"""-kernel: what is loaded where, what the processor begins with, and what bad images say."""

from __future__ import annotations

import gzip
import os
import random
import struct
from pathlib import Path

import pytest

from exuvia.boot.kernel import load_kernel
from exuvia.boot.layout import BOOT_PARAMS, COMMAND_LINE, GDT, MIB, PAGE_TABLES
from exuvia.support.errors import UserError
from tests.boot.images import bzimage, elf, memory, multiboot_header, note, saved


def test_linux_64(tmp_path: Path) -> None:
    space, ranges = memory()
    code = bytes(range(256)) * 8
    initrd = os.urandom(5000)
    entry = load_kernel(
        saved(tmp_path, "k", bzimage(code)), space, ranges, initrd=saved(tmp_path, "i", initrd), append="console=ttyS0", rsdp=0xF0000
    )
    assert (entry.mode, entry.ip, entry.registers) == ("long64", 0x100200, {"rsi": BOOT_PARAMS})
    assert space.read_bytes(0x100000, len(code)) == code
    params = space.read_bytes(BOOT_PARAMS, 4096)
    assert struct.unpack_from("<I", params, 0x202) == (0x53726448,)
    at, size = struct.unpack_from("<II", params, 0x218)
    assert at % 4096 == 0
    assert at >= 64 * MIB - 8192
    assert space.read_bytes(at, size) == initrd
    assert struct.unpack_from("<I", params, 0x228) == (COMMAND_LINE,)
    assert space.read_bytes(COMMAND_LINE, 14) == b"console=ttyS0\0"
    assert struct.unpack_from("<Q", params, 0x70) == (0xF0000,)
    map_ = [struct.unpack_from("<QQI", params, 0x2D0 + 20 * n) for n in range(params[0x1E8])]
    assert map_ == [(r.start, r.size, r.kind) for r in ranges]
    assert (0x100000, 63 * MIB, 1) in map_


def test_long_mode_tables_map_4_gib_to_itself(tmp_path: Path) -> None:
    space, ranges = memory()
    entry = load_kernel(saved(tmp_path, "k", bzimage()), space, ranges)
    assert (entry.cr3, entry.cr4 & 0x20, entry.efer & 0x500, entry.cr0 & 0x80000001) == (PAGE_TABLES, 0x20, 0x500, 0x80000001)
    for address in (0, 0x100200, 0x3FFFFFFF, 0x40000000, 0xFEE00000, 0xFFFFFFFF):
        table = entry.cr3
        for shift in (39, 30):
            item = space.read(table + (address >> shift & 511) * 8, 8)
            assert item & 1
            table = item & ~0xFFF
        item = space.read(table + (address >> 21 & 511) * 8, 8)
        assert item & 0x83 == 0x83
        assert item & ~0x1FFFFF == address & ~0x1FFFFF


@pytest.mark.parametrize(("xloadflags", "long_mode"), [(0, True), (1, False)])
def test_linux_32(tmp_path: Path, xloadflags: int, long_mode: bool) -> None:
    space, ranges = memory()
    entry = load_kernel(saved(tmp_path, "k", bzimage(xloadflags=xloadflags)), space, ranges, long_mode=long_mode)
    assert (entry.mode, entry.ip, entry.cr0 & 0x80000001, entry.efer) == ("protected32", 0x100000, 1, 0)
    base, limit = entry.gdt
    assert base == GDT
    for segment in entry.segments.values():
        assert segment.selector <= limit
        assert space.read(base + segment.selector, 8) == segment.descriptor
    assert entry.segments["cs"].descriptor == 0x00CF9B000000FFFF
    assert entry.segments["ds"].descriptor == 0x00CF93000000FFFF


def test_initrd_address_limit(tmp_path: Path) -> None:
    space, ranges = memory()
    load_kernel(saved(tmp_path, "k", bzimage(initrd_max=0x2FFFFFF)), space, ranges, initrd=saved(tmp_path, "i", bytes(4097)))
    assert space.read(BOOT_PARAMS + 0x218, 4) == 0x3000000 - 8192


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "empty file"),
        (b"\0" * 4096, "not a Linux, multiboot or ELF image"),
        (bzimage()[:600], "truncated setup header"),
        (bzimage()[:1024], "truncated Linux kernel"),
        (bzimage()[:-64], "truncated Linux kernel"),
        (bzimage(version=0x105), "boot protocol 0x0105 is too old"),
        (bzimage(loadflags=0), "a zImage"),
        (bzimage(init_size=0x40000000), "needs at least 1040 MiB of memory, the machine has 64 MiB"),
        (b"\x7fELF" + bytes(10), "truncated ELF header"),
        (elf(64, [(0, MIB, b"x", 1)], MIB, machine=183), "an ELF image for AArch64, not for x86"),
        (elf(32, [(0, MIB, b"x", 1)], MIB, machine=8, big_endian=True), "an ELF image for MIPS, not for x86"),
        (bytes(56) + b"ARM\x64" + bytes(9), "a Linux kernel for AArch64, not for x86"),
        (b"MZ\0\0zimg" + bytes(52) + b"\x40\0\0\0PE\0\0\x64\xaa" + bytes(99), "a Linux kernel for AArch64, not for x86"),
        (b"MZ\0\0zimg", "an EFI program, but not a Linux kernel"),
        (elf(64, [(0, MIB, b"x", 1)], MIB, machine=62), "neither a multiboot header nor a PVH note"),
        (elf(64, [(0, MIB, b"x" * 99, 99)], MIB, machine=62)[:-9], "truncated ELF segment"),
        (elf(64, [(0, MIB, b"x", 1)], MIB, machine=62)[:80], "truncated ELF program headers"),
        (elf(32, [(0, MIB, multiboot_header(0), 1 << 30)], MIB), "an ELF image|do not fit"),
        (elf(32, [(0, 0x1000, multiboot_header(0), 100)], 0x1000), "at 0x1000; what lies below 0x20000"),
        (elf(32, [(0, MIB, multiboot_header(0), 100)] + [(0, MIB, b"", 32 * MIB)] * 100, MIB), "3200.0 MiB do not fit"),
        (elf(64, [(0, MIB, b"x", 1)], MIB, machine=62, notes=note(b"Xen", 1, b"") * 80_000), "more notes than"),
        (elf(32, [(0, MIB, multiboot_header(8), 100)], MIB), "multiboot features 0x8"),
        (elf(32, [(0, MIB, multiboot_header(0), 100)], 0xF0000000), "entry point 0xf0000000"),
        (multiboot_header(0), "no ELF file and has no address fields"),
        (multiboot_header(1 << 16, 0, 0), "truncated multiboot header"),
        (multiboot_header(1 << 16, MIB, MIB + 4, 0, 0, MIB), "impossible multiboot address fields"),
        (multiboot_header(1 << 16, MIB, MIB, 2 * MIB, 0, MIB), "truncated multiboot image"),
        (b"\x1f\x8b" + bytes(30), "damaged gzip data"),
        (gzip.compress(bytes(1000), mtime=0)[:-20], "truncated gzip data"),
        (gzip.compress(bytes(65 * MIB), mtime=0), "unpacks to more than fits"),
    ],
)
def test_bad_images_say_what_they_are(tmp_path: Path, image: bytes, message: str) -> None:
    space, ranges = memory()
    path = saved(tmp_path, "k", image)
    with pytest.raises(UserError, match=message) as caught:
        load_kernel(path, space, ranges)
    assert str(caught.value).startswith(f"-kernel {path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    space, ranges = memory()
    kernel = saved(tmp_path, "k", bzimage())
    with pytest.raises(UserError, match="-kernel /nowhere: No such file or directory"):
        load_kernel("/nowhere", space, ranges)
    with pytest.raises(UserError, match="-kernel /dev/null: not a regular file"):
        load_kernel("/dev/null", space, ranges)
    with pytest.raises(UserError, match="-initrd /nowhere: No such file"):
        load_kernel(kernel, space, ranges, initrd="/nowhere")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"-initrd .*: 1048576\.0 MiB do not fit into the 64\.0 MiB"):
        load_kernel(kernel, space, ranges, initrd=str(large))
    with large.open("wb") as file:
        file.truncate(45 * MIB)
    with pytest.raises(UserError, match=r"-initrd .*: 45\.0 MiB do not fit into the 40\.0 MiB left beside the kernel"):
        load_kernel(kernel, space, ranges, initrd=str(large))
    with pytest.raises(UserError, match="-append: 2048 bytes, this kernel takes at most 2047"):
        load_kernel(kernel, space, ranges, append="x" * 2048)


@pytest.mark.parametrize("bits", [32, 64])
def test_multiboot_elf_with_modules(tmp_path: Path, bits: int) -> None:
    space, ranges = memory()
    content = multiboot_header(3) + b"code"
    image = elf(bits, [(0xC0000000, 2 * MIB, content, 8192)], 0xC000000C, machine=3 if bits == 32 else 62)
    one, two = saved(tmp_path, "one", b"1" * 5000), saved(tmp_path, "two,x", b"22")
    space.write_bytes(2 * MIB + 100, b"dirty")
    path = saved(tmp_path, "k", gzip.compress(image))
    entry = load_kernel(path, space, ranges, initrd=f"{one} a=1 b,{two.replace(',', ',,')}", append="debug")
    assert (entry.mode, entry.ip, entry.registers["rax"]) == ("protected32", 2 * MIB + 12, 0x2BADB002)
    assert space.read_bytes(2 * MIB, 8192) == content.ljust(8192, b"\0")
    info = space.read_bytes(entry.registers["rbx"], 120)
    flags, lower, upper = struct.unpack_from("<III", info)
    assert (flags, lower, upper) == (0x24D, 639, 63 * 1024)
    command, count, modules = struct.unpack_from("<III", info, 16)
    assert space.read_bytes(command, len(path) + 7) == f"{path} debug".encode() + b"\0"
    assert count == 2
    for n, (text, data) in enumerate([(f"{one} a=1 b", b"1" * 5000), (two, b"22")]):
        start, end, string, _ = struct.unpack("<4I", space.read_bytes(modules + 16 * n, 16))
        assert start % 4096 == 0
        assert start >= 2 * MIB + 8192
        assert space.read_bytes(start, end - start) == data
        assert space.read_bytes(string, len(text) + 1) == text.encode() + b"\0"
    length, at = struct.unpack_from("<II", info, 44)
    lines = [struct.unpack("<IQQI", space.read_bytes(at + n, 24)) for n in range(0, length, 24)]
    assert lines == [(20, r.start, r.size, r.kind) for r in ranges]


def test_multiboot_address_fields(tmp_path: Path) -> None:
    space, ranges = memory()
    header = multiboot_header(1 << 16, MIB + 8, MIB, MIB + 48, MIB + 4096, MIB + 40)
    image = b"prologue" + header + b"the code"
    space.write_bytes(MIB + 60, b"dirty")
    entry = load_kernel(saved(tmp_path, "k", image), space, ranges)
    assert entry.ip == MIB + 40
    assert space.read_bytes(MIB, 4096) == image.ljust(4096, b"\0")


@pytest.mark.parametrize("size", [4, 8])
def test_pvh(tmp_path: Path, size: int) -> None:
    space, ranges = memory()
    notes = note(b"Linux", 1, b"abc") + note(b"Xen", 18, (MIB + 4).to_bytes(size, "little"))
    image = elf(64, [(0xFFFFFFFF81000000, MIB, b"kernel", 6)], 0, machine=62, notes=notes)
    initrd = saved(tmp_path, "i", b"ramdisk")
    entry = load_kernel(saved(tmp_path, "k", image), space, ranges, initrd=initrd, append="quiet", rsdp=0xF0000)
    assert (entry.kind, entry.mode, entry.ip) == ("pvh", "protected32", MIB + 4)
    fields = struct.unpack("<IIIIQQQQII", space.read_bytes(entry.registers["rbx"], 56))
    magic, version, _, count, modules, command, rsdp, memmap, entries, _ = fields
    assert (magic, version, count, rsdp) == (0x336EC578, 1, 1, 0xF0000)
    start, length = struct.unpack("<QQ", space.read_bytes(modules, 16))
    assert space.read_bytes(start, length) == b"ramdisk"
    assert space.read_bytes(command, 6) == b"quiet\0"
    lines = [struct.unpack("<QQII", space.read_bytes(memmap + 24 * n, 24))[:3] for n in range(entries)]
    assert lines == [(r.start, r.size, r.kind) for r in ranges]


def test_damaged_images_never_do_worse_than_an_error(tmp_path: Path) -> None:
    random_ = random.Random(1)
    pvh_note = note(b"Xen", 18, MIB.to_bytes(4, "little"))
    good = [
        bzimage(),
        elf(32, [(MIB, MIB, multiboot_header(3) + b"x", 64)], MIB + 12),
        elf(64, [(MIB, MIB, b"x" * 64, 64)], MIB, machine=62, notes=pvh_note),
        multiboot_header(1 << 16, MIB, MIB, 0, 0, MIB),
    ]
    space, ranges = memory(32)
    outcomes = set()
    for n in range(600):
        image = bytearray(good[n % len(good)])
        for _ in range(random_.randint(1, 6)):
            image[random_.randrange(min(len(image), 700))] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
        del image[random_.randint(len(image) // 2, 2 * len(image)) :]
        try:
            outcomes.add(load_kernel(saved(tmp_path, "k", bytes(image)), space, ranges).kind)
        except UserError:
            outcomes.add("error")
    assert outcomes == {"linux", "multiboot", "pvh", "error"}
