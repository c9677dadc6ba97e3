"""Intel 82371AB (PIIX4), function 0: the ISA bridge (datasheet 290562, section 4.1)."""

from __future__ import annotations

from typing import Any

from exuvia.devices.pci.device import STATUS
from exuvia.devices.pci.isa_bridge import IsaBridge


class Piix4Isa(IsaBridge):
    """The ISA bridge. What its general configuration and chip selects switch is wired on a board, and not switched here."""

    name = "PIIX4"
    device_id = 0x7110

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        self.writable(0x4C, b"\x7f\0\xff\x07")  # ISA recovery timer, chip selects
        self.writable(0x64, b"\xff")  # serial interrupts
        self.writable(0x69, b"\xfe\x80")  # top of memory, miscellaneous status
        self.writable(0x76, b"\x8f\x8f")  # motherboard device DMA
        self.writable(0x80, b"\x7f\0\x0f")  # APIC base, deterministic latency
        self.writable(0x90, b"\xc0\xff\xc0\xff")  # distributed DMA
        self.writable(0xB0, b"\xff" * 4)  # general configuration
        self.writable(0xCB, b"\x3f")  # RTC

    def initial_configuration(self) -> bytearray:
        """The datasheet's defaults."""
        space = super().initial_configuration()
        space[STATUS : STATUS + 2] = b"\x80\x02"
        for offset, value in ((0x4C, 0x4D), (0x4E, 0x03), (0x64, 0x10), (0x69, 0x02), (0x76, 0x0C), (0x77, 0x0C), (0xCB, 0x21)):
            space[offset] = value
        return space
