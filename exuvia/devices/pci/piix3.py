"""Intel 82371SB (PIIX3), function 0: the ISA bridge and its ports for reset (datasheet 290550, sections 2.2 and 2.5)."""

from __future__ import annotations

from typing import Any

from exuvia.devices.device import Device, Irq, Reg, State
from exuvia.devices.pci.isa_bridge import IsaBridge
from exuvia.support.bits import bit


class Piix3(IsaBridge):
    """The ISA bridge."""

    name = "PIIX3"
    device_id = 0x7000

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        self.writable(0x4C, b"\x7f\0\xff\xff")  # ISA recovery timer, chip selects
        self.writable(0x69, b"\xfe")  # top of memory
        self.writable(0x82, b"\x0f")

    def initial_configuration(self) -> bytearray:
        """The datasheet's defaults."""
        space = super().initial_configuration()
        space[0x4C], space[0x4E] = 0x4D, 0x03
        space[0x69] = 0x02
        return space


class ResetControl(Device):
    """RC, port 0xCF9: a rising RCPU resets the machine (`reset_request` pulses)."""

    name = "piix3-reset"
    accesses = (1,)
    reset_request = Irq()
    control = Reg(0, writable=0x06, hard=bit[1], reset_cpu=bit[2])

    @control.write
    def write_control(self, value: int) -> None:
        """SRST chooses hard or soft; both are a machine reset here."""
        rising = value & 4 and not self.control & 4
        self.control = value & 0x06
        if rising:
            self.reset_request.pulse()


class CoprocessorError(Device):
    """COPROC_ERR, port 0xF0: FERR# becomes interrupt 13. A write takes it away and pulses `ignne`: the processor is to ignore the error."""

    name = "piix3-coprocessor-error"
    accesses = (1,)
    irq = Irq()
    ignne = Irq()
    reported = State(False)
    register = Reg(0, reset=0xFF)

    def ferr(self) -> None:
        """The processor reports an x87 error."""
        self.reported = True
        self.irq.set(True)

    @register.write
    def take_away(self, value: int) -> None:
        """Without an error nothing happens."""
        if self.reported:
            self.reported = False
            self.irq.set(False)
            self.ignne.pulse()

    def reset(self) -> None:
        """No error."""
        super().reset()
        self.irq.set(False)

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state and drive the interrupt."""
        super().load(saved)
        self.irq.set(self.reported)


class Port92(Device):
    """System control port A, 0x92: fast reset and the A20 gate, which is always open."""

    name = "port92"
    accesses = (1,)
    reset_request = Irq()
    control = Reg(0, reset=2, init=bit[0], a20=bit[1])

    @control.write
    def write_control(self, value: int) -> None:
        """A rising bit 0 resets."""
        rising = value & 1 and not self.control & 1
        self.control = value & 0x03 | 2
        if rising:
            self.reset_request.pulse()
