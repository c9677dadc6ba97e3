"""fw_cfg through its ports and its DMA interface."""

from __future__ import annotations

import struct

import pytest

from exuvia.devices.device import Device
from exuvia.devices.firmware.fw_cfg import FwCfg, FwCfgMmio
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace


@pytest.fixture
def memory() -> AddressSpace:
    return AddressSpace()


@pytest.fixture
def ram(memory: AddressSpace) -> Dma:
    ram = Ram(0x20000)
    memory.map_ram(0, 0x10000, ram)
    memory.map_ram(0x10000, 0x10000, ram, 0x10000, writable=False)
    return Dma(memory, ram)


@pytest.fixture
def device(ram: Dma) -> FwCfg:
    device = FwCfg()
    device.dma = ram
    device.add_file("etc/b", b"second")
    device.add_file("etc/a", b"first!!")
    return device


def item(device: FwCfg, key: int, count: int) -> bytes:
    device.write(0, 2, key)
    return bytes(device.read(1, 1) for _ in range(count))


def transfer(device: FwCfg, control: int, length: int, address: int) -> int:
    assert device.dma is not None
    device.dma.load(0x100, struct.pack(">IIQ", control, length, address))
    device.write(4, 4, 0)
    device.write(8, 4, int.from_bytes((0x100).to_bytes(4, "big"), "little"))
    return int.from_bytes(device.dma.ram[0x100:0x104], "big")


def test_signature_and_features(device: FwCfg) -> None:
    assert item(device, 0, 6) == b"QEMU\0\0"
    assert item(device, 1, 4) == b"\3\0\0\0"
    assert device.read(4, 4).to_bytes(4, "little") + device.read(8, 4).to_bytes(4, "little") == b"QEMU CFG"


def test_directory_is_sorted_and_points_to_the_files(device: FwCfg) -> None:
    assert item(device, 0x19, 4) == b"\0\0\0\2"
    entries = bytes(device.read(1, 1) for _ in range(128))
    found = [struct.unpack(">IHH56s", entries[at : at + 64]) for at in (0, 64)]
    assert [name.rstrip(b"\0") for _, _, _, name in found] == [b"etc/a", b"etc/b"]
    assert [item(device, key, size) for size, key, _, _ in found] == [b"first!!", b"second"]


def test_dma(device: FwCfg, memory: AddressSpace) -> None:
    assert transfer(device, 0x20 << 16 | 8 | 2, 4, 0x1000) == 0
    assert memory.read_bytes(0x1000, 4) == b"seco"
    assert transfer(device, 4, 1, 0) == 0
    assert transfer(device, 2, 4, 0x1000) == 0
    assert memory.read_bytes(0x1000, 4) == b"d\0\0\0"
    assert transfer(device, 0x20 << 16 | 8 | 16, 4, 0x1000) == 1, "items are read-only"


def test_dma_is_seen_by_who_decoded_the_memory(device: FwCfg, ram: Dma) -> None:
    told: list[tuple[int, int]] = []
    ram._ram.on_write.append(lambda offset, length: told.append((offset, length)))
    transfer(device, 0x20 << 16 | 8 | 2, 0x3000, 0x2000)
    assert (0x2000, 0x3000) in told


@pytest.mark.parametrize("address", [0xFFFF, 0xFFF8, 0x10000, 0x20000, (1 << 64) - 8])
def test_dma_that_leaves_writable_ram_fails(device: FwCfg, ram: Dma, address: int) -> None:
    before = bytes(ram.ram[0x200:])
    assert transfer(device, 0x20 << 16 | 8 | 2, 0x100, address) == 1
    assert ram.ram[0x200:] == before


def test_a_descriptor_that_is_nowhere(device: FwCfg) -> None:
    for address in ((1 << 64) - 1, 0x10000, 0xFFF8):
        device.write(4, 8, int.from_bytes(address.to_bytes(8, "big"), "little"))
    assert device.dma_address == 0
    transfer(device, 8 | 4, 0xFFFFFFFF, 0)
    assert device.position == 4


def test_selector(device: FwCfg) -> None:
    assert item(device, 0x3FFF, 2) == b"\0\0"
    device.write(0, 1, 0)
    device.write(1, 1, 0x55)
    assert device.selector == 0x3FFF
    with pytest.raises(ValueError, match="fw_cfg file"):
        device.add_file("etc/a", b"")
    with pytest.raises(ValueError, match="fw_cfg file"):
        device.add_file("x" * 56, b"")


class NotForMasters(Device):
    """A window that only processors may reach."""

    name = "window"
    window = 1 << 32

    def read(self, offset: int, size: int) -> int:
        raise AssertionError(f"read at {offset:#x}")

    def write(self, offset: int, size: int, value: int) -> None:
        raise AssertionError(f"written at {offset:#x}")


def test_in_memory(memory: AddressSpace, ram: Dma) -> None:
    device = FwCfgMmio()
    device.dma = ram
    memory.map_device(0x20000, 24, device)
    device.add_file("etc/x", bytes(range(1, 14)))
    memory.write(0x20008, 2, 0x2000)  # big-endian
    assert memory.read_bytes(0x20000, 8) == bytes(range(1, 9))
    assert memory.read(0x20000, 2).to_bytes(2, "little") == b"\x09\x0a"
    assert memory.read(0x20000, 1) == 11
    assert memory.read(0x20000, 8).to_bytes(8, "little") == b"\x0c\x0d" + bytes(6)
    assert memory.read_bytes(0x20010, 8) == b"QEMU CFG"
    memory.write_bytes(0x100, struct.pack(">IIQ", 0x20 << 16 | 8 | 2, 13, 0x1000))
    memory.write(0x20010, 8, int.from_bytes((0x100).to_bytes(8, "big"), "little"))
    assert memory.read_bytes(0x100, 4) == bytes(4)
    assert memory.read_bytes(0x1000, 13) == bytes(range(1, 14))


def test_dma_reaches_no_device(device: FwCfg, memory: AddressSpace) -> None:
    memory.map_device(1 << 32, 1 << 32, NotForMasters())
    for length in (8, 0xFFFFFFFF):
        assert transfer(device, 8 | 2, length, 1 << 32) == 1
    device.write(4, 8, int.from_bytes((1 << 32).to_bytes(8, "big"), "little"))
