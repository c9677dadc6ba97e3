"""Devices on buses of another byte order or width than theirs."""

from __future__ import annotations

import random

from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.memory.space import AddressSpace
from exuvia.memory.wiring import Strided, Swapped, Window


class Bytes:
    """Sixteen bytes of registers, little-endian."""

    def __init__(self) -> None:
        self.content = bytearray(range(16))

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.content[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.content[offset : offset + size] = value.to_bytes(size, "little")


def turned(content: bytes | bytearray) -> bytes:
    return b"".join(content[at : at + 4][::-1] for at in range(0, 16, 4))


def test_swapped_is_each_word_the_other_way_round() -> None:
    device = Bytes()
    bus = Swapped(device)
    assert bus.read(4, 4) == 0x04050607
    for size in (1, 2, 4, 8):
        for offset in range(17 - size):
            assert bus.read(offset, size).to_bytes(size, "little") == turned(device.content)[offset : offset + size]


def test_swapped_writes_reach_the_same_bytes() -> None:
    chance = random.Random(1)
    device = Bytes()
    bus, expected = Swapped(device), bytearray(turned(device.content))
    for _ in range(300):
        size = chance.choice((1, 2, 4, 8))
        offset, data = chance.randrange(17 - size), chance.randbytes(size)
        bus.write(offset, size, int.from_bytes(data, "little"))
        expected[offset : offset + size] = data
        assert turned(device.content) == expected


def test_strided_registers_are_bytes_apart() -> None:
    device = Bytes()
    bus = Strided(device, 3)
    assert [bus.read(8 * n, 4) for n in range(16)] == list(range(16))
    bus.write(24, 4, 0x12345678)
    assert device.content[2:5] == bytes([2, 0x78, 4])


def test_registers_are_known_through_a_window() -> None:
    """Those that lie in it, by where they are seen."""
    ports, memory = AddressSpace("ports"), AddressSpace("memory")
    uart = Uart16550()
    ports.map_device(0x3F8, 8, uart)
    memory.map_device(0x1800_0000, 0x1_0000, Window(ports))
    memory.map_device(0x1900_0000, 0x10, Window(ports, 0x3F8))
    memory.map_device(0x1A00_0000, 4, Window(ports, 0x3FB))
    memory.map_device(0x1B00_0000, 4, Window(ports, 0x3FE))
    found = [(address, register.name, device) for address, register, device in memory.native_registers()]
    assert found == [
        (0x1800_03F8, "data", uart),
        (0x1800_03FD, "lsr", uart),
        (0x1900_0000, "data", uart),
        (0x1900_0005, "lsr", uart),
        (0x1A00_0002, "lsr", uart),
    ]
