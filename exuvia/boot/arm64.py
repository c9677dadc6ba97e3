"""Kernels for AArch64: Linux Images (Documentation/arch/arm64/booting.rst), packed as gzip or EFI zboot or not, and ELF files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from exuvia.boot import elf, foreign
from exuvia.boot.devicetree import DeviceTreeError, Tree, wide
from exuvia.boot.image import gunzip, read_image
from exuvia.boot.layout import MIB, PAGE, Memory
from exuvia.support import zstd
from exuvia.support.errors import UserError

WRONG_ORDER = "a big-endian kernel; this machine's processors begin as little-endian ones"
BLOCK = 2 * MIB
MOST_TREE = 2 * MIB
BIG_ENDIAN = 1  # of an Image's flags
IMAGE = struct.Struct("<8xQQQ24xI")  # text_offset, image_size, flags, magic
MAGIC = int.from_bytes(b"ARM\x64", "little")


@dataclass(frozen=True)
class Arm64Entry:
    """What a processor is set to before its first instruction: the MMU off, interrupts masked, registers not named zero.

    kind   what was loaded, for the log: "linux", "elf", "firmware", "processor" (one that PSCI started)
    level  the exception level, 1 to 3; its stack pointer is SP_ELx
    free   the first address of RAM that nothing was loaded to, nor to any behind it
    """

    kind: str
    pc: int
    level: int
    registers: Mapping[str, int] = field(default_factory=dict)
    free: int = 0


@dataclass(frozen=True)
class Room:
    """The RAM that a kernel is loaded into."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.start + self.size


def unpack(path: str, data: bytes, limit: int) -> bytes:
    """A kernel as it runs: the payload of a gzip file or an EFI zboot image, `data` itself where it is neither. UserError."""
    data = gunzip("-kernel", path, data, limit)
    if data[:2] != b"MZ" or data[4:8] != b"zimg":
        return data
    if len(data) < 64:
        raise UserError(f"-kernel {path}: truncated EFI zboot image")
    offset, size = struct.unpack_from("<II", data, 8)
    method = data[24:56].split(b"\0")[0].decode("ascii", "replace")
    payload = data[offset : offset + size]
    if len(payload) != size:
        raise UserError(f"-kernel {path}: truncated EFI zboot image")
    if method == "gzip" and payload.startswith(b"\x1f\x8b"):
        return gunzip("-kernel", path, payload, limit)
    if method.startswith("zstd"):
        try:
            return zstd.first_frame(payload, limit)
        except ValueError as error:
            raise UserError(f"-kernel {path}: {error}") from None
    raise UserError(f"-kernel {path}: an EFI zboot image packed with {method or 'nothing'}, of which only gzip and zstd are known")


def read_tree(path: str) -> Tree:
    """The device tree in the file that `-dtb` names. UserError."""
    data = read_image("-dtb", path, MOST_TREE)
    try:
        return Tree.unpack(data)
    except DeviceTreeError as error:
        raise UserError(f"-dtb {path}: not a device tree: {error}") from None


def describe(tree: Tree, room: Room, append: str, initrd: tuple[int, int] | None = None) -> None:
    """Put into `tree` what only the loader knows: where RAM is, the command line, and [start, end) of the initrd."""
    for name in [name for name, node in tree.root.children.items() if node.text("device_type") == "memory"]:
        del tree.root.children[name]
    tree.node(f"/memory@{room.start:x}").set("device_type", "memory").set("reg", wide(room.start, room.size))
    chosen = tree.node("/chosen")
    if append:
        chosen.set("bootargs", append)
    if initrd is not None:
        for name, address in zip(("linux,initrd-start", "linux,initrd-end"), initrd, strict=True):
            chosen.set(name, wide(address))


def place_tree(memory: Memory, tree: Tree, at: int) -> None:
    """Write `tree` at the guest's address `at`. UserError when it is too large."""
    packed = tree.pack()
    if len(packed) > MOST_TREE:
        raise UserError(f"a device tree of {len(packed) >> 10} KiB is too large: a kernel takes {MOST_TREE >> 10} KiB (-append, -dtb)")
    memory.write_bytes(at, packed)


def load(memory: Memory, room: Room, path: str, tree: Tree, *, initrd: str | None = None, append: str = "", level: int = 1) -> Arm64Entry:
    """Load the kernel in the file `path`, then `tree` and the initrd behind it; how it begins, at exception level `level`.

    UserError  when the file is none for this processor, is damaged, or does not fit.
    """
    data = unpack(path, read_image("-kernel", path, room.size), room.size)
    if len(data) >= 64 and IMAGE.unpack_from(data)[3] == MAGIC:
        kind, (pc, end) = "linux", _load_image(memory, room, path, data)
    elif elf.is_elf(data):
        kind, (pc, end) = "elf", _load_elf(memory, room, path, data)
    else:
        raise UserError(f"-kernel {path}: " + foreign.file(data, "AArch64", "not a Linux Image for AArch64 nor an ELF image"))
    at = -(-end // BLOCK) * BLOCK
    start = at + MOST_TREE
    if start > room.end:
        raise _too_large(path, start - room.start, room)
    ramdisk = None
    if initrd is not None:
        content = read_image("-initrd", initrd, room.end - start)
        memory.write_bytes(start, content)
        ramdisk = start, start + len(content)
    describe(tree, room, append, ramdisk)
    place_tree(memory, tree, at)
    return Arm64Entry(kind, pc, level, {"x0": at}, start if ramdisk is None else ramdisk[1])


def firmware(memory: Memory, room: Room, tree: Tree, pc: int, level: int) -> Arm64Entry:
    """How firmware begins at `pc`: it finds the device tree where RAM begins."""
    describe(tree, room, "")
    place_tree(memory, tree, room.start)
    return Arm64Entry("firmware", pc, level, {"x0": room.start}, min(room.start + MOST_TREE, room.end))


def _load_image(memory: Memory, room: Room, path: str, data: bytes) -> tuple[int, int]:
    offset, size, flags, _ = IMAGE.unpack_from(data)
    if flags & BIG_ENDIAN:
        raise UserError(f"-kernel {path}: {WRONG_ORDER}")
    if not size:  # before Linux 3.17
        offset, size = 0x80000, len(data)
    size = max(size, len(data))
    if offset >= BLOCK or offset % PAGE:
        raise UserError(f"-kernel {path}: a damaged Linux Image (it asks to stand {offset:#x} bytes after 2 MiB)")
    at = room.start + offset
    if at + size > room.end:
        raise _too_large(path, offset + size, room)
    memory.write_bytes(at, data)
    _clear(memory, at + len(data), at + size)
    return at, at + size


def _clear(memory: Memory, start: int, end: int) -> None:
    """Zeros, which after a reset there may not be."""
    for at in range(start, end, MIB):
        memory.write_bytes(at, bytes(min(MIB, end - at)))


def _too_large(path: str, size: int, room: Room) -> UserError:
    return UserError(f"-kernel {path}: needs at least {-(-size // MIB)} MiB of memory, the machine has {room.size // MIB} MiB (see -m)")


def _load_elf(memory: Memory, room: Room, path: str, data: bytes) -> tuple[int, int]:
    try:
        image = elf.parse(data)
    except elf.ElfError as error:
        raise UserError(f"-kernel {path}: {error}") from None
    if image.machine != elf.EM_AARCH64 or image.bits != 64:
        raise UserError(f"-kernel {path}: {foreign.elf_image(image, 'AArch64')}")
    if image.big_endian:
        raise UserError(f"-kernel {path}: {WRONG_ORDER}")
    if image.memory_size() > room.size:
        raise _too_large(path, image.memory_size(), room)
    end = room.start
    for segment in image.loads():
        if not room.start <= segment.physical <= segment.physical + segment.memory_size <= room.end:
            where = f"memory begins at {room.start:#x} and has {room.size // MIB} MiB"
            raise UserError(f"-kernel {path}: a segment at {segment.physical:#x}, where no memory is: {where}")
        memory.write_bytes(segment.physical, image.content(segment))
        _clear(memory, segment.physical + segment.file_size, segment.physical + segment.memory_size)
        end = max(end, segment.physical + segment.memory_size)
    return image.physical_entry(), end
