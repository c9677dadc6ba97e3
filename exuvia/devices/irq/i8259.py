"""8259A interrupt controller and a PC's pair of them (Intel 8259A datasheet, order 231468; ELCR: Intel 82371AB PIIX4, 4.2.1)."""

from collections.abc import Callable

from exuvia.devices.device import Device, Irq, Property, Reg, Sink, State, Word
from exuvia.support.bits import bit


class I8259(Device):
    """One 8259A in 8086 mode: ports 0 and 1; offset 2 is its ELCR, which the chipset decodes elsewhere.

    `irq` is the INT output. Edge-triggered requests stay latched when their input falls.
    """

    name = "i8259"
    accesses = (1,)
    irq = Irq()
    level_inputs = Property(int, 0xF8, "the inputs that the ELCR may make level-triggered, a mask")

    command = Reg(
        0,
        ocw3=bit[3],
        icw1=bit[4],
        single=bit[1],
        icw4=bit[0],
        poll=bit[2],
        read=bit[1:0],
        mask_mode=bit[6:5],
        eoi=bit[7:5],
        level=bit[2:0],
    )
    mask = Reg(1)
    elcr = Reg(2)

    requests = State(0)  # IRR
    service = State(0)  # ISR
    lines = State(0)
    vector = State(0)
    top = State(0)  # the input that has the highest priority
    expected: State[list[int]] = State([])  # the numbers of the ICWs still to come
    read_service = State(False)
    polled = State(False)
    special_mask = State(False)
    nested = State(False)  # special fully nested mode
    automatic_eoi = State(False)
    rotate_automatically = State(False)

    slave: "I8259 | None" = None  # on input 2
    remote: Callable[[int, bool], None] | None = None
    """Who is told of the inputs while the work is not done here: the host's kernel."""

    def input(self, number: int) -> Sink:
        """The sink of request input 0 to 7."""
        own = 1 << number

        def follow(level: bool) -> None:
            if self.remote is not None:
                self.lines = self.lines | own if level else self.lines & ~own
                self.remote(number, level)
                return
            if not level:
                self.lines &= ~own
                if self.elcr & own:
                    self.requests &= ~own
            else:
                if self.elcr & own or not self.lines & own:
                    self.requests |= own
                self.lines |= own
            self._update()

        return follow

    def _highest(self, bits: int) -> int:
        """The rank (0 is highest) of the first of `bits` in the present rotation, 8 for none."""
        turned = (bits << 8 | bits) >> self.top & 0xFF
        return (turned & -turned).bit_length() - 1 if turned else 8

    def _pending(self) -> int:
        """The input to serve next, -1 for none."""
        rank = self._highest(self.requests & ~self.mask)
        if rank == 8:
            return -1
        blocking = self.service & ~self.mask if self.special_mask else self.service
        if self.nested and self.slave is not None:
            blocking &= ~(1 << 2)
        return rank + self.top & 7 if rank < self._highest(blocking) else -1

    def _update(self) -> None:
        self.irq.set(self._pending() >= 0)

    def refresh(self) -> None:
        """Drive INT as the state has it, after another hand changed that."""
        self._update()

    def _accept(self, number: int) -> None:
        if not self.elcr >> number & 1:
            self.requests &= ~(1 << number)
        if not self.automatic_eoi:
            self.service |= 1 << number
        elif self.rotate_automatically:
            self.top = number + 1 & 7
        # INT falls between two acknowledges, so that a slave's next request is a new edge for its master.
        self.irq.set(False)
        self._update()

    def acknowledge(self) -> int:
        """The INTA cycles: the vector of the request served, input 7's when the request has gone away (spurious)."""
        number = self._pending()
        if number < 0:
            self._update()
            return self.vector + 7
        self._accept(number)
        if number == 2 and self.slave is not None:
            return self.slave.acknowledge()
        return self.vector + number

    @command.read
    def read_command(self) -> int:
        return self._poll() if self.polled else self.service if self.read_service else self.requests

    @mask.read
    def read_mask(self) -> int:
        return self._poll() if self.polled else self.mask

    def _poll(self) -> int:
        self.polled = False
        number = self._pending()
        if number < 0:
            return 0
        self._accept(number)
        return 0x80 | number

    @command.write
    def write_command(self, word: Word) -> None:
        if word.icw1:
            self._initialize(word)
        elif word.ocw3:
            if word.poll:
                self.polled = True
            elif word.read & 2:
                self.read_service = bool(word.read & 1)
            if word.mask_mode & 2:
                self.special_mask = bool(word.mask_mode & 1)
        else:
            self._ocw2(word.eoi, word.level)
        self._update()

    def _initialize(self, word: Word) -> None:
        self.mask, self.service, self.top = 0, 0, 0
        self.requests &= self.elcr
        self.read_service = self.polled = self.special_mask = self.nested = False
        self.automatic_eoi = self.rotate_automatically = False
        self.expected = [2] + [3] * (not word.single) + [4] * word.icw4

    def _ocw2(self, operation: int, level: int) -> None:
        rotate, specific, eoi = operation & 4, operation & 2, operation & 1
        if eoi:
            if not specific:
                rank = self._highest(self.service & ~self.mask if self.special_mask else self.service)
                if rank == 8:
                    return
                level = rank + self.top & 7
            self.service &= ~(1 << level)
            if rotate:
                self.top = level + 1 & 7
        elif not specific:
            self.rotate_automatically = bool(rotate)
        elif rotate:
            self.top = level + 1 & 7

    @mask.write
    def write_mask(self, value: int) -> None:
        if not self.expected:
            self.mask = value
        else:
            number = self.expected.pop(0)
            if number == 2:
                self.vector = value & 0xF8
            elif number == 4:
                self.nested, self.automatic_eoi = bool(value & 0x10), bool(value & 2)
        self._update()

    @elcr.write
    def write_elcr(self, value: int) -> None:
        self.elcr = value & self.level_inputs
        # A level-triggered request is its line; the edges latched before count no longer.
        self.requests = self.requests & ~self.elcr | self.lines & self.elcr
        self._update()


class I8259Pair:
    """A PC's two 8259As: the slave's INT is the master's input 2. Save, load and reset are those of `master` and `slave`.

    Ports: master at 0x20 (2 bytes), slave at 0xA0, the ELCRs at 0x4D0 and 0x4D1 (offset 2 of each chip).
    """

    def __init__(self) -> None:
        self.master, self.slave = I8259(level_inputs=0xF8), I8259(level_inputs=0xDE)
        self.master.slave = self.slave
        self.slave.irq.connect(self.master.input(2))
        self.irq = self.master.irq
        self.acknowledge = self.master.acknowledge

    def input(self, number: int) -> Sink:
        """The sink of ISA interrupt 0 to 15; raises ValueError for 2, the cascade, and for others."""
        if number == 2 or not 0 <= number < 16:
            raise ValueError(f"there is no interrupt input {number}")
        return self.master.input(number) if number < 8 else self.slave.input(number - 8)
