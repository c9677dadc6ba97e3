"""Registers that guests poll, which processors read without asking the device: its value lies where native code finds it."""

import ctypes
from typing import Any

from exuvia.devices.device import Device, Reg

ASK = (1 << 64) - 1
"""In the place of a value: the device is to be asked."""


class Polled(Reg):
    """A register of at most 32 bits whose read gives the stored value and does nothing, unless one of the bits `unless` is set."""

    native = True

    def __init__(self, offset: int, width: int = 8, reset: int = 0, *, unless: int = 0, writable: int | None = None, **fields: Any) -> None:
        super().__init__(offset, width, reset, writable=writable, **fields)
        if width > 32:
            raise ValueError(f"a polled register of {width} bits")
        self.unless = unless

    def __set__(self, device: Device, value: int) -> None:
        super().__set__(device, value)
        word = device._registers[self.name]
        self._cell(device).value = ASK if word & self.unless else word

    def _cell(self, device: Device) -> ctypes.c_uint64:
        cell: ctypes.c_uint64 = device.__dict__.setdefault(f"{self.name} cell", ctypes.c_uint64(ASK))
        return cell

    def places(self, device: Device) -> tuple[int, int]:
        """A value, which stays where it is; no ring."""
        return ctypes.addressof(self._cell(device)), 0
