"""The Malta board's own registers."""

from __future__ import annotations

import pytest

from exuvia.devices.board.malta_fpga import MaltaFpga
from tests.devices.timing import ManualClock

DISPLAY = 0x418


@pytest.fixture
def fpga() -> MaltaFpga:
    return MaltaFpga(clock=ManualClock())


def test_power_on(fpga: MaltaFpga) -> None:
    # as QEMU's malta shows them
    assert [fpga.read(offset, 4) for offset in (0x24, 0x104, 0x200, 0x208, 0x210, 0x500, 0x508)] == [0, 0, 0, 0x10, 0, 0, 0x0A]
    assert MaltaFpga(big_endian=True).read(0x208, 4) == 0x12


def test_display(fpga: MaltaFpga) -> None:
    assert fpga.text == " " * 8
    for position, character in enumerate("LINUX\x00\xff!"):
        fpga.write(DISPLAY + 8 * position, 4, ord(character))
    assert fpga.text == "LINUX  !"
    fpga.write(0x410, 4, 0x1BADCAFE)
    assert fpga.text == "1BADCAFE"
    fpga.reset()
    assert fpga.text == " " * 8


def test_only_one_value_resets_the_board(fpga: MaltaFpga) -> None:
    edges: list[bool] = []
    fpga.reset_request.connect(edges.append)
    for value in (0, 1, 0x4D, 0xFFFFFFFF, 0x142):
        fpga.write(0x500, 4, value)
    assert not edges
    fpga.write(0x500, 4, 0x42)
    assert edges == [True, False]


def test_the_nmi_button_is_acknowledged(fpga: MaltaFpga) -> None:
    levels: list[bool] = []
    fpga.nmi.connect(levels.append)
    fpga.press_nmi()
    assert fpga.read(0x24, 4) == 1
    fpga.write(0x24, 4, 0)
    fpga.write(0x104, 4, 2)
    assert levels == [True]
    fpga.write(0x104, 4, 1)
    assert levels == [True, False]
    assert fpga.read(0x24, 4) == 0
