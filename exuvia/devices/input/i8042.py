"""The PS/2 keyboard controller (Intel 8042 with IBM's firmware; IBM PS/2 Technical Reference, Keyboard and Auxiliary Device Controller)."""

from __future__ import annotations

from typing import Protocol

from exuvia.devices.device import Device, Irq, State
from exuvia.support import log

OUTPUT_FULL, INPUT_FULL, SYSTEM, COMMAND_LAST, NOT_INHIBITED, AUX_OUTPUT, TIMEOUT = 1, 2, 4, 8, 16, 32, 64
KEYBOARD_INTERRUPT, AUX_INTERRUPT, SYSTEM_FLAG, KEYBOARD_OFF, AUX_OFF, TRANSLATE = 1, 2, 4, 16, 32, 64
RESEND = 0xFE
RESET_LINE, A20_LINE = 1, 2


class Ps2Device(Protocol):
    """A keyboard or mouse: takes bytes; its answers go to the controller's `keyboard_data` or `aux_data`."""

    def receive(self, value: int) -> None:
        """A byte from the host."""


class I8042(Device):
    """Data port at offset 0, command and status at offset 4. With nothing attached it still answers for itself and resets the machine.

    `irq` is the keyboard's interrupt, `aux_irq` the mouse's; `reset_request` pulses for command 0xFE.
    """

    name = "i8042"
    window = 5
    accesses = (1,)
    irq = Irq()
    aux_irq = Irq()
    reset_request = Irq()

    command_byte = State(SYSTEM_FLAG)
    queue: State[list[list[int]]] = State([])  # (byte, status bits) to be read; the first is in the output buffer
    expecting = State(0)  # the command whose parameter the next data byte is
    last_was_command = State(False)
    output_port = State(RESET_LINE | A20_LINE)

    keyboard: Ps2Device | None = None
    aux: Ps2Device | None = None

    def keyboard_data(self, value: int) -> None:
        """A byte from the keyboard; lost while sixteen wait."""
        self._put(value, 0)

    def aux_data(self, value: int) -> None:
        """A byte from the mouse."""
        self._put(value, AUX_OUTPUT)

    def _put(self, value: int, status: int) -> None:
        if len(self.queue) < 16:
            self.queue.append([value, status])
            self._drive()

    def _drive(self) -> None:
        aux = bool(self.queue and self.queue[0][1] & AUX_OUTPUT)
        self.irq.set(bool(self.queue) and not aux and bool(self.command_byte & KEYBOARD_INTERRUPT))
        self.aux_irq.set(aux and bool(self.command_byte & AUX_INTERRUPT))

    def read(self, offset: int, size: int) -> int:
        """The output buffer, or the status."""
        if offset == 4:
            full = OUTPUT_FULL | self.queue[0][1] if self.queue else 0
            return full | NOT_INHIBITED | self.command_byte & SYSTEM | (COMMAND_LAST if self.last_was_command else 0)
        if offset == 0:
            if not self.queue:
                return 0
            value = self.queue.pop(0)[0]
            self.irq.set(False)  # the line falls between two bytes, so that an edge announces each
            self.aux_irq.set(False)
            self._drive()
            return value
        return 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """A command, or data for the command before it or for the keyboard."""
        value &= 0xFF
        if offset == 4:
            self.last_was_command = True
            self.expecting = 0
            self._command(value)
        elif offset == 0:
            self.last_was_command = False
            command, self.expecting = self.expecting, 0
            self._data(command, value)

    def _command(self, value: int) -> None:
        answers = {0x20: self.command_byte, 0xA9: 0x00, 0xAA: 0x55, 0xAB: 0x00, 0xC0: 0x80, 0xD0: self._output_port(), 0xE0: 0x00}
        if value in answers:
            if value == 0xAA:
                self.command_byte |= SYSTEM_FLAG
            self._put(answers[value], 0)
        elif value in (0x60, 0xD1, 0xD2, 0xD3, 0xD4):
            self.expecting = value
        elif value in (0xA7, 0xA8):
            self.command_byte = self.command_byte & ~AUX_OFF | (AUX_OFF if value == 0xA7 else 0)
        elif value in (0xAD, 0xAE):
            self.command_byte = self.command_byte & ~KEYBOARD_OFF | (KEYBOARD_OFF if value == 0xAD else 0)
        elif value >= 0xF0:
            if not value & RESET_LINE:  # bits that are zero pulse low
                self.reset_request.pulse()
        else:
            log.guest_errors(f"{self.name}: command {value:#04x}")

    def _output_port(self) -> int:
        pending = 0 if not self.queue else 0x20 if self.queue[0][1] & AUX_OUTPUT else 0x10
        return self.output_port | pending | 0xC0

    def _data(self, command: int, value: int) -> None:
        if command == 0x60:
            self.command_byte = value & 0x7F
            self._drive()
        elif command == 0xD1:
            self.output_port = value & (RESET_LINE | A20_LINE)
            if not value & RESET_LINE:
                self.reset_request.pulse()
        elif command == 0xD2:
            self._put(value, 0)
        elif command == 0xD3:
            self._put(value, AUX_OUTPUT)
        elif command == 0xD4:
            self._send(self.aux, value, AUX_OUTPUT)
        else:
            self._send(self.keyboard, value, 0)

    def _send(self, device: Ps2Device | None, value: int, status: int) -> None:
        """A byte that nobody acknowledges comes back as a time-out with Resend in the buffer."""
        if device is not None:
            device.receive(value)
        else:
            self._put(RESEND, status | TIMEOUT)
