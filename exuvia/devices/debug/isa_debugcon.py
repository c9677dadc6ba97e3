"""isa-debugcon: one port; every byte written to it goes to a character backend (known from Bochs, port 0xE9)."""

from __future__ import annotations

from exuvia.devices.device import Backend, Device, Property


class IsaDebugcon(Device):
    """A port whose bytes go to a character backend; reading gives `readback`, by which guests detect it."""

    name = "isa-debugcon"
    plugs_into = "isa"
    window = 1
    accesses = (1,)
    iobase = Property(int, 0xE9, "the port")
    readback = Property(int, 0xE9, "what a read gives")
    chardev = Backend()

    def read(self, offset: int, size: int) -> int:
        """The readback value."""
        return self.readback & 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """A character, or several at once."""
        if self.chardev is not None:
            self.chardev.write((value & (1 << 8 * size) - 1).to_bytes(size, "little"))
