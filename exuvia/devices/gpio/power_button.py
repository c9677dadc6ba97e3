"""A power button at a pin of a GPIO controller (Linux, Documentation/devicetree/bindings/input/gpio-keys.yaml)."""

from exuvia.devices.device import Alarm, Device, Irq

HELD = 100_000_000  # ns: longer than drivers wait for a button to stop bouncing


class PowerButton(Device):
    """`pin` is high for a moment when the button is pressed."""

    name = "gpio-power-button"
    pin = Irq()

    def press_power_button(self) -> None:
        """By the user, from the monitor."""
        self.pin.set(True)
        self.release.set(self.clock.now() + HELD)

    def on_release(self) -> None:
        """It is let go."""
        self.pin.set(False)

    release = Alarm(on_release)
