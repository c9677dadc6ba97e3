"""isa-debug-exit: a guest ends the machine with an exit status, as under QEMU."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.devices.device import Device, Property


class IsaDebugExit(Device):
    """A write ends the machine: the exit status is (value << 1) | 1, cut to the eight bits that a process has."""

    name = "isa-debug-exit"
    plugs_into = "isa"
    iobase = Property(int, 0x501, "the first port")
    iosize = Property(int, 2, "how many ports it answers")

    on_exit: Callable[[int], object] | None = None

    def read(self, offset: int, size: int) -> int:
        """There is nothing to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the machine."""
        if self.on_exit is not None:
            self.on_exit((value << 1 | 1) & 0xFF)
