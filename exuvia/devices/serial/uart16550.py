"""16550A UART (National Semiconductor PC16550D datasheet, sections 8.1 to 8.6)."""

from collections import deque

from exuvia.devices.device import Alarm, Backend, Device, Irq, Property, Reg, State, Word
from exuvia.devices.polled import Polled
from exuvia.devices.posted import Posted
from exuvia.support.bits import bit

_DR, _OE, _BI, _THRE, _TEMT, _FIFO_ERROR = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80  # LSR
_ERRORS = 0x1E
_CLOCK = 115_200  # bits per second at divisor 1
_REFILL = 100_000  # ns between an emptied FIFO and the next input: a driver that loops until there is none comes to an end
_BREAK = 0x100  # marks a break's zero in the FIFO


class Uart16550(Device):
    """A serial port of a PC. Output is sent at once, whatever the divisor; MCR's OUT2 gates the interrupt, as PCs wire it."""

    name = "isa-serial"
    plugs_into = "isa"
    window = 8
    accesses = (1,)
    irq = Irq()
    chardev = Backend("the character backend that is the other end")
    iobase = Property(int, 0x3F8, "the first of its 8 ports")
    line = Property(int, 4, "its ISA interrupt", name="irq")

    data = Posted(0)
    ier = Reg(1, rda=bit[0], thre=bit[1], rls=bit[2], msr=bit[3])
    iir = Reg(2)
    lcr = Reg(3, wls=bit[1:0], dlab=bit[7])
    mcr = Reg(4, writable=0x1F, dtr=bit[0], rts=bit[1], out1=bit[2], out2=bit[3], loop=bit[4])
    lsr = Polled(5, reset=_THRE | _TEMT, unless=_ERRORS | _FIFO_ERROR, writable=0)
    msr = Reg(6, reset=0xB0, writable=0)
    scr = Reg(7)
    fcr = Reg(None, enable=bit[0], clear_rx=bit[1], clear_tx=bit[2], trigger=bit[7:6])
    divisor = Reg(None, 16, reset=12)

    fifo: State[deque[int]] = State(deque())
    thre_pending = State(False)
    timed_out = State(False)

    # The other end.

    @chardev.attached
    def attach(self) -> None:
        """Take what arrives at the backend."""
        self.chardev.connect(self.receive, self.room, self.receive_break)

    def room(self) -> int:
        """The number of bytes that `receive` takes now."""
        if self.mcr.loop:
            return 0
        return (16 if self.fcr.enable else 1) - len(self.fifo)

    def receive(self, data: bytes) -> None:
        """Bytes have come in; what exceeds `room` is lost as an overrun."""
        for value in data:
            self._push(value)

    def receive_break(self) -> None:
        """The other end holds the line low: a zero with the break indicator."""
        self._push(_BREAK)

    def _push(self, value: int) -> None:
        if len(self.fifo) >= (16 if self.fcr.enable else 1):
            self.lsr |= _OE
            if not self.fcr.enable:
                self.fifo[0] = value
        else:
            self.fifo.append(value)
        self.timed_out = False
        self._fifo_changed()

    def _fifo_changed(self) -> None:
        fifo = self.fifo
        status = int(self.lsr) & ~(_DR | _FIFO_ERROR)
        if fifo:
            status |= _DR
            if fifo[0] & _BREAK:
                status |= _BI
                fifo[0] &= 0xFF
            if self.fcr.enable:
                self.timeout.set(self.clock.now() + 40 * 1_000_000_000 * max(int(self.divisor), 1) // _CLOCK)
                if status & _BI or any(value & _BREAK for value in fifo):
                    status |= _FIFO_ERROR
        else:
            self.timeout.cancel()
            self.timed_out = False
            if self.chardev is not None:
                self.refill.set(self.clock.now() + _REFILL)
        self.lsr = status
        self._update()

    def on_timeout(self) -> None:
        """Four characters' time without one coming or being read."""
        self.timed_out = True
        self._update()

    def on_refill(self) -> None:
        """There is room again for what waits at the other end."""
        self.chardev.resume()

    timeout = Alarm(on_timeout)
    refill = Alarm(on_refill)

    # Interrupts, in the order of their priority (table II).

    def _identify(self) -> int:
        enabled = self.ier
        if not enabled:
            return 0x1
        if enabled.rls and self.lsr & _ERRORS:
            return 0x6
        if enabled.rda and self.fifo:
            if not self.fcr.enable or len(self.fifo) >= (1, 4, 8, 14)[self.fcr.trigger]:
                return 0x4
            if self.timed_out:
                return 0xC
        if enabled.thre and self.thre_pending:
            return 0x2
        if enabled.msr and self.msr & 0xF:
            return 0x0
        return 0x1

    def _update(self) -> None:
        self.irq.set(self._identify() != 1 and bool(self.mcr.out2))
        Uart16550.data.open(self, self.thre_pending and not self.lcr.dlab and not self.mcr.loop)

    # The registers.

    @data.read
    def read_data(self) -> int:
        if self.lcr.dlab:
            return self.divisor & 0xFF
        if not self.fifo:
            return 0
        value = self.fifo.popleft()
        self.timed_out = False
        self._fifo_changed()
        return value & 0xFF

    @data.write
    def write_data(self, value: int) -> None:
        if self.lcr.dlab:
            self.divisor = self.divisor & 0xFF00 | value
            return
        if self.mcr.loop:
            self._push(value)
        else:
            self.send(bytes((value,)))
        if not self.thre_pending:
            self.thre_pending = True  # sent already: the holding register is empty again
            self._update()

    @data.post
    def send(self, data: bytes) -> None:
        """To the other end."""
        if self.chardev is not None:
            self.chardev.write(data)

    @lcr.write
    def write_lcr(self, value: int) -> None:
        """DLAB says what `data` is."""
        self.lcr = value
        self._update()

    @ier.read
    def read_ier(self) -> int:
        return self.divisor >> 8 if self.lcr.dlab else self.ier

    @ier.write
    def write_ier(self, value: Word) -> None:
        if self.lcr.dlab:
            self.divisor = self.divisor & 0xFF | int(value) << 8
            return
        if value.thre and not self.ier.thre:
            self.thre_pending = True
        self.ier = value & 0xF
        self._update()

    @iir.read
    def read_iir(self) -> int:
        identity = self._identify()
        if identity == 0x2:
            self.thre_pending = False
            self._update()
        return identity | (0xC0 if self.fcr.enable else 0)

    @iir.write
    def write_fcr(self, value: int) -> None:
        word = Uart16550.fcr.word(value if value & 1 else 0)
        changed = word.enable != self.fcr.enable
        self.fcr = word & 0xC9
        if changed or word.clear_rx:
            self.fifo.clear()
            self._fifo_changed()
        if changed or word.clear_tx:
            self.thre_pending = True
        self._update()

    @mcr.write
    def write_mcr(self, value: Word) -> None:
        was_loop = self.mcr.loop
        self.mcr = value & 0x1F
        if value.loop:
            self._modem(value.rts << 4 | value.dtr << 5 | value.out1 << 6 | value.out2 << 7)
        elif was_loop:
            self._modem(0xB0)
            if self.chardev is not None:
                self.refill.set(self.clock.now() + _REFILL)
        self._update()

    def _modem(self, lines: int) -> None:
        old = int(self.msr)
        delta = (old ^ lines) >> 4 & 0xB | (old & ~lines) >> 4 & 0x4  # TERI: the ring indicator's trailing edge only
        self.msr = lines | old & 0xF | delta

    @lsr.read
    def read_lsr(self) -> int:
        status = int(self.lsr)
        if status & (_ERRORS | _FIFO_ERROR):
            self.lsr = status & ~_ERRORS & ~(0 if any(value & _BREAK for value in self.fifo) else _FIFO_ERROR)
            self._update()
        return status

    @msr.read
    def read_msr(self) -> int:
        status = int(self.msr)
        if status & 0xF:
            self.msr = status & 0xF0
            self._update()
        return status
