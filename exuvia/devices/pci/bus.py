"""A PCI bus, and configuration mechanism #1, ports 0xCF8 and 0xCFC (PCI Local Bus Specification 3.0, section 3.2.2.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from exuvia.devices.device import Device, Reg, Sink, WiredOr
from exuvia.devices.pci.device import PciDevice
from exuvia.memory.dma import Dma
from exuvia.memory.space import AddressSpace, Target
from exuvia.support.bits import bit
from exuvia.support.errors import UserError

SLOTS, FUNCTIONS = 32, 8


class PciBus:
    """Bus 0: functions by (slot, function), and four interrupt lines that their INTx pins are swizzled onto.

    lines         the sinks of PIRQA..PIRQD
    send_message  takes (requester ID, address, data) of an MSI
    first         the first slot that is free for a card
    inta          the slot whose INTA is PIRQA; each next one's is the next
    dma           RAM, for functions that master the bus
    """

    dma: Dma | None = None

    def __init__(
        self,
        memory: AddressSpace,
        ports: AddressSpace,
        lines: Sequence[Sink],
        send_message: Callable[[int, int, int], object] | None = None,
        *,
        first: int = 0,
        inta: int = 1,
    ) -> None:
        self.memory, self.ports, self.send_message = memory, ports, send_message
        self.first, self.inta = first, inta
        self.functions: dict[tuple[int, int], PciDevice] = {}
        self._lines = [WiredOr(line) for line in lines]

    def attach(self, device: PciDevice, slot: int | None = None, function: int = 0) -> None:
        """Plug `device` in, at the first free slot when none is given. UserError when there is none or it is taken."""
        if slot is None:
            used = {taken for taken, _ in self.functions}
            slot = next((free for free in range(self.first, SLOTS) if free not in used), SLOTS)
        if not (0 <= slot < SLOTS and 0 <= function < FUNCTIONS) or (slot, function) in self.functions:
            raise UserError(f"PCI: no free place for {device.name} (slot {slot}, function {function})")
        self.functions[slot, function] = device
        device.memory, device.ports, device.dma = self.memory, self.ports, self.dma
        if self.send_message is not None:
            device.send_message = partial(self.send_message, slot << 3 | function)
        if device.interrupt_pin:
            device.irq.connect(self._lines[self.line(slot, device.interrupt_pin)].input())
        device.update_mappings()

    def line(self, slot: int, pin: int) -> int:
        """Which PIRQ (0 to 3) the `pin` (1 is INTA) of a slot is wired to."""
        return (slot - self.inta + pin - 1) & 3

    def read_config(self, address: int, size: int) -> int:
        """A configuration read: `address` is bus, device, function and offset as in CONFIG_ADDRESS, byte exact. Nobody there: all ones."""
        device = self.find(address)
        return (1 << 8 * size) - 1 if device is None else device.read_config(address & 0xFF, size)

    def write_config(self, address: int, size: int, value: int) -> None:
        """A configuration write."""
        device = self.find(address)
        if device is not None:
            device.write_config(address & 0xFF, size, value)

    def find(self, address: int) -> PciDevice | None:
        """The function that a configuration address selects."""
        if address >> 16 & 0xFF:
            return None
        return self.functions.get((address >> 11 & 0x1F, address >> 8 & 7))


class PciConfigPorts(Device):
    """CONFIG_ADDRESS and CONFIG_DATA, eight ports. A byte at the second is not PCI's: it goes to `reset_control` (PIIX, 0xCF9)."""

    name = "pci-config"
    window = 8
    address = Reg(None, 32, writable=0x80FFFFFC, enable=bit[31])

    pci: PciBus | None = None
    reset_control: Target | None = None

    def read(self, offset: int, size: int) -> int:
        """Only doublewords reach CONFIG_ADDRESS."""
        if offset < 4:
            if offset == 0 and size == 4:
                return int(self.address)
            if offset == 1 and size == 1 and self.reset_control is not None:
                return self.reset_control.read(0, 1)
        elif self.address.enable and self.pci is not None and size <= 4:
            return self.pci.read_config(self.address & 0xFFFFFF | offset & 3, size)
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See read."""
        if offset < 4:
            if offset == 0 and size == 4:
                self.address = value & 0x80FFFFFC
            elif offset == 1 and size == 1 and self.reset_control is not None:
                self.reset_control.write(0, 1, value)
        elif self.address.enable and self.pci is not None and size <= 4:
            self.pci.write_config(self.address & 0xFFFFFF | offset & 3, size, value)
