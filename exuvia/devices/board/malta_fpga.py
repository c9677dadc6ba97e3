"""The registers in the FPGA of MIPS's Malta board (Malta User's Manual, MD00048, chapter 7): switches, display, reset, NMI."""

from __future__ import annotations

from typing import Any

from exuvia.devices.device import Device, Irq, Property, Reg, State
from exuvia.support.bits import bit

GO_RESET = 0x42
BIG_ENDIAN, FLASH_PROTECTED = 1 << 1, 1 << 4
ASCII, ASCII_END = 0x418, 0x458


class MaltaFpga(Device):
    """32-bit registers, 8 bytes apart, a megabyte of them. `reset_request` pulses when the guest resets the board; `nmi` is high from a
    press of the button to its acknowledgement. The UART at 0x900 is a chip of its own; the I2C pins are not connected.
    """

    name = "malta-fpga"
    window = 0x100000
    big_endian = Property(bool, False, "switch S5-2: the processor's byte order")
    reset_request = Irq()
    nmi = Irq()

    nmi_status = Reg(0x024, 32, writable=0, south_bridge=bit[1], button=bit[0])
    nmi_acknowledge = Reg(0x104, 32)
    switches = Reg(0x200, 32, writable=0)  # S2, all open
    status = Reg(0x208, 32, writable=0)
    jumpers = Reg(0x210, 32, writable=0)
    led_bar = Reg(0x408, 32, writable=0xFF)
    ascii_word = Reg(0x410, 32)
    soft_reset = Reg(0x500, 32)
    break_reset = Reg(0x508, 32, reset=0x0A, writable=0xFF)
    display = State(bytearray(b" " * 8))

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        self.reset()

    def reset(self) -> None:
        """The switch shows in the status."""
        super().reset()
        self.status = FLASH_PROTECTED | (BIG_ENDIAN if self.big_endian else 0)

    @property
    def text(self) -> str:
        """What the eight characters of the display show."""
        return "".join(chr(code) if 0x20 <= code < 0x7F else " " for code in self.display)

    def press_nmi(self) -> None:
        """What the button ON/NMI does."""
        self.nmi_status |= 1
        self.nmi.set(True)

    @nmi_acknowledge.write
    def acknowledge(self, value: int) -> None:
        """Bit 0 takes the button's NMI away."""
        if value & 1:
            self.nmi_status &= ~1
            self.nmi.set(False)

    @ascii_word.write
    def write_ascii_word(self, value: int) -> None:
        """A word shows as eight hexadecimal digits."""
        self.ascii_word = value
        self.display[:] = f"{value:08X}".encode()

    @soft_reset.write
    def write_soft_reset(self, value: int) -> None:
        """The one value that resets the board."""
        if value == GO_RESET:
            self.reset_request.pulse()

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Device; the positions of the display, which cannot be read back, are eight alike."""
        if ASCII <= offset < ASCII_END and size <= 4:
            if offset % 8 == 0:
                self.display[offset - ASCII >> 3] = value & 0xFF
        else:
            super().write(offset, size, value)
