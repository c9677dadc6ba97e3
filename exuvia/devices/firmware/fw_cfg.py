"""fw_cfg: named blobs from the machine for firmware and kernels (QEMU, docs/specs/fw_cfg.rst), behind ports or in memory, with DMA."""

from __future__ import annotations

import struct
from typing import Any

from exuvia.devices.device import Device, State
from exuvia.memory.dma import BadAddress, Dma
from exuvia.support import log

SIGNATURE, ID, RAM_SIZE, CPUS, MAX_CPUS, FILE_DIR = 0x00, 0x01, 0x03, 0x05, 0x0F, 0x19
KERNEL_SIZE, INITRD_SIZE, KERNEL_DATA, INITRD_DATA, COMMAND_LINE_SIZE, COMMAND_LINE = 0x08, 0x0B, 0x11, 0x12, 0x14, 0x15
FIRST_FILE, MAX_FILES, NAME_SIZE = 0x20, 0x1000, 56
HAS_TRADITIONAL, HAS_DMA = 1 << 0, 1 << 1
DMA_SIGNATURE = b"QEMU CFG"
DESCRIPTOR = struct.Struct(">IIQ")  # control, length, address
DMA_ERROR, DMA_READ, DMA_SKIP, DMA_SELECT, DMA_WRITE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
CHUNK = 1 << 16


class Items(Device):
    """What there is to read, and how it is read; a form below says at which addresses. Items are read-only to the guest."""

    selector = State(0)
    position = State(0)
    dma_address = State(0)

    dma: Dma | None = None

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        self._items: dict[int, bytes] = {SIGNATURE: b"QEMU", ID: struct.pack("<I", HAS_TRADITIONAL | HAS_DMA)}
        self._files: list[tuple[str, int, int]] = []
        self._list_files()

    def add_item(self, key: int, content: bytes) -> None:
        """Set what a numbered item holds. ValueError for a key that is a file's or has the write bit."""
        if not 0 <= key < FIRST_FILE and not 0x8000 <= key < 0xC000:
            raise ValueError(f"fw_cfg key {key:#x}")
        self._items[key] = content

    def add_file(self, path: str, content: bytes) -> None:
        """Offer `content` under `path`, at most 55 characters. ValueError when there is no room or the path is taken or too long."""
        encoded = path.encode("ascii")
        if len(encoded) >= NAME_SIZE or len(self._files) == MAX_FILES or any(path == taken for taken, _, _ in self._files):
            raise ValueError(f"fw_cfg file {path}")
        key = FIRST_FILE + len(self._files)
        self._items[key] = content
        self._files.append((path, key, len(content)))
        self._list_files()

    def _list_files(self) -> None:
        entries = (struct.pack(f">IHH{NAME_SIZE}s", size, key, 0, path.encode()) for path, key, size in sorted(self._files))
        self._items[FILE_DIR] = struct.pack(">I", len(self._files)) + b"".join(entries)

    def _select(self, key: int) -> None:
        self.selector, self.position = key & 0xBFFF, 0  # bit 14 asks for the write channel, which is no more

    def _take(self, count: int) -> bytes:
        """The next `count` bytes of the selected item; zeros after its end."""
        item = self._items.get(self.selector, b"")
        part = item[self.position : self.position + count]
        self.position = min(self.position + count, len(item))
        return part.ljust(count, b"\0")

    def _set_dma(self, skip: int, size: int, value: int) -> None:
        """A write to the DMA address, which is big-endian; its low half starts a transfer."""
        swapped = int.from_bytes(value.to_bytes(size, "little"), "big")
        match skip, size:
            case 0, 8:
                self._transfer(swapped)
            case 0, 4:
                self.dma_address = swapped << 32
            case 4, 4:
                self._transfer(self.dma_address | swapped)

    @staticmethod
    def _signature(skip: int, size: int) -> int:
        """What the DMA address reads as."""
        return int.from_bytes(DMA_SIGNATURE[skip : skip + size], "little")

    def _transfer(self, at: int) -> None:
        self.dma_address = 0
        if self.dma is None:
            return
        try:
            descriptor = self.dma.place(at, DESCRIPTOR.size, True)
        except BadAddress as error:
            log.guest_errors(f"{self.name}: {error}")
            return
        control, length, address = DESCRIPTOR.unpack_from(self.dma.ram, descriptor)
        failed = self._fails(self.dma, control, length, address)
        self.dma.load(descriptor, struct.pack(">I", DMA_ERROR if failed else 0))

    def _fails(self, dma: Dma, control: int, length: int, address: int) -> bool:
        """Carry a transfer out; whether that failed."""
        if control & DMA_SELECT:
            self._select(control >> 16)
        if control & DMA_READ:
            try:
                into = dma.find(address, length, True)
            except BadAddress as error:
                log.guest_errors(f"{self.name}: {error}")
                return True
            for view in dma.views(into):
                for start in range(0, len(view), CHUNK):
                    part = view[start : start + CHUNK]
                    part[:] = self._take(len(part))
            dma.written(into)
        elif control & DMA_SKIP:
            item = self._items.get(self.selector, b"")
            self.position = min(self.position + length, len(item))
        elif control & DMA_WRITE:
            log.guest_errors(f"{self.name}: write of {length} to item {self.selector:#x}, which is read-only")
            return True
        return False


class FwCfg(Items):
    """Ports: selector at 0 (16 bits), data at 1 (8 bits), DMA address at 4."""

    name = "fw_cfg"
    window = 12

    def read(self, offset: int, size: int) -> int:
        """Data bytes (a wider access takes one, as on the ISA bus) and the DMA signature."""
        if offset == 1:
            return self._take(1)[0]
        if offset >= 4 and offset + size <= 12:
            return self._signature(offset - 4, size)
        return 0 if offset == 0 and size == 2 else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """The selector and the DMA address. Writes to the data port are ignored."""
        if offset == 0 and size == 2:
            self._select(value)
        elif offset >= 4:
            self._set_dma(offset - 4, size, value)


class FwCfgMmio(Items):
    """In memory: data at 0 (64 bits), selector at 8 (16 bits, big-endian), DMA address at 16."""

    name = "fw_cfg_mem"
    window = 24

    def read(self, offset: int, size: int) -> int:
        """Data keeps the order of its bytes, whatever the width."""
        if offset + size <= 8:
            return int.from_bytes(self._take(size), "little")
        return self._signature(offset - 16, size) if offset >= 16 and offset + size <= 24 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """The selector and the DMA address. Writes to the data are ignored."""
        if offset == 8 and size == 2:
            self._select(value >> 8 | (value & 0xFF) << 8)
        elif offset >= 16:
            self._set_dma(offset - 16, size, value)
