"""PL061: pins, masks in the address, edges and levels."""

import pytest

from exuvia.devices.gpio.pl061 import Pl061
from tests.devices.timing import high

DIR, IS, IBE, IEV, IE, RIS, MIS, IC = range(0x400, 0x420, 4)


def test_pins() -> None:
    gpio = Pl061()
    heard: list[bool] = []
    gpio.outputs[1] = heard.append
    gpio.write(DIR, 4, 0x0F)
    gpio.write(0xFF << 2, 4, 0xFF)
    assert gpio.read(0xFF << 2, 4) == 0x0F, "outputs only"
    gpio.write(0x02 << 2, 4, 0)
    assert gpio.read(0xFF << 2, 4) == 0x0D
    assert heard == [True, False]
    gpio.input(7)(True)
    assert gpio.read(0xFF << 2, 4) == 0x8D
    assert gpio.read(0x80 << 2, 4) == 0x80
    with pytest.raises(ValueError, match="no pin 8"):
        gpio.input(8)


def test_a_button_on_both_edges() -> None:
    gpio = Pl061()
    gpio.write(IBE, 4, 8)
    gpio.write(IE, 4, 8)
    button = gpio.input(3)
    for level in (True, False):
        button(level)
        assert high(gpio.irq)
        assert gpio.read(MIS, 4) == 8
        gpio.write(IC, 4, 8)
        assert not high(gpio.irq)


def test_one_edge_and_levels() -> None:
    gpio = Pl061()
    gpio.write(IEV, 4, 0b01)
    gpio.write(IS, 4, 0b10)
    gpio.write(IE, 4, 0b11)
    assert high(gpio.irq), "pin 1 is low, and low is asked for"
    gpio.input(1)(True)
    assert not high(gpio.irq)
    gpio.input(0)(True)
    gpio.input(0)(False)
    assert gpio.read(RIS, 4) == 1
    gpio.write(IC, 4, 1)
    assert not high(gpio.irq)
