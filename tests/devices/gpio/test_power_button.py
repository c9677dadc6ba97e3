"""The power button: held for a moment."""

from exuvia.devices.gpio.power_button import PowerButton
from tests.devices.timing import ManualClock, high


def test_pressed_and_let_go() -> None:
    clock = ManualClock()
    button = PowerButton(clock=clock)
    button.press_power_button()
    clock.advance(50_000_000)
    assert high(button.pin)
    clock.advance(60_000_000)
    assert not high(button.pin)
