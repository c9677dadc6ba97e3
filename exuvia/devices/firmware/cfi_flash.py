"""Parallel NOR flash with Intel's command set: two chips of 16 bits side by side on a bus of 32 (JEDEC JESD68.01, JEP137 set 0001)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from exuvia.devices.device import Backend, Device, Property, State
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support import log
from exuvia.support.errors import UserError

BUS = 4  # bytes; every command and status is said to both chips, or by both
BUFFER = 1024  # bytes of a chip's write buffer
READ_ARRAY, READ_ID, READ_QUERY, READ_STATUS, CLEAR_STATUS = 0xFF, 0x90, 0x98, 0x70, 0x50
ERASE, PROGRAM, PROGRAM_TOO, BUFFERED, LOCK, CONFIRM = 0x20, 0x40, 0x10, 0xE8, 0x60, 0xD0
READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10
OTHER_RESET = 0xF0  # of command set 0002, with which drivers probe
INTEL, DEVICE = 0x89, 0x18


class Pending(Protocol):
    """What a drive has under way."""

    def exception(self, timeout: float | None = None, /) -> BaseException | None: ...


class Store(Protocol):
    """The drive that a flash chip's contents come from and go to."""

    size: int
    read_only: bool

    def read(self, offset: int, into: Sequence[memoryview], /) -> Pending: ...
    def write(self, offset: int, data: Sequence[memoryview], through: bool, /) -> Pending: ...


class CfiFlash(Device):
    """`size` bytes that `place` shows in a space: as memory while the array is read, as a device while the chips say something else.

    What is written lasts where there is a drive, and as long as the machine where there is none.
    """

    name = "cfi-flash"
    window = 64 << 20
    accesses = (1, 2, 4)
    drive = Backend("the ID of the drive that holds the contents", "drives")
    size = Property(int, window, "bytes of both chips")
    sector = Property(int, 256 << 10, "bytes that are erased together")
    big_endian = Property(bool, False, "the byte order of the bus")
    turned = Property(bool, False, "the image has its words in the other byte order")

    mode = State("array")  # what reads see: array, status, id, query
    command = State("")  # what the next write belongs to: erase, program, count, fill, confirm, lock
    status = State(READY)
    left = State(0)  # words of the write buffer that are to come
    first = State(0)  # where the write buffer's content belongs
    buffer = State(bytearray())

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self._space: AddressSpace | None = None
        self._ram: Ram | None = None
        self._start = self._offset = 0
        self._shown = False
        super().__init__(clock, **properties)

    def place(self, space: AddressSpace, start: int, ram: Ram, offset: int) -> None:
        """Stand at `start` of `space`, with the contents in `ram` from `offset` on: the drive's, 0xFF after its end. UserError."""
        self._space, self._start, self._ram, self._offset = space, start, ram, offset
        held = self._held()
        held[:] = b"\xff" * self.size
        store: Store | None = self.drive
        if store is not None:
            if store.size > self.size:
                raise UserError(f"the image of a flash memory has {self.size >> 20} MiB at most, not {store.size / (1 << 20):g} MiB")
            error = store.read(0, [held[: store.size]]).exception()
            if error is not None:
                raise UserError(f"the flash memory's image cannot be read: {error}")
            held[:] = self._as_in_image(held)
        space.map_ram(start, self.size, ram, offset, writable=False, writes=self)
        self._show()

    def load_image(self, image: bytes) -> None:
        """Contents that are nobody's drive (-bios)."""
        assert self._ram is not None
        self._ram.load(self._offset, image)

    def content(self) -> bytes:
        """What the array holds."""
        return bytes(self._held())

    def _held(self, start: int = 0, end: int | None = None) -> memoryview:
        assert self._ram is not None
        return self._ram.view[self._offset + start : self._offset + (self.size if end is None else end)]

    def _as_in_image(self, words: memoryview | bytearray) -> bytes:
        """Whole words as the image has them, or those of the image as they are here."""
        if not self.turned:
            return bytes(words)
        count = len(words) // BUS
        return struct.pack(f">{count}I", *struct.unpack(f"<{count}I", words))

    def _show(self) -> None:
        """Cover the memory while the chips say something else."""
        wanted = self.mode != "array"
        if self._space is not None and wanted != self._shown:
            if wanted:
                self._space.map_device(self._start, self.size, self, priority=1)
            else:
                self._space.unmap(self._start, self.size, self)
        self._shown = wanted

    def reset(self) -> None:
        """RST#: the array is read."""
        super().reset()
        self._show()

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave; the contents are the memory's."""
        super().load(saved)
        self._show()

    # Reads

    def read(self, offset: int, size: int) -> int:
        """What the mode says; of both chips."""
        if self.mode == "array":
            if self._ram is None or offset + size > self.size:
                return (1 << 8 * size) - 1
            return int.from_bytes(self._held(offset, offset + size), "little")
        chip = self._said(offset // BUS).to_bytes(2, self._order)
        return int.from_bytes((chip * 8)[offset % BUS :][:size], "little")

    @property
    def _order(self) -> Literal["big", "little"]:
        return "big" if self.big_endian else "little"

    def _said(self, index: int) -> int:
        match self.mode:
            case "status":
                return self.status
            case "id":
                return {0: INTEL, 1: DEVICE}.get(index & 0xFF, 0)  # the third is the block's lock, which is open
            case _:
                table = self._query()
                return table[index - 0x10] if 0x10 <= index < 0x10 + len(table) else 0

    def _query(self) -> bytes:
        """The CFI query structure of a chip, from 0x10 on (JESD68.01 tables 2 to 4)."""
        size, sector = self.size // 2, self.sector // 2
        identification = b"QRY" + bytes((1, 0, 0x31, 0, 0, 0, 0, 0))
        timing = bytes((0x45, 0x55, 0, 0, 7, 7, 10, 0, 4, 4, 4, 0))
        blocks = (size // sector - 1).to_bytes(2, "little") + (sector // 256).to_bytes(2, "little")
        geometry = bytes((size.bit_length() - 1, 2, 0, BUFFER.bit_length() - 1, 0, 1)) + blocks
        return identification + timing + geometry + b"PRI10" + bytes(16)

    # Writes

    def write(self, offset: int, size: int, value: int) -> None:
        """A command, or data for the one before."""
        if size > BUS:
            self.write(offset, BUS, value & 0xFFFFFFFF)
            self.write(offset + BUS, size - BUS, value >> 32)
            return
        if offset + size > self.size:
            return
        data = value.to_bytes(size, "little")
        said = int.from_bytes(data, self._order)
        word = said & 0xFF
        match self.command:
            case "erase":
                self._finish(self._erase(offset) if word == CONFIRM else ERASE_ERROR | PROGRAM_ERROR)
            case "program":
                self._finish(self._program(offset, data))
            case "count":
                self.left, self.command = (said & 0xFFFF) + 1, "fill"
                if self.left > BUFFER // 2:
                    self._finish(PROGRAM_ERROR)
            case "fill":
                self._fill(offset, data)
            case "confirm":
                self._finish(self._program(self.first, self.buffer) if word == CONFIRM else ERASE_ERROR | PROGRAM_ERROR)
            case "lock":
                self._finish(0)
            case _:
                self._begin(word)
        self._show()

    def _begin(self, word: int) -> None:
        modes = {READ_ARRAY: "array", 0x00: "array", OTHER_RESET: "array", READ_ID: "id", READ_QUERY: "query", READ_STATUS: "status"}
        commands = {ERASE: "erase", PROGRAM: "program", PROGRAM_TOO: "program", BUFFERED: "count", LOCK: "lock"}
        if word in commands:
            self.command, self.mode = commands[word], "status"
        elif word == CLEAR_STATUS:
            self.status = READY
        elif word in modes:
            self.mode = modes[word]
        elif word != CONFIRM:  # a resume, and nothing is suspended
            log.guest_errors(f"{self.name}: unknown command {word:#x}")
            self.mode = "array"

    def _finish(self, errors: int) -> None:
        self.status |= errors
        self.command, self.left = "", 0
        self.buffer = bytearray()

    def _erase(self, offset: int) -> int:
        first = offset // self.sector * self.sector
        return ERASE_ERROR if self._put(first, b"\xff" * self.sector) else 0

    def _fill(self, offset: int, data: bytes) -> None:
        """Into the write buffer, which begins where its first word belongs."""
        if not self.buffer:
            self.first = offset
        at = offset - self.first
        end = at + len(data)
        if at < 0 or end > 2 * BUFFER:
            self._finish(PROGRAM_ERROR)
            return
        self.buffer.extend(b"\xff" * (end - len(self.buffer)))
        self.buffer[at:end] = data
        self.left -= 1
        if not self.left:
            self.command = "confirm"

    def _program(self, offset: int, data: bytes | bytearray) -> int:
        """Programming only clears bits."""
        if self._ram is None:
            return PROGRAM_ERROR
        held = self._held(offset, offset + len(data))
        return PROGRAM_ERROR if self._put(offset, bytes(old & new for old, new in zip(held, data, strict=True))) else 0

    def _put(self, offset: int, data: bytes) -> bool:
        """Change the contents, first where they last; whether that failed."""
        if self._ram is None:
            return True
        store: Store | None = self.drive
        if store is not None:
            start, end = offset & -BUS, -(-(offset + len(data)) // BUS) * BUS
            words = bytearray(self._held(start, end))
            words[offset - start : offset - start + len(data)] = data
            image = memoryview(self._as_in_image(words))
            if store.read_only or end > store.size or store.write(start, [image], True).exception() is not None:
                return True
        self._ram.load(self._offset + offset, data)
        return False
