"""Intel 82371AB (PIIX4) function 3, power management (datasheet 290562, chapter 7): PM1, PM timer, GPE0, S5, the SMI command port."""

from __future__ import annotations

from typing import Any

from exuvia.devices.device import Alarm, Device, Irq, Reg, State, Word
from exuvia.devices.pci.device import PciDevice
from exuvia.memory.space import AddressSpace
from exuvia.support import log
from exuvia.support.bits import bit

PMBA, PMREGMISC = 0x40, 0x80
SIZE = 64
TIMER_HZ = 3_579_545
TIMER_HALF = 1 << 23  # ticks between changes of the timer's top bit
NS = 1_000_000_000
SOFT_OFF = 0
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0


class Piix4Pm(PciDevice):
    """The power management function; its register table is the 64-byte block of ports at PMBA.

    `sci` is the interrupt, `power_off` pulses when the guest enters S5. The SMBus host controller behind PIIX4's 0x90 is not there.
    """

    name = "PIIX4_PM"
    plugs_into = "sysbus"
    vendor_id, device_id, revision, class_code = 0x8086, 0x7113, 3, 0x068000
    interrupt_pin = 1
    window = SIZE

    sci = Irq()
    power_off = Irq()

    status = Reg(0x00, 16, clear=0x8D31, writable=0, overflow=bit[0], power_button=bit[8], rtc=bit[10], resume=bit[15])
    enable = Reg(0x02, 16, writable=0x0521, overflow=bit[0], power_button=bit[8], rtc=bit[10])
    control = Reg(0x04, 16, writable=0x3C07, sci_enable=bit[0], sleep_type=bit[12:10], sleep_enable=bit[13])
    timer = Reg(0x08, 32, writable=0)
    gpe_status = Reg(0x0C, 16, clear=0xFFFF, writable=0)
    gpe_enable = Reg(0x0E, 16)
    processor_control = Reg(0x10, 32)
    global_status = Reg(0x18, 16, clear=0xFFFF, writable=0)
    device_status = Reg(0x1C, 32, clear=0xFFFFFFFF, writable=0)
    global_enable = Reg(0x20, 16)
    global_control = Reg(0x28, 32)
    device_control = Reg(0x2C, 32)
    inputs = Reg(0x30, 32, writable=0)
    outputs = Reg(0x34, 32, reset=0x7FFFBFFF)

    overflow_due = State(TIMER_HALF)  # the tick at which the top bit changes next, as far as the status register knows

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self._base: tuple[AddressSpace, int] | None = None
        super().__init__(clock, **properties)
        self.writable(PMBA, b"\xc0\xff")
        self.writable(0x58, b"\xff" * 4)
        self.writable(PMREGMISC, b"\x01")

    def initial_configuration(self) -> bytearray:
        """PMBA is a port address."""
        space = super().initial_configuration()
        space[PMBA] = 1
        return space

    def config_written(self, offset: int, size: int) -> None:
        """PMBA or its enable bit may have changed."""
        self.update_mappings()

    def update_mappings(self) -> None:
        """Show the block of ports at PMBA while PMIOSE is set."""
        super().update_mappings()
        base = self.read_config(PMBA, 2) & 0xFFC0
        wanted = (self.ports, base) if self.ports is not None and base and self.configuration[PMREGMISC] & 1 else None
        if wanted != self._base:
            if self._base is not None:
                self._base[0].unmap(self._base[1], SIZE, self)
            if wanted is not None:
                wanted[0].map_device(wanted[1], SIZE, self)
            self._base = wanted

    def reset(self) -> None:
        """The timer goes on counting from power-on, so the next change of its top bit is in the future."""
        super().reset()
        if hasattr(self, "clock"):
            self.overflow_due = (self.ticks() // TIMER_HALF + 1) * TIMER_HALF

    def ticks(self) -> int:
        """PM timer ticks since power-on, not cut to 24 bits."""
        return self.clock.now() * TIMER_HZ // NS

    def _update(self) -> None:
        if self.ticks() >= self.overflow_due:
            self.overflow_due = (self.ticks() // TIMER_HALF + 1) * TIMER_HALF
            self.status = self.status | 1
        if self.enable.overflow and not self.status.overflow:
            self.overflow_alarm.set(-(-self.overflow_due * NS // TIMER_HZ))
        else:
            self.overflow_alarm.cancel()
        self.sci.set(bool(self.control.sci_enable and (self.status & self.enable or self.gpe_status & self.gpe_enable)))

    overflow_alarm = Alarm(_update)

    @timer.read
    def read_timer(self) -> int:
        """24 bits at 3.579545 MHz."""
        return self.ticks() & 0xFFFFFF

    @status.read
    def read_status(self) -> int:
        """Notice an overflow that no alarm was armed for."""
        self._update()
        return int(self.status)

    @status.write
    def write_status(self, value: int) -> None:
        """Ones clear."""
        self._update()
        self.status = self.status & ~(value & 0x8D31)
        self._update()

    @enable.write
    def write_enable(self, value: int) -> None:
        """May raise the SCI at once."""
        self.enable = value & 0x0521
        self._update()

    @gpe_status.write
    def write_gpe_status(self, value: int) -> None:
        """Ones clear."""
        self.gpe_status = self.gpe_status & ~value
        self._update()

    @gpe_enable.write
    def write_gpe_enable(self, value: int) -> None:
        """May raise the SCI at once."""
        self.gpe_enable = value
        self._update()

    @control.write
    def write_control(self, value: Word) -> None:
        """SUS_EN reads as zero; with SUS_TYP 0 it is the power switch."""
        self.control = value & 0x1C03
        if value.sleep_enable:
            if value.sleep_type == SOFT_OFF:
                self.power_off.pulse()
            else:
                log.unimp(f"{self.name}: suspend type {value.sleep_type}")
        self._update()

    def press_power_button(self) -> None:
        """What the user's power button does: an event, if the guest listens for it."""
        self.status = self.status | 1 << 8
        self._update()

    def set_acpi(self, on: bool) -> None:
        """Hand the power management registers to the operating system, or take them back."""
        self.control = self.control & ~1 | on
        self._update()


class SmiCommand(Device):
    """APMC and APMS, ports 0xB2 and 0xB3. There is no system management mode: what its handler would do for ACPI is done here."""

    name = "piix4-smi"
    accesses = (1,)
    command = Reg(0)
    data = Reg(1)

    power: Piix4Pm | None = None

    @command.write
    def write_command(self, value: int) -> None:
        """The two commands that the FADT names."""
        self.command = value
        if self.power is not None and value in (ACPI_ENABLE, ACPI_DISABLE):
            self.power.set_acpi(value == ACPI_ENABLE)
