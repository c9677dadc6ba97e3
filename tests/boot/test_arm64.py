"""Kernels for AArch64: where they are loaded, how they are packed, and what other files say."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from exuvia.boot.arm64 import MOST_TREE, Arm64Entry, Room, firmware, load, read_tree
from exuvia.boot.devicetree import Tree, cells, wide
from exuvia.boot.layout import MIB
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support import zstd
from exuvia.support.errors import UserError
from tests.boot.images import arm64_image, bzimage, elf, saved, zboot

BASE = 0x40000000


def board(mib: int = 64) -> tuple[AddressSpace, Room]:
    space = AddressSpace()
    space.map_ram(BASE, mib * MIB, Ram(mib * MIB))
    return space, Room(BASE, mib * MIB)


def tree_at(space: AddressSpace, at: int) -> Tree:
    return Tree.unpack(space.read_bytes(at, 2 * MIB))


def test_linux(tmp_path: Path) -> None:
    space, room = board()
    kernel, initrd = arm64_image(size=0x300000), b"initrd" * 1000
    tree = Tree()
    tree.node("/memory@0").set("device_type", "memory")
    tree.node("/chosen").set("rng-seed", bytes(32))
    entry = load(space, room, saved(tmp_path, "k", kernel), tree, initrd=saved(tmp_path, "i", initrd), append="console=ttyAMA0", level=2)
    at = entry.registers["x0"]
    assert entry == Arm64Entry("linux", BASE, 2, {"x0": at}, at + MOST_TREE + len(initrd))
    assert space.read_bytes(BASE, len(kernel)) == kernel
    assert at % 8 == 0 and at >= BASE + 0x300000, "not where the kernel's BSS will be"
    found = tree_at(space, at)
    chosen = found.node("/chosen")
    assert chosen.text("bootargs") == "console=ttyAMA0"
    start, end = (int.from_bytes(chosen.properties[f"linux,initrd-{which}"], "big") for which in ("start", "end"))
    assert space.read_bytes(start, end - start) == initrd
    assert start >= at + 2 * MIB
    assert [name for name in found.root.children if name.startswith("memory")] == ["memory@40000000"]
    assert found.node("/memory@40000000").properties["reg"] == wide(BASE, 64 * MIB)


def test_the_text_offset(tmp_path: Path) -> None:
    space, room = board()
    assert load(space, room, saved(tmp_path, "k", arm64_image(offset=0x80000)), Tree()).pc == BASE + 0x80000
    assert load(space, room, saved(tmp_path, "k", arm64_image(offset=0x1234, size=0)), Tree()).pc == BASE + 0x80000, "before 3.17"


@pytest.mark.parametrize("packed", ["gzip", "zboot gzip", "zboot zstd", "zboot zstd22", "gzip of zboot"])
def test_packed(tmp_path: Path, packed: str) -> None:
    space, room = board()
    kernel = arm64_image()
    data = {
        "gzip": lambda: gzip.compress(kernel),
        "zboot gzip": lambda: zboot(gzip.compress(kernel), "gzip"),
        "zboot zstd": lambda: zboot(zstd.compress(kernel), "zstd"),
        "zboot zstd22": lambda: zboot(zstd.compress(kernel) + len(kernel).to_bytes(4, "little"), "zstd22"),  # as Linux appends it
        "gzip of zboot": lambda: gzip.compress(zboot(gzip.compress(kernel), "gzip")),
    }[packed]()
    assert load(space, room, saved(tmp_path, "k", data), Tree()).kind == "linux"
    assert space.read_bytes(BASE, len(kernel)) == kernel


def test_elf(tmp_path: Path) -> None:
    space, room = board()
    image = elf(64, [(0xFFFF000000080000, BASE + 0x80000, b"code" * 100, 0x1000)], 0xFFFF000000080010, machine=183)
    entry = load(space, room, saved(tmp_path, "k", image), Tree())
    assert (entry.kind, entry.pc) == ("elf", BASE + 0x80010)
    assert space.read_bytes(BASE + 0x80000, 404) == b"code" * 100 + bytes(4)
    assert tree_at(space, entry.registers["x0"]).root.children


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"hello" * 100, "not a Linux Image for AArch64 nor an ELF image"),
        (bzimage(), "a Linux kernel for x86, not for AArch64"),
        (bytes(0x24) + (0x016F2818).to_bytes(4, "little") + bytes(100), "32-bit ARM"),
        (b"MZ" + bytes(46) + b"RISCV" + bytes(99), "a Linux kernel for RISC-V, not for AArch64"),
        (b"MZ" + bytes(100), "an EFI program, but not a Linux kernel"),
        (arm64_image(flags=1), "a big-endian kernel"),
        (arm64_image(offset=0x300000), "a damaged Linux Image"),
        (arm64_image(size=1 << 40), "needs at least 1048576 MiB of memory, the machine has 64 MiB"),
        (arm64_image(size=63 << 20), "needs at least 66 MiB"),
        (elf(64, [], 0, machine=62), "an ELF image for x86-64, not for AArch64"),
        (elf(32, [], 0, machine=40), "an ELF image for 32-bit ARM"),
        (elf(64, [(0, 0x1000, b"x", 1)], 0, machine=183), "a segment at 0x1000, where no memory is"),
        (elf(64, [(0, BASE, b"x", 32 << 20)] * 2000, 0, machine=183), "needs at least 64000 MiB"),
        (elf(64, [], 0, machine=183, big_endian=True), "a big-endian kernel"),
        (zboot(b"x" * 100, "lzo"), "packed with lzo, of which only gzip and zstd are known"),
        (zboot(b"x" * 100, "zstd"), "damaged zstd data"),
        (zboot(zstd.compress(bytes(1000))[:-4], "zstd"), "truncated zstd data|damaged"),
        (zboot(zstd.compress(bytes(65 << 20)), "zstd"), "unpacks to more than fits"),
        (zboot(gzip.compress(arm64_image(), mtime=0)[:40], "gzip"), "truncated gzip data"),
        (zboot(b"x" * 100, "gzip")[:0x210], "truncated EFI zboot image"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, message: str) -> None:
    space, room = board()
    with pytest.raises(UserError, match=f"^-kernel .*: .*({message})"):
        load(space, room, saved(tmp_path, "k", data), Tree())


def test_what_does_not_fit(tmp_path: Path) -> None:
    space, room = board(8)
    with pytest.raises(UserError, match=r"^-initrd .*: 5\.0 MiB do not fit into the 4\.0 MiB"):
        load(space, room, saved(tmp_path, "k", arm64_image()), Tree(), initrd=saved(tmp_path, "i", bytes(5 << 20)))
    with pytest.raises(UserError, match="a device tree of .* is too large"):
        load(space, room, saved(tmp_path, "k", arm64_image()), Tree(), append="x" * (2 << 20))


def test_firmware_finds_the_tree_where_ram_begins() -> None:
    space, room = board()
    assert firmware(space, room, Tree(), 0, 1) == Arm64Entry("firmware", 0, 1, {"x0": BASE}, BASE + MOST_TREE)
    assert tree_at(space, BASE).node("/memory@40000000").properties["device_type"] == b"memory\0"


def test_a_tree_of_the_users(tmp_path: Path) -> None:
    tree = Tree()
    tree.root.set("#address-cells", 2)
    assert read_tree(saved(tmp_path, "t", tree.pack())).root.properties["#address-cells"] == cells(2)
    with pytest.raises(UserError, match=r"^-dtb .*: not a device tree: it does not begin with 0xd00dfeed"):
        read_tree(saved(tmp_path, "t", bytes(100)))
