"""Guest addresses for devices: RAM only, in pieces where it lies in pieces."""

import pytest

from exuvia.memory.dma import BadAddress, Dma, Stretch
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace


def test_pieces_bounds_and_changes() -> None:
    space, ram = AddressSpace(), Ram(0x4000)
    space.map_ram(0x0000, 0x1000, ram, 0x3000)
    space.map_ram(0x1000, 0x1000, ram, 0x0000)
    space.map_ram(0x8000, 0x1000, ram, 0x1000, writable=False)
    dma = Dma(space, ram)
    assert dma.find(0xFF0, 0x20, True) == [Stretch(0x3FF0, 0x10), Stretch(0, 0x10)]
    assert dma.find(0x5000, 0) == []
    assert dma.place(0x1004, 4) == 4
    for address, length, to_write in ((0x1FFF, 2, False), (0x2000, 1, False), (0x8000, 1, True), (0x9000, 1, False), (1 << 64, 1, False)):
        with pytest.raises(BadAddress):
            dma.find(address, length, to_write)
    with pytest.raises(BadAddress, match="not in one piece"):
        dma.place(0xFFF, 2)
    changed: list[tuple[int, int]] = []
    ram.on_write.append(lambda offset, length: changed.append((offset, length)))
    stretches = dma.find(0xFFE, 4, True)
    for view, data in zip(dma.views(stretches), (b"ab", b"cd"), strict=True):
        view[:] = data
    dma.written(stretches)
    assert space.read_bytes(0xFFE, 4) == dma.read(stretches) == b"abcd"
    assert changed == [(0x3FFE, 2), (0, 2)]
    space.unmap(0x1000, 0x1000)
    with pytest.raises(BadAddress):
        dma.find(0xFFE, 4)
