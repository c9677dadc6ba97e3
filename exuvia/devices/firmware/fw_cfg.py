"""fw_cfg: named blobs from the machine for firmware and kernels (QEMU, docs/specs/fw_cfg.rst), port interface with DMA."""

from __future__ import annotations

import struct
from typing import Any

from exuvia.devices.device import Device, State
from exuvia.memory.space import AddressSpace
from exuvia.support import log

SIGNATURE, ID, UUID, RAM_SIZE, NO_GRAPHIC, CPUS, MAX_CPUS, FILE_DIR = 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0F, 0x19
FIRST_FILE, MAX_FILES, NAME_SIZE = 0x20, 0x1000, 56
HAS_TRADITIONAL, HAS_DMA = 1 << 0, 1 << 1
DMA_SIGNATURE = b"QEMU CFG"
DMA_ERROR, DMA_READ, DMA_SKIP, DMA_SELECT, DMA_WRITE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
CHUNK = 1 << 16


class FwCfg(Device):
    """Ports: selector at 0 (16 bits), data at 1 (8 bits), DMA address at 4 (64 bits, big-endian). Items are read-only to the guest."""

    name = "fw_cfg"
    window = 12

    selector = State(0)
    position = State(0)
    dma_address = State(0)

    memory: AddressSpace | None = None

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

    def read(self, offset: int, size: int) -> int:
        """Data bytes (a wider access takes one, as on the ISA bus) and the DMA signature."""
        if offset == 1:
            return self._take(1)[0]
        if offset >= 4 and offset + size <= 12:
            return int.from_bytes(DMA_SIGNATURE[offset - 4 : offset - 4 + size], "little")
        return 0 if offset == 0 and size == 2 else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """The selector, and the DMA address, whose low half starts a transfer. Writes to the data port are ignored."""
        if offset == 0 and size == 2:
            self._select(value)
        elif offset == 4 and size in (4, 8):
            swapped = int.from_bytes(value.to_bytes(size, "little"), "big")
            if size == 8:
                self._transfer(swapped)
            else:
                self.dma_address = swapped << 32
        elif offset == 8 and size == 4:
            self._transfer(self.dma_address | int.from_bytes(value.to_bytes(4, "little"), "big"))

    def _transfer(self, at: int) -> None:
        self.dma_address = 0
        if self.memory is None:
            return
        control, length, address = struct.unpack(">IIQ", self.memory.read_bytes(at, 16))
        if control & DMA_SELECT:
            self._select(control >> 16)
        failed = bool(control & DMA_WRITE)
        if control & DMA_READ:
            while length:
                count = min(length, CHUNK)
                self.memory.write_bytes(address, self._take(count))
                address, length = address + count, length - count
        elif control & DMA_SKIP:
            item = self._items.get(self.selector, b"")
            self.position = min(self.position + length, len(item))
        elif failed:
            log.guest_errors(f"{self.name}: write of {length} to item {self.selector:#x}, which is read-only")
        self.memory.write_bytes(at, struct.pack(">I", DMA_ERROR if failed else 0))
