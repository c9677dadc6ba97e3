"""Registers that hand bytes on, for which processors do not wait: native code puts what guests write where the device gets it soon, many
bytes at once."""

from collections.abc import Callable
from typing import Any

from exuvia.devices.device import Device, Reg
from exuvia.support.ring import Ring


class Posted(Reg):
    """A register whose write does nothing but hand its low byte on, while the device says so by `open`: then that may come later.

    `@register.post` takes what has waited. A write that does not wait comes by `@register.write`, behind what waits.
    """

    native = True
    _taker: Callable[[Any, bytes], object]

    def post(self, callback: Callable[[Any, bytes], object]) -> Callable[[Any, bytes], object]:
        """Decorator: `callback(self, data)` takes the bytes."""
        self._taker = callback
        return callback

    def open(self, device: Device, opened: bool) -> None:
        """May writes wait from now on? Not after a reset, nor when a state was loaded."""
        self._ring(device).open(opened)

    def __set__(self, device: Device, value: int) -> None:
        super().__set__(device, value)
        self.open(device, False)

    def _ring(self, device: Device) -> Ring:
        key = f"{self.name} ring"
        if key not in device.__dict__:
            device.__dict__[key] = Ring()
        ring: Ring = device.__dict__[key]
        return ring

    def places(self, device: Device) -> tuple[int, int]:
        """No value, a ring."""
        return 0, self._ring(device).address

    def take(self, device: Device) -> None:
        """What waits goes to the device."""
        if data := self._ring(device).take():
            self._taker(device, data)

    def store(self, device: Device, value: int) -> None:
        """A write that did not wait."""
        self.take(device)
        super().store(device, value)
