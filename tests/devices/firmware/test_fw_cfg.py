"""fw_cfg through its ports and its DMA interface."""

from __future__ import annotations

import struct

import pytest

from exuvia.devices.firmware.fw_cfg import FwCfg, FwCfgMmio
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace


@pytest.fixture
def device() -> FwCfg:
    device = FwCfg()
    device.memory = AddressSpace()
    device.memory.map_ram(0, 0x10000, Ram(0x10000))
    device.add_file("etc/b", b"second")
    device.add_file("etc/a", b"first!!")
    return device


def item(device: FwCfg, key: int, count: int) -> bytes:
    device.write(0, 2, key)
    return bytes(device.read(1, 1) for _ in range(count))


def dma(device: FwCfg, control: int, length: int, address: int) -> int:
    assert device.memory is not None
    device.memory.write_bytes(0x100, struct.pack(">IIQ", control, length, address))
    device.write(4, 4, 0)
    device.write(8, 4, int.from_bytes((0x100).to_bytes(4, "big"), "little"))
    return int.from_bytes(device.memory.read_bytes(0x100, 4), "big")


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


def test_dma(device: FwCfg) -> None:
    assert device.memory is not None
    assert dma(device, 0x20 << 16 | 8 | 2, 4, 0x1000) == 0
    assert device.memory.read_bytes(0x1000, 4) == b"seco"
    assert dma(device, 4, 1, 0) == 0
    assert dma(device, 2, 4, 0x1000) == 0
    assert device.memory.read_bytes(0x1000, 4) == b"d\0\0\0"
    assert dma(device, 0x20 << 16 | 8 | 16, 4, 0x1000) == 1, "items are read-only"


def test_hostile_dma(device: FwCfg) -> None:
    assert device.memory is not None
    for address in (0xFFFF, (1 << 64) - 8):
        dma(device, 8 | 2, 0x20000, address)
    device.write(4, 8, (1 << 64) - 1)  # the descriptor itself is nowhere
    dma(device, 8 | 4, 0xFFFFFFFF, 0)
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


def test_in_memory() -> None:
    device = FwCfgMmio()
    device.memory = AddressSpace()
    device.memory.map_ram(0, 0x10000, Ram(0x10000))
    device.memory.map_device(0x20000, 24, device)
    device.add_file("etc/x", bytes(range(1, 14)))
    device.memory.write(0x20008, 2, 0x2000)  # big-endian
    assert device.memory.read_bytes(0x20000, 8) == bytes(range(1, 9))
    assert device.memory.read(0x20000, 2).to_bytes(2, "little") == b"\x09\x0a"
    assert device.memory.read(0x20000, 1) == 11
    assert device.memory.read(0x20000, 8).to_bytes(8, "little") == b"\x0c\x0d" + bytes(6)
    assert device.memory.read_bytes(0x20010, 8) == b"QEMU CFG"
    device.memory.write_bytes(0x100, struct.pack(">IIQ", 0x20 << 16 | 8 | 2, 13, 0x1000))
    device.memory.write(0x20010, 8, int.from_bytes((0x100).to_bytes(8, "big"), "little"))
    assert device.memory.read_bytes(0x100, 4) == bytes(4)
    assert device.memory.read_bytes(0x1000, 13) == bytes(range(1, 14))


def test_a_transfer_into_its_own_address_comes_to_an_end() -> None:
    device = FwCfgMmio()
    device.memory = AddressSpace()
    device.memory.map_ram(0, 0x10000, Ram(0x10000))
    device.memory.map_device(0x20000, 24, device)
    device.add_file("etc/x", (0x100).to_bytes(8, "big") * 100)
    device.memory.write_bytes(0x100, struct.pack(">IIQ", 0x20 << 16 | 8 | 2, 8, 0x20010))
    device.memory.write(0x20010, 8, int.from_bytes((0x100).to_bytes(8, "big"), "little"))
    assert device.memory.read_bytes(0x100, 4) == bytes(4)
