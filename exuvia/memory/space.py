"""Address spaces: which RAM or device answers at an address. A machine has one for memory and one for ports.

Mappings lie on top of each other like sheets of paper: where several cover an address, the one with the higher priority answers, among
equals the later one. Taking one away uncovers what lies below, so a guest may move its BARs over anything and back.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from exuvia.memory.ram import Ram
from exuvia.support import log

_MEMO_LIMIT = 1 << 16  # a guest chooses the addresses, so what is remembered is bounded


class Target(Protocol):
    """What `map_device` takes: `offset` is in bytes from the start of the device's window, `size` is 1, 2, 4 or 8."""

    def read(self, offset: int, size: int) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...


class Slot(NamedTuple):
    """A run of guest addresses that is RAM, as in KVM's memory slots: `offset` is in bytes into the Ram."""

    start: int
    size: int
    offset: int
    writable: bool


class _Mapping(NamedTuple):
    start: int
    end: int
    ram: Ram | None
    device: Target | None
    offset: int
    writable: bool
    priority: int


_Access = tuple[Callable[[int, int], int], Callable[[int, int, int], None], int]  # read, write, the address of offset 0


class _Run(NamedTuple):
    start: int
    end: int
    mapping: _Mapping
    access: _Access


class AddressSpace:
    """A space of guest addresses; `name` is the word for the log."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.slots: list[Slot] = []
        self.on_change: list[Callable[[], None]] = []
        self._mappings: list[_Mapping] = []
        self._runs: list[_Run] = []
        self._starts: list[int] = []
        self._memo: dict[int, _Access] = {}

    def map_ram(
        self, start: int, size: int, ram: Ram, offset: int = 0, *, writable: bool = True, writes: Target | None = None, priority: int = 0
    ) -> None:
        """Show `size` bytes of `ram` from `offset` at `start`. Where it is not `writable`, writes are ignored (a ROM) or, seen as offsets
        from `start`, are those of the device `writes` (flash memory).
        """
        if offset < 0 or offset + size > ram.size:
            raise ValueError(f"{size:#x} bytes at offset {offset:#x} are outside a RAM of {ram.size:#x} bytes")
        self._add(_Mapping(start, start + size, ram, None if writable else writes, offset, writable, priority))

    def map_device(self, start: int, size: int, device: Target, *, offset: int = 0, priority: int = 0) -> None:
        """Let `device` answer `size` bytes at `start`, seeing offsets from `offset`. BARs use priority -1: RAM and fixed windows win."""
        self._add(_Mapping(start, start + size, None, device, offset, True, priority))

    def unmap(self, start: int, size: int, target: Ram | Target | None = None) -> None:
        """Take away the latest mapping of exactly this start and size (of `target`, if given); raises ValueError when there is none."""
        for index in range(len(self._mappings) - 1, -1, -1):
            mapping = self._mappings[index]
            if mapping.start == start and mapping.end == start + size and (target is None or target in (mapping.ram, mapping.device)):
                del self._mappings[index]
                self._flatten()
                return
        raise ValueError(f"nothing of {size:#x} bytes is mapped at {start:#x} in {self.name}")

    def _add(self, mapping: _Mapping) -> None:
        if mapping.start < 0 or mapping.end <= mapping.start:
            raise ValueError(f"a mapping of {mapping.end - mapping.start} bytes at {mapping.start:#x}")
        self._mappings.append(mapping)
        self._flatten()

    def _flatten(self) -> None:
        edges = sorted({edge for mapping in self._mappings for edge in (mapping.start, mapping.end)})
        layers = sorted(self._mappings, key=lambda mapping: mapping.priority)  # stable: among equals the later stays above
        layers.reverse()
        runs: list[_Run] = []
        for start, end in pairwise(edges):
            top = next((mapping for mapping in layers if mapping.start <= start and mapping.end >= end), None)
            if top is None:
                continue
            if runs and runs[-1].end == start and runs[-1].mapping is top:
                runs[-1] = runs[-1]._replace(end=end)
            else:
                runs.append(_Run(start, end, top, _access(top)))
        slots: list[Slot] = []
        for start, end, mapping, _ in runs:
            if mapping.ram is None:
                continue
            slot = Slot(start, end - start, mapping.offset + start - mapping.start, mapping.writable)
            last = slots[-1] if slots else None
            if last and last.start + last.size == start and last.offset + last.size == slot.offset and last.writable == slot.writable:
                slots[-1] = last._replace(size=last.size + slot.size)
            else:
                slots.append(slot)
        self._runs, self._starts, self.slots = runs, [run.start for run in runs], slots
        self._memo = {}
        for hook in self.on_change:
            hook()

    def read(self, address: int, size: int) -> int:
        """The `size` (1, 2, 4, 8) bytes at `address`, little-endian; unmapped reads as all ones."""
        found = self._memo.get(address << 4 | size) or self._find(address, size)
        return found[0](address - found[2], size)

    def write(self, address: int, size: int, value: int) -> None:
        """Store the `size` (1, 2, 4, 8) bytes of `value` at `address`; unmapped and read-only ignore it."""
        found = self._memo.get(address << 4 | size) or self._find(address, size)
        found[1](address - found[2], size, value)

    def device_at(self, address: int) -> tuple[Target, int] | None:
        """What answers at `address`, and the offset that it sees; None for RAM and where nothing is."""
        run = self._run_at(address)
        if run is None or run.mapping.device is None or run.mapping.ram is not None:
            return None
        return run.mapping.device, address - run.mapping.start + run.mapping.offset

    def native_registers(self) -> Iterator[tuple[int, Any, Any]]:
        """Registers of devices that processors read or write without asking: address, register, device."""
        for start, end, mapping, _ in self._runs:
            if mapping.ram is None and (told := getattr(mapping.device, "native_registers", None)) is not None:
                first = mapping.start - mapping.offset
                for at, register, device in told():
                    if start <= first + at and first + at + register.width // 8 <= end:
                        yield first + at, register, device

    def _run_at(self, address: int) -> _Run | None:
        index = bisect_right(self._starts, address) - 1
        return self._runs[index] if index >= 0 and address < self._runs[index].end else None

    def _find(self, address: int, size: int) -> _Access:
        run = self._run_at(address)
        access: _Access
        if run is not None and run.end >= address + size:
            access = run.access
            if run.mapping.ram is not None:
                return access  # not remembered: the addresses are too many
        elif size > 1 and (run is not None or self._next_start(address) < address + size):
            access = self._read_parts, self._write_parts, 0
        else:
            access = self._read_nothing, self._write_nothing, 0
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        self._memo[address << 4 | size] = access
        return access

    def _next_start(self, address: int) -> int:
        index = bisect_right(self._starts, address)
        return self._starts[index] if index < len(self._starts) else 1 << 65

    def _read_parts(self, address: int, size: int) -> int:
        return sum(self.read(address + byte, 1) << 8 * byte for byte in range(size))

    def _write_parts(self, address: int, size: int, value: int) -> None:
        for byte in range(size):
            self.write(address + byte, 1, value >> 8 * byte & 0xFF)

    def _read_nothing(self, address: int, size: int) -> int:
        if log.unimp.on:
            log.unimp.once((self.name, address, "read"), f"{self.name}: read of {size} from {address:#x}, where nothing is")
        return (1 << 8 * size) - 1

    def _write_nothing(self, address: int, size: int, value: int) -> None:
        if log.unimp.on:
            log.unimp.once((self.name, address, "write"), f"{self.name}: write of {size} to {address:#x} = {value:#x}, where nothing is")

    def read_bytes(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`; holes read as 0xFF, devices are read in their natural sizes."""
        parts = []
        while length > 0:
            run = self._run_at(address)
            if run is None:
                count = min(length, self._next_start(address) - address)
                parts.append(b"\xff" * count)
            elif run.mapping.ram is not None:
                count = min(length, run.end - address)
                at = address - run.mapping.start + run.mapping.offset
                parts.append(bytes(run.mapping.ram.view[at : at + count]))
            else:
                count = _natural(address, min(length, run.end - address))
                parts.append(self.read(address, count).to_bytes(count, "little"))
            address, length = address + count, length - count
        return b"".join(parts)

    def write_bytes(self, address: int, data: bytes) -> None:
        """Store `data` at `address`; holes and read-only RAM ignore their part, devices are written in their natural sizes."""
        position, length = 0, len(data)
        while position < length:
            run = self._run_at(address)
            rest = length - position
            if run is None:
                count = min(rest, self._next_start(address) - address)
            elif run.mapping.ram is not None:
                count = min(rest, run.end - address)
                if run.mapping.writable:
                    run.mapping.ram.load(address - run.mapping.start + run.mapping.offset, data[position : position + count])
            else:
                count = _natural(address, min(rest, run.end - address))
                self.write(address, count, int.from_bytes(data[position : position + count], "little"))
            address, position = address + count, position + count


def _natural(address: int, limit: int) -> int:
    return next(size for size in (8, 4, 2, 1) if size <= limit and address % size == 0)


def _access(mapping: _Mapping) -> _Access:
    origin = mapping.start - mapping.offset
    if mapping.ram is not None:
        if mapping.device is not None:
            return _ram_read(mapping.ram), _passed(mapping.device, mapping.offset), origin
        return _ram_read(mapping.ram), _ram_write(mapping.ram) if mapping.writable else _ignore, origin
    assert mapping.device is not None
    return mapping.device.read, mapping.device.write, origin


def _ram_read(ram: Ram) -> Callable[[int, int], int]:
    view = ram.view
    return lambda offset, size: int.from_bytes(view[offset : offset + size], "little")


def _ram_write(ram: Ram) -> Callable[[int, int, int], None]:
    return lambda offset, size, value: ram.load(offset, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))


def _passed(device: Target, first: int) -> Callable[[int, int, int], None]:
    return lambda offset, size, value: device.write(offset - first, size, value)


def _ignore(offset: int, size: int, value: int) -> None:
    """A ROM."""
