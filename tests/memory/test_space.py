"""Address spaces: overlap, priorities, holes, splitting, ROM, slots."""

import pytest

from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace, Slot
from exuvia.support.errors import UserError


class Echo:
    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.log: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return (self.mark << 8 | offset) & (1 << 8 * size) - 1 if size > 1 else offset & 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append((offset, size, value))


@pytest.fixture
def ram() -> Ram:
    return Ram(0x10000)


def test_ram_is_shared_with_the_view(ram: Ram) -> None:
    space = AddressSpace()
    space.map_ram(0x100000, 0x10000, ram)
    space.write(0x100010, 8, 0x1122334455667788)
    assert bytes(ram.view[0x10:0x18]) == bytes.fromhex("8877665544332211")
    assert space.read(0x100012, 2) == 0x5566
    assert space.read(0x10FFFE, 4) == 0xFFFF0000  # half outside
    assert space.read(0xFFFFE, 4) == 0x0000FFFF
    assert space.read(0x5000, 8) == (1 << 64) - 1


def test_rom_and_slots(ram: Ram) -> None:
    space = AddressSpace()
    changes: list[int] = []
    space.on_change.append(lambda: changes.append(1))
    space.map_ram(0, 0x8000, ram)
    space.map_ram(0x8000, 0x4000, ram, 0x8000)
    space.map_ram(0x4000, 0x1000, ram, 0xF000, writable=False)
    assert space.slots == [Slot(0, 0x4000, 0, True), Slot(0x4000, 0x1000, 0xF000, False), Slot(0x5000, 0x7000, 0x5000, True)]
    space.write(0x4000, 4, 5)
    space.write_bytes(0x3FFE, b"abcd")
    assert space.read_bytes(0x3FFE, 4) == b"ab\0\0"
    space.unmap(0x4000, 0x1000)
    assert space.slots == [Slot(0, 0xC000, 0, True)]
    assert len(changes) == 4
    with pytest.raises(ValueError):
        space.unmap(0x4000, 0x1000)
    with pytest.raises(ValueError):
        space.map_ram(0, 0x2000, ram, 0xF000)


def test_bars_may_be_moved_over_anything(ram: Ram) -> None:
    space, fixed, bar = AddressSpace(), Echo(1), Echo(2)
    space.map_ram(0, 0x10000, ram)
    space.map_device(0x20000, 0x1000, fixed)
    for at in (0x8000, 0x1F800, 0x20000, 0x20800, 0x30000):
        space.map_device(at, 0x1000, bar, priority=-1)
        assert space.read(0x20004, 2) == 0x104
        assert space.read(0x9000, 1) == 0
        assert space.read(at + 0xF00, 2) == {0x8000: 0, 0x1F800: 0x700 | 0x100, 0x20000: 0x100 | 0xF00}.get(at, 0x200 | 0xF00)
        space.unmap(at, 0x1000, bar)
    # Two of the same size at the same place: each goes as itself.
    other = Echo(3)
    space.map_device(0x40000, 0x1000, bar)
    space.map_device(0x40000, 0x1000, other)
    assert space.read(0x40000, 2) == 0x300
    space.unmap(0x40000, 0x1000, bar)
    assert space.read(0x40000, 2) == 0x300
    space.unmap(0x40000, 0x1000, other)
    assert space.read(0x40000, 2) == 0xFFFF


def test_port_accesses_across_devices() -> None:
    ports, one, two = AddressSpace("ports"), Echo(1), Echo(2)
    ports.map_device(0x60, 1, one)
    ports.map_device(0x61, 2, two, offset=4)
    assert ports.read(0x60, 4) == 0xFF050400
    ports.write(0x60, 4, 0x44332211)
    assert one.log == [(0, 1, 0x11)]
    assert two.log == [(4, 1, 0x22), (5, 1, 0x33)]
    ports.write(0x61, 2, 0xBEEF)
    assert two.log[-1] == (4, 2, 0xBEEF)
    assert ports.read(0x5F, 2) == 0x00FF
    assert ports.read(0xFFFF, 4) == 0xFFFFFFFF


def test_a_guest_that_touches_every_address_does_not_fill_memory() -> None:
    space = AddressSpace()
    for address in range(0, 0x80000, 4):
        space.read(address, 4)
    assert len(space._memo) <= 0x10000


def test_bytes_over_devices_and_holes(ram: Ram) -> None:
    space, device = AddressSpace(), Echo(1)
    space.map_ram(0, 0x1000, ram)
    space.map_device(0x1004, 0x10, device)
    space.write_bytes(0xFFC, bytes(range(1, 21)))
    assert device.log == [(0, 4, 0x0C0B0A09), (4, 8, 0x14131211100F0E0D)]
    assert space.read_bytes(0xFFC, 9) == b"\x01\x02\x03\x04" + b"\xff" * 4 + b"\0"


def test_writes_are_told_to_whoever_keeps_decoded_code(ram: Ram) -> None:
    space = AddressSpace()
    told: list[tuple[int, int]] = []
    ram.on_write.append(lambda offset, length: told.append((offset, length)))
    space.map_ram(0x1000, 0x1000, ram, 0x4000)
    space.write(0x1010, 4, 1)
    space.write_bytes(0x1020, b"hello")
    space.read(0x1010, 4)
    assert told == [(0x4010, 4), (0x4020, 5)]


@pytest.mark.parametrize("size", [0, -5, 1 << 62, 1 << 80])
def test_absurd_sizes(size: int) -> None:
    with pytest.raises(UserError):
        Ram(size)


def test_ram_closes() -> None:
    ram = Ram(5000)
    assert ram.size == 8192
    ram.load(8190, b"ab")
    with pytest.raises(ValueError):
        ram.load(8191, b"ab")
    ram.close()
