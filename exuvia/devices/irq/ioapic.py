"""82093AA I/O APIC, 24 inputs (Intel order 290566; EOI register and version 0x20: Intel ICH, chapter 9.5)."""

from collections.abc import Callable

from exuvia.devices.device import Device, Property, Reg, Sink, State
from exuvia.devices.irq.apicbus import ApicBus, Message
from exuvia.support import log

INPUTS = 24
_MASKED, _LEVEL, _REMOTE_IRR = 1 << 16, 1 << 15, 1 << 14
_WRITABLE = 0xFF << 56 | 0x1AFFF  # destination; mask, trigger, polarity, destination mode, delivery mode, vector


def _message(entry: int) -> Message:
    return Message(entry >> 56, bool(entry & 1 << 11), entry >> 8 & 7, entry & 0xFF, bool(entry & _LEVEL))


class IoApic(Device):
    """Turns its inputs into interrupt messages on `bus`. Inputs are levels of assertion: the polarity bit changes nothing.

    An edge on a masked input is lost, as the manual says; a level is delivered as soon as it can be.
    """

    name = "ioapic"
    window = 0x1000
    accesses = (1, 2, 4)
    revision = Property(int, 0x20, "0x11 (82093AA) or 0x20 (with an EOI register)")

    select = Reg(0x00, 32, writable=0xFF)
    data = Reg(0x10, 32)
    eoi = Reg(0x40, 32)

    id = Reg(None, 32)
    entries = State([_MASKED] * INPUTS)
    lines = State(0)

    remote: Callable[[int, bool], None] | None = None
    """Who is told of the inputs while the work is not done here: the host's kernel."""
    on_entries: Callable[[], None] | None = None
    """Told when messages have become others."""

    def __init__(self, bus: ApicBus | None = None, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.bus = bus or ApicBus()
        self.bus.eoi_listeners.append(self.end_of_interrupt)

    def input(self, number: int) -> Sink:
        """The sink of input 0 to 23; raises ValueError for others."""
        if not 0 <= number < INPUTS:
            raise ValueError(f"an I/O APIC has no input {number}")
        own = 1 << number

        def follow(level: bool) -> None:
            rising = level and not self.lines & own
            self.lines = self.lines | own if level else self.lines & ~own
            if self.remote is not None:
                self.remote(number, level)
            elif rising:
                self._service(number)

        return follow

    def messages(self) -> list[Message | None]:
        """What each input sends; None where it is masked."""
        return [None if entry & _MASKED else _message(entry) for entry in self.entries]

    def _service(self, number: int) -> None:
        """Send input `number`'s message if its entry allows: called at a rising edge and when a level may be due again."""
        entry = self.entries[number]
        if entry & _MASKED or entry & _LEVEL and entry & _REMOTE_IRR:
            return
        message = _message(entry)
        if self.bus.send(message) and message.level:
            self.entries[number] |= _REMOTE_IRR

    def _service_level(self, number: int) -> None:
        if self.entries[number] & _LEVEL and self.lines >> number & 1:
            self._service(number)

    def end_of_interrupt(self, vector: int) -> None:
        """A processor finished `vector`: inputs that are still high send it again."""
        for number, entry in enumerate(self.entries):
            if entry & _REMOTE_IRR and entry & 0xFF == vector:
                self.entries[number] = entry & ~_REMOTE_IRR
                self._service_level(number)

    @data.read
    def read_data(self) -> int:
        index = int(self.select)
        if index in (0, 2):
            return int(self.id)
        if index == 1:
            return (INPUTS - 1) << 16 | self.revision & 0xFF
        if 0x10 <= index < 0x10 + 2 * INPUTS:
            return self.entries[index - 0x10 >> 1] >> 32 * (index & 1) & 0xFFFFFFFF
        log.guest_errors(f"ioapic: read of register {index:#x}, which does not exist")
        return 0

    @data.write
    def write_data(self, value: int) -> None:
        index = int(self.select)
        if index == 0:
            self.id = value & 0x0F000000
        elif 0x10 <= index < 0x10 + 2 * INPUTS:
            number, shift = index - 0x10 >> 1, 32 * (index & 1)
            old = self.entries[number]
            mask = _WRITABLE & 0xFFFFFFFF << shift
            entry = old & ~mask | int(value) << shift & mask
            if not entry & _LEVEL:
                entry &= ~_REMOTE_IRR
            self.entries[number] = entry
            if self.on_entries is not None:
                self.on_entries()
            self._service_level(number)
        elif index not in (1, 2):
            log.guest_errors(f"ioapic: write of register {index:#x}, which does not exist")

    @eoi.read
    def read_eoi(self) -> int:
        return 0

    @eoi.write
    def write_eoi(self, value: int) -> None:
        if self.revision >= 0x20:
            self.end_of_interrupt(value & 0xFF)
