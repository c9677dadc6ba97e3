"""Galileo GT-64120 system controller (datasheet, chapters 3 to 6 and 20): windows to PCI, configuration cycles, interrupts.

The memory controller, the DMA engines, the timers and the second PCI bus have registers of which only those are here that firmware sets up
and that hold no more than a setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.devices.device import Device, Irq, Property, Reg
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import BAR0, BAR_PRIORITY, STATUS, PciDevice
from exuvia.memory.space import AddressSpace, Target
from exuvia.memory.wiring import Swapped, Window
from exuvia.support.bits import bit

SIZE = 0x1000  # of the register file
UNIT = 21  # windows are decoded and remapped in units of 2 MiB
CAUSES = 0x3FFFFFFE  # the interrupt causes; bits 0, 30 and 31 are their sums
MASTER_ABORT = 1 << 18
DECODE_END = 0x140
REMAPPED = {0x048: "io", 0x058: "memory0", 0x080: "memory1"}  # windows by their low decode registers
BANK_SIZES = range(0xC08, 0xC18)


class Gt64120Pci(PciDevice):
    """The controller as a function of its own bus, device 0. Where its BARs lead is for masters on PCI, which reach RAM directly here."""

    name = "gt64120_pci"
    plugs_into = "sysbus"
    vendor_id, device_id, revision, class_code = 0x11AB, 0x4620, 0x10, 0x060000
    subsystem = (0, 0)
    interrupt_pin = 1

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        for index in range(6):
            self.resize(index, 0xFFFFF000)

    def initial_configuration(self) -> bytearray:
        """Four banks of memory, then the registers in memory and in I/O space (table 259 and those that follow)."""
        space = super().initial_configuration()
        space[STATUS : STATUS + 2] = b"\x80\x02"  # fast back-to-back, medium DEVSEL
        for index, value in enumerate((0x00000008, 0x01000008, 0x1C000000, 0x1F000000, 0x14000000, 0x14000001)):
            space[BAR0 + 4 * index : BAR0 + 4 * index + 4] = value.to_bytes(4, "little")
        return space

    def resize(self, index: int, mask: int) -> None:
        """Make the bits of `mask` the writable ones of base address `index`."""
        self.writable(BAR0 + 4 * index, mask.to_bytes(4, "little"))


class Gt64120(Device):
    """The registers. `connect` gives it the processor's addresses, in which it shows PCI; `irq` is its interrupt to the processor."""

    name = "gt64120"
    window = SIZE
    big_endian = Property(bool, False, "the processor's byte order, strapped at reset")
    irq = Irq()

    # CPU interface and address decode (tables 15 to 63)
    cpu = Reg(0x000, 32, endianess=bit[12])
    scs10_low, scs10_high = Reg(0x008, 32), Reg(0x010, 32, reset=0x07)
    scs32_low, scs32_high = Reg(0x018, 32, reset=0x08), Reg(0x020, 32, reset=0x0F)
    cs20_low, cs20_high = Reg(0x028, 32, reset=0xE0), Reg(0x030, 32, reset=0x70)
    cs3_low, cs3_high = Reg(0x038, 32, reset=0xF8), Reg(0x040, 32, reset=0x7F)
    io_low, io_high = Reg(0x048, 32, reset=0x80, writable=0x7FFF), Reg(0x050, 32, reset=0x0F, writable=0x7F)
    memory0_low, memory0_high = Reg(0x058, 32, reset=0x90, writable=0x7FFF), Reg(0x060, 32, reset=0x1F, writable=0x7F)
    isd = Reg(0x068, 32, reset=0xA0, writable=0x7FFF)
    memory1_low, memory1_high = Reg(0x080, 32, reset=0x790, writable=0x7FFF), Reg(0x088, 32, reset=0x1F, writable=0x7F)
    scs10_remap, scs32_remap = Reg(0x0D0, 32), Reg(0x0D8, 32, reset=0x08)
    cs20_remap, cs3_remap = Reg(0x0E0, 32, reset=0xE0), Reg(0x0E8, 32, reset=0xF8)
    io_remap = Reg(0x0F0, 32, reset=0x80, writable=0x7FF)
    memory0_remap = Reg(0x0F8, 32, reset=0x90, writable=0x7FF)
    memory1_remap = Reg(0x100, 32, reset=0x790, writable=0x7FF)
    sync = Reg(0x0C0, 32, writable=0)  # PCI_0 sync barrier: writes are done when they are made

    # SDRAM and device parameters (tables 70 to 100)
    sdram_configuration, sdram_mode, sdram_decode = Reg(0x448, 32, reset=0x200), Reg(0x474, 32), Reg(0x47C, 32, reset=2)
    sdram0, sdram1 = Reg(0x44C, 32, reset=5), Reg(0x450, 32, reset=5)
    sdram2, sdram3 = Reg(0x454, 32, reset=5), Reg(0x458, 32, reset=5)
    device0, device1 = Reg(0x45C, 32, reset=0x386FFFFF), Reg(0x460, 32, reset=0x386FFFFF)
    device2, device3 = Reg(0x464, 32, reset=0x386FFFFF), Reg(0x468, 32, reset=0x386FFFFF)
    device_boot = Reg(0x46C, 32, reset=0x146FFFFF)

    # PCI_0 (tables 136 to 188)
    command = Reg(0xC00, 32, straight=bit[0])
    time_out = Reg(0xC04, 32, reset=0x70F)
    scs10_size, scs32_size = Reg(0xC08, 32, reset=0x00FFF000), Reg(0xC0C, 32, reset=0x00FFF000)
    cs20_size, cs3_size = Reg(0xC10, 32, reset=0x01FFF000), Reg(0xC14, 32, reset=0x00FFF000)
    bars_off = Reg(0xC3C, 32, reset=0x0F)
    prefetch = Reg(0xC40, 32, reset=0x40)
    acknowledge = Reg(0xC34, 32, writable=0)
    address = Reg(0xCF8, 32, writable=0x80FFFFFC, enable=bit[31], bus=bit[23:16], slot=bit[15:11])
    data = Reg(0xCFC, 32)

    # Interrupts (tables 189 to 196)
    cause = Reg(0xC18, 32)
    cpu_mask = Reg(0xC1C, 32, writable=CAUSES)
    pci_mask = Reg(0xC24, 32, writable=CAUSES)
    serr_mask = Reg(0xC28, 32, writable=CAUSES)

    pci: PciBus | None = None
    bridge: Gt64120Pci | None = None
    interrupt_vector: Callable[[], int] | None = None  # what answers an interrupt acknowledge cycle on PCI

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self._memory: AddressSpace | None = None
        self._shown: list[tuple[int, int, Target]] = []
        super().__init__(clock, **properties)
        self.reset()

    def connect(self, memory: AddressSpace, pci: PciBus, bridge: Gt64120Pci) -> None:
        """Stand in `memory`, in front of `pci`, of which `bridge` is device 0."""
        self._memory, self.pci, self.bridge = memory, pci, bridge
        pci.attach(bridge, 0)
        self._update()

    def reset(self) -> None:
        """The byte order is that of the straps, and PCI's is the processor's."""
        super().reset()
        if not self.big_endian:
            self.cpu, self.command = 1 << 12, 0x10001
        self._update()

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state and show what it decodes."""
        super().load(saved)
        self._update()

    def _update(self) -> None:
        """Let the windows and the bridge be as the registers say."""
        self._decode()
        self._resize()

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Device; a window's low decode register is copied to its remap register."""
        super().write(offset, size, value)
        if offset < DECODE_END:
            name = REMAPPED.get(offset & ~7)
            if name is not None:
                setattr(self, f"{name}_remap", getattr(self, f"{name}_low") & 0x7FF)
            self._decode()
        elif offset in BANK_SIZES:
            self._resize()

    # Address decode (section 3.3): bits 35 to 28 of an address equal those of Low, bits 27 to 21 lie between Low's and High's.

    def _decode(self) -> None:
        """Show the windows and the registers where they are decoded now."""
        if self._memory is None or self.pci is None:
            return
        shown: list[tuple[int, int, Target]] = []
        for space, low, high, remap in (
            (self.pci.ports, self.io_low, self.io_high, self.io_remap),
            (self.pci.memory, self.memory0_low, self.memory0_high, self.memory0_remap),
            (self.pci.memory, self.memory1_low, self.memory1_high, self.memory1_remap),
        ):
            units = high - (low & 0x7F) + 1
            if units > 0:
                inside = (low ^ high) & 0x7F  # the bits that a remap register leaves alone
                # ports have 16 bits of address, all of them below the units: firmware for this board leaves IoRemap as it is copied
                at = 0 if space is self.pci.ports else (remap & ~inside | low & inside) << UNIT
                shown.append((low << UNIT, units << UNIT, Window(space, at)))
        shown.append((self.isd << UNIT, SIZE, Swapped(self) if self.cpu.endianess == self.big_endian else self))
        if shown == self._shown:
            return
        for start, size, target in self._shown:
            self._memory.unmap(start, size, target)
        for start, size, target in shown:
            self._memory.map_device(start, size, target, priority=BAR_PRIORITY)
        self._shown = shown

    # PCI (chapter 6): configuration cycles, and the acknowledge cycle that asks the interrupt controller for a vector.

    def _selected(self) -> PciDevice | None:
        """The function that the configuration address selects. Nobody there: the cycle ends in a master abort."""
        if not self.address.enable or self.pci is None:
            return None
        found = self.pci.find(self.address)
        if found is None:
            self.cause |= MASTER_ABORT
            self._drive()
        return found

    def _carried(self, value: int, device: PciDevice) -> int:
        """Configuration data in the order in which PCI carries it: the controller's own is never swapped."""
        if self.command.straight or device is self.bridge:
            return value
        return int.from_bytes(value.to_bytes(4, "little"), "big")

    @data.read
    def read_data(self) -> int:
        """A configuration read."""
        device = self._selected()
        return 0xFFFFFFFF if device is None else self._carried(device.read_config(self.address & 0xFC, 4), device)

    @data.write
    def write_data(self, value: int) -> None:
        """A configuration write."""
        device = self._selected()
        if device is not None:
            device.write_config(self.address & 0xFC, 4, self._carried(value, device))

    @acknowledge.read
    def read_acknowledge(self) -> int:
        """The vector of the interrupt that PCI's controller serves now."""
        return 0 if self.interrupt_vector is None else self.interrupt_vector()

    # Interrupts (chapter 20).

    def _drive(self) -> None:
        self.irq.set(bool(self.cause & self.cpu_mask))

    @cause.read
    def read_cause(self) -> int:
        """The causes with their sums: of all, of those for the processor, of those for PCI."""
        return self.cause | bool(self.cause) | bool(self.cause & self.cpu_mask) << 30 | bool(self.cause & self.pci_mask) << 31

    @cause.write
    def write_cause(self, value: int) -> None:
        """Zeros clear."""
        self.cause &= value
        self._drive()

    @cpu_mask.write
    def write_cpu_mask(self, value: int) -> None:
        """Ones let causes through."""
        self.cpu_mask = value & CAUSES
        self._drive()

    # The sizes of the four banks that PCI sees: bits that are ones are not compared.

    def _resize(self) -> None:
        if self.bridge is not None:
            for index, size in enumerate((self.scs10_size, self.scs32_size, self.cs20_size, self.cs3_size)):
                self.bridge.resize(index, ~size & 0xFFFFF000)
