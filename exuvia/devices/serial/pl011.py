"""PrimeCell UART PL011 (Arm DDI 0183)."""

from collections import deque

from exuvia.devices.device import Alarm, Backend, Device, Irq, Reg, State, Word
from exuvia.devices.polled import Polled
from exuvia.devices.posted import Posted
from exuvia.support.bits import bit

_TXFE, _RXFF, _RXFE = 1 << 7, 1 << 6, 1 << 4  # UARTFR
_READY = _TXFE | 0x07  # the transmitter is always ready; CTS, DSR and DCD are those of a terminal that is there
_RX, _TX, _TIMEOUT, _BREAK_ERROR, _OVERRUN = 1 << 4, 1 << 5, 1 << 6, 1 << 9, 1 << 10  # interrupts
_BE, _OE = 1 << 10, 1 << 11  # of a character in UARTDR
_DEPTH = 16
_TIMEOUT_AFTER = 2_800_000  # ns: 32 bit periods at 11,520 bits per second; what the divisor says is not looked at
_REFILL = 100_000  # ns between an emptied FIFO and the next input: a driver that loops until there is none comes to an end
_IDENTITY = bytes((0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1))


class Pl011(Device):
    """A serial port. Output is sent at once, whatever the divisors. `irq` is UARTINTR."""

    name = "pl011"
    window = 0x1000
    accesses = (1, 2, 4)
    irq = Irq()
    chardev = Backend("the character backend that is the other end")

    uartdr = Posted(0x000, 32)
    uartrsr = Reg(0x004, 32)
    uartfr = Polled(0x018, 32, reset=_READY | _RXFE, writable=0)
    uartilpr = Reg(0x020, 32, writable=0xFF)
    uartibrd = Reg(0x024, 32, writable=0xFFFF)
    uartfbrd = Reg(0x028, 32, writable=0x3F)
    uartlcr_h = Reg(0x02C, 32, writable=0xFF, brk=bit[0], fen=bit[4])
    uartcr = Reg(0x030, 32, reset=0x300, writable=0xFF87, uarten=bit[0], lbe=bit[7], txe=bit[8], rxe=bit[9])
    uartifls = Reg(0x034, 32, reset=0x12, writable=0x3F, txiflsel=bit[2:0], rxiflsel=bit[5:3])
    uartimsc = Reg(0x038, 32, writable=0x7FF)
    uartris = Reg(0x03C, 32, writable=0)
    uartmis = Reg(0x040, 32, writable=0)
    uarticr = Reg(0x044, 32)
    uartdmacr = Reg(0x048, 32, writable=7)
    uartperiphid0 = Reg(0xFE0, 32, reset=_IDENTITY[0], writable=0)
    uartperiphid1 = Reg(0xFE4, 32, reset=_IDENTITY[1], writable=0)
    uartperiphid2 = Reg(0xFE8, 32, reset=_IDENTITY[2], writable=0)
    uartperiphid3 = Reg(0xFEC, 32, reset=_IDENTITY[3], writable=0)
    uartpcellid0 = Reg(0xFF0, 32, reset=_IDENTITY[4], writable=0)
    uartpcellid1 = Reg(0xFF4, 32, reset=_IDENTITY[5], writable=0)
    uartpcellid2 = Reg(0xFF8, 32, reset=_IDENTITY[6], writable=0)
    uartpcellid3 = Reg(0xFFC, 32, reset=_IDENTITY[7], writable=0)

    fifo: State[deque[int]] = State(deque())

    # The other end

    @chardev.attached
    def attach(self) -> None:
        """Take what arrives at the backend."""
        self.chardev.connect(self.receive, self.room, self.receive_break)

    def _depth(self) -> int:
        return _DEPTH if self.uartlcr_h.fen else 1

    def room(self) -> int:
        """The number of bytes that `receive` takes now. A receiver that is off gets none, so that early input is not lost."""
        return self._depth() - len(self.fifo) if self.uartcr.uarten and self.uartcr.rxe and not self.uartcr.lbe else 0

    def receive(self, data: bytes) -> None:
        """Bytes have come in; what exceeds `room` is lost as an overrun."""
        for value in data:
            self._push(value)

    def receive_break(self) -> None:
        """The other end holds the line low."""
        self._push(_BE)

    def _push(self, value: int) -> None:
        if len(self.fifo) >= self._depth():
            self._raise(_OVERRUN)
            self.uartrsr = self.uartrsr | _OE >> 8
            return
        self.fifo.append(value)
        self._show()
        if value & _BE:
            self._raise(_BREAK_ERROR)
        self.timeout.set(self.clock.now() + _TIMEOUT_AFTER)
        if len(self.fifo) >= self._trigger():
            self._raise(_RX)

    def _trigger(self) -> int:
        """How many characters in the FIFO interrupt: an eighth to seven eighths of it."""
        return (2, 4, 8, 12, 14, 14, 14, 14)[self.uartifls.rxiflsel] if self.uartlcr_h.fen else 1

    def on_timeout(self) -> None:
        """Characters are there, and none has come or been read for a while."""
        if self.fifo:
            self._raise(_TIMEOUT)

    def on_refill(self) -> None:
        """There is room again for what waits at the other end."""
        self.chardev.resume()

    timeout = Alarm(on_timeout)
    refill = Alarm(on_refill)

    # Interrupts

    def _raise(self, causes: int) -> None:
        self.uartris = self.uartris | causes
        self._update()

    def _lower(self, causes: int) -> None:
        self.uartris = self.uartris & ~causes
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self.uartris & self.uartimsc))
        Pl011.uartdr.open(self, bool(self.uartris & _TX) and not self.uartcr.lbe)

    @uartimsc.write
    def write_imsc(self, value: int) -> None:
        """Which causes interrupt."""
        self.uartimsc = value & 0x7FF
        self._update()

    @uartmis.read
    def read_mis(self) -> int:
        """Causes that interrupt."""
        return self.uartris & self.uartimsc

    @uarticr.write
    def write_icr(self, value: int) -> None:
        """Ones clear causes."""
        self._lower(value)

    @uarticr.read
    def read_icr(self) -> int:
        """Write-only."""
        return 0

    # Data

    @uartdr.read
    def read_data(self) -> int:
        """The next character with its errors."""
        if not self.fifo:
            return 0
        value = self.fifo.popleft()
        self._show()
        self.uartrsr = value >> 8
        if len(self.fifo) < self._trigger():
            self.uartris = self.uartris & ~_RX
        if not self.fifo:
            self.uartris = self.uartris & ~_TIMEOUT
            self.timeout.cancel()
            if self.chardev is not None:
                self.refill.set(self.clock.now() + _REFILL)
        self._update()
        return value

    @uartdr.write
    def write_data(self, value: int) -> None:
        """To the other end, or back in loopback; the FIFO is empty again at once.

        UARTEN and TXE are not asked for: kernels' early messages take it that firmware has set them.
        """
        if self.uartcr.lbe:
            if self.uartcr.rxe:
                self._push(value & 0xFF)
        else:
            self.send(bytes([value & 0xFF]))
        if not self.uartris & _TX:
            self._raise(_TX)

    @uartdr.post
    def send(self, data: bytes) -> None:
        """To the other end."""
        if self.chardev is not None:
            self.chardev.write(data)

    @uartrsr.write
    def clear_errors(self, value: int) -> None:
        """UARTECR: any value."""
        self.uartrsr = 0

    def _show(self) -> None:
        """The flags of what is in the FIFO."""
        self.uartfr = _READY | (_RXFE if not self.fifo else _RXFF if len(self.fifo) >= self._depth() else 0)

    @uartcr.write
    def write_control(self, value: Word) -> None:
        """A receiver that is switched on takes what waits."""
        self.uartcr = value & 0xFF87
        self._update()
        self._take_more()

    def _take_more(self) -> None:
        """Ask the backend soon, where there is room."""
        if self.chardev is not None and self.room() > 0:
            self.refill.set(self.clock.now() + _REFILL)

    @uartlcr_h.write
    def write_line_control(self, value: Word) -> None:
        """Switching the FIFOs empties them."""
        if value.fen != self.uartlcr_h.fen:
            self.fifo.clear()
            self._show()
            self.timeout.cancel()
            self._lower(_RX | _TIMEOUT)
        self.uartlcr_h = value & 0xFF
        self._take_more()

    @uartifls.write
    def write_levels(self, value: int) -> None:
        """At which level the FIFOs interrupt."""
        self.uartifls = value & 0x3F
        if self.fifo and len(self.fifo) >= self._trigger():
            self._raise(_RX)
