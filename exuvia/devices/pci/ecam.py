"""A generic PCI Express host bridge: configuration space in memory (PCI Express Base Specification 5.0, section 7.2.2).

Memory BARs stand where the guest puts them; interrupts and messages are the bus's, ports are reached through a window.
"""

from __future__ import annotations

from exuvia.devices.device import Device
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import CONFIG_SIZE, PciDevice


class Ecam(Device):
    """4 KiB of each function of each bus: bits 27 to 20 are the bus, 19 to 15 the device, 14 to 12 the function."""

    name = "pcie-ecam"
    window = 256 << 20
    accesses = (1, 2, 4)

    pci: PciBus | None = None

    def read(self, offset: int, size: int) -> int:
        """Beyond 256 bytes, there is no extended capability."""
        if size > 4:
            return self.read(offset, 4) | self.read(offset + 4, size - 4) << 32
        if self.pci is None:
            return (1 << 8 * size) - 1
        function, register = offset >> 12, offset & 0xFFF
        if register < CONFIG_SIZE:
            return self.pci.read_config(function << 8 | register, size)
        return 0 if self.pci.read_config(function << 8, 4) != 0xFFFFFFFF else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See read."""
        if size > 4:
            self.write(offset, 4, value & 0xFFFFFFFF)
            self.write(offset + 4, size - 4, value >> 32)
        elif self.pci is not None and offset & 0xFFF < CONFIG_SIZE:
            self.pci.write_config((offset >> 12) << 8 | offset & 0xFFF, size, value)


class GenericHost(PciDevice):
    """The bridge's own function, in slot 0."""

    name = "gpex-root"
    plugs_into = "sysbus"
    vendor_id, device_id, class_code = 0x1B36, 0x0008, 0x060000
