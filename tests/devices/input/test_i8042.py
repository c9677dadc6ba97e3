"""The keyboard controller by itself."""

from __future__ import annotations

from exuvia.devices.input.i8042 import I8042


def ask(device: I8042, command: int, data: int | None = None) -> int | None:
    device.write(4, 1, command)
    if data is not None:
        device.write(0, 1, data)
    return device.read(0, 1) if device.read(4, 1) & 1 else None


def test_controller_commands() -> None:
    device = I8042()
    assert device.read(4, 1) == 0x14
    assert ask(device, 0xAA) == 0x55
    assert ask(device, 0xAB) == 0
    assert ask(device, 0xA9) == 0
    assert ask(device, 0x60, 0x41) is None
    assert ask(device, 0x20) == 0x41
    assert ask(device, 0xAD) is None
    assert ask(device, 0x20) == 0x51
    assert ask(device, 0xD0) == 0xC3
    assert ask(device, 0xD2, 0x99) == 0x99
    assert device.read(0, 1) == 0


def test_interrupts() -> None:
    device = I8042()
    ask(device, 0x60, 0x03)
    device.write(4, 1, 0xD3)
    device.write(0, 1, 0x12)
    assert (device.irq.level, device.aux_irq.level) == (False, True)
    assert device.read(4, 1) & 0x21 == 0x21
    device.keyboard_data(0x1C)
    assert device.read(0, 1) == 0x12
    assert (device.irq.level, device.aux_irq.level) == (True, False)
    assert device.read(0, 1) == 0x1C
    assert not device.irq.level


def test_nothing_attached_times_out() -> None:
    device = I8042()
    device.write(0, 1, 0xFF)
    assert device.read(4, 1) & 0x41 == 0x41
    assert device.read(0, 1) == 0xFE


def test_reset_pulse() -> None:
    device = I8042()
    seen: list[bool] = []
    device.reset_request.connect(seen.append)
    for command in (0xFF, 0xF1, 0xAA):
        device.write(4, 1, command)
    assert seen == []
    device.write(4, 1, 0xFE)
    assert seen == [True, False]
    device.write(4, 1, 0xD1)
    device.write(0, 1, 0x02)
    assert len(seen) == 4


def test_a_flood_is_bounded() -> None:
    device = I8042()
    for n in range(1000):
        device.write(0, 1, n & 0xFF)
    assert len(device.queue) == 16
