"""Intel 82371AB (PIIX4), function 1: the IDE controller, with no drive on its two channels (datasheet 290562, chapter 6)."""

from __future__ import annotations

from typing import Any

from exuvia.devices.device import Reg
from exuvia.devices.pci.device import STATUS, Bar, PciDevice

IDETIM = 0x40


class Piix4Ide(PciDevice):
    """Firmware sets up its timings. Nothing drives the channels' task files, which read as ones, and no drive asks for bus mastering."""

    name = "PIIX4_IDE"
    plugs_into = "sysbus"
    vendor_id, device_id, revision, class_code = 0x8086, 0x7111, 1, 0x010180
    subsystem = (0, 0)
    window = 16
    bars = {4: Bar(16, io=True)}

    command1, command2 = Reg(0x0, 8, writable=0x08), Reg(0x8, 8, writable=0x08)
    status1, status2 = Reg(0x2, 8, writable=0x60), Reg(0xA, 8, writable=0x60)
    table1, table2 = Reg(0x4, 32, writable=0xFFFFFFFC), Reg(0xC, 32, writable=0xFFFFFFFC)

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        self.writable(IDETIM, b"\xff\xf3\xff\xf3\xff")  # of both channels, and of their second drives
        self.writable(0x48, b"\x0f\0\x33\x33")  # Ultra DMA

    def initial_configuration(self) -> bytearray:
        """The datasheet's defaults."""
        space = super().initial_configuration()
        space[STATUS : STATUS + 2] = b"\x80\x02"
        return space
