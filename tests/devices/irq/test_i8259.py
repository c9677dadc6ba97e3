"""The 8259A pair: priorities, EOIs, edges and levels, spurious vectors."""

import pytest

from exuvia.devices.irq.i8259 import I8259Pair
from tests.devices.timing import high


@pytest.fixture
def pic() -> I8259Pair:
    pair = I8259Pair()
    for chip, base, cascade in ((pair.master, 0x20, 4), (pair.slave, 0x28, 2)):
        chip.write(0, 1, 0x11)
        for word in (base, cascade, 0x01):
            chip.write(1, 1, word)
    return pair


def test_priority_and_eoi(pic: I8259Pair) -> None:
    pic.input(4)(True)
    pic.input(1)(True)
    assert high(pic.irq)
    assert pic.acknowledge() == 0x21
    assert not high(pic.irq)  # 4 is below 1, which is in service
    pic.master.write(0, 1, 0x20)
    assert high(pic.irq)
    assert pic.acknowledge() == 0x24
    pic.master.write(0, 1, 0x0B)
    assert pic.master.read(0, 1) == 0x10
    pic.master.write(0, 1, 0x64)  # specific EOI
    assert pic.master.read(0, 1) == 0


def test_slave_through_the_cascade(pic: I8259Pair) -> None:
    pic.input(12)(True)
    pic.input(8)(True)
    assert pic.acknowledge() == 0x28
    pic.slave.write(0, 1, 0x20)
    pic.master.write(0, 1, 0x20)
    assert pic.acknowledge() == 0x2C


def test_edge_needs_a_new_edge_level_does_not(pic: I8259Pair) -> None:
    pic.input(3)(True)
    assert pic.acknowledge() == 0x23
    pic.master.write(0, 1, 0x20)
    assert not high(pic.irq)
    pic.master.write(2, 1, 0xFF)
    assert pic.master.read(2, 1) == 0xF8  # 0, 1 and 2 stay edge-triggered
    assert high(pic.irq)
    assert pic.acknowledge() == 0x23
    pic.master.write(0, 1, 0x20)
    assert high(pic.irq)  # the level is still there


@pytest.mark.parametrize(("number", "vector"), [(5, 0x27), (11, 0x2F)])
def test_spurious(pic: I8259Pair, number: int, vector: int) -> None:
    chip = pic.master if number < 8 else pic.slave
    chip.write(2, 1, 0xFF)
    pic.input(number)(True)
    if number < 8:
        pic.input(number)(False)
        assert not high(pic.irq)
    else:
        chip.write(1, 1, 0xFF)  # masked after the master has latched the cascade
    assert pic.acknowledge() == vector
    chip.write(0, 1, 0x0B)
    assert chip.read(0, 1) == 0


def test_mask_and_poll(pic: I8259Pair) -> None:
    pic.master.write(1, 1, 0xFE)
    pic.input(6)(True)
    assert not high(pic.irq)
    pic.master.write(1, 1, 0x00)
    pic.master.write(0, 1, 0x0C)
    assert pic.master.read(0, 1) == 0x86
    pic.master.write(0, 1, 0x0C)
    assert pic.master.read(0, 1) == 0


def test_automatic_eoi_rotates(pic: I8259Pair) -> None:
    for word in (0x11,):
        pic.master.write(0, 1, word)
    for word in (0x20, 4, 0x03):
        pic.master.write(1, 1, word)
    pic.master.write(0, 1, 0x80)
    pic.input(0)(True)
    assert pic.acknowledge() == 0x20
    pic.input(0)(False)
    pic.input(0)(True)
    pic.input(7)(True)
    assert pic.acknowledge() == 0x27  # 0 is now the lowest


def test_special_mask_lets_lower_requests_in(pic: I8259Pair) -> None:
    pic.input(1)(True)
    assert pic.acknowledge() == 0x21
    pic.input(6)(True)
    assert not high(pic.irq)
    pic.master.write(1, 1, 0x02)
    assert not high(pic.irq)
    pic.master.write(0, 1, 0x68)
    assert high(pic.irq)
    assert pic.acknowledge() == 0x26


def test_two_slave_requests_under_automatic_eoi_are_two_edges(pic: I8259Pair) -> None:
    pic.slave.write(0, 1, 0x11)
    for word in (0x28, 2, 0x03):
        pic.slave.write(1, 1, word)
    pic.input(9)(True)
    pic.input(10)(True)
    assert pic.acknowledge() == 0x29
    pic.master.write(0, 1, 0x20)
    assert high(pic.irq)
    assert pic.acknowledge() == 0x2A
