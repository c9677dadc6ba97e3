"""What joins the APICs: interrupt messages of I/O APICs, devices and processors; the local APICs' page (Intel SDM 3A, 11.6, 11.11)."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exuvia.devices.irq.lapic import LocalApic

FIXED, LOWEST, SMI, NMI, INIT, START, EXTINT = 0, 1, 2, 4, 5, 6, 7


class Message(NamedTuple):
    """An interrupt message: `mode` is the delivery mode (SDM 3A table 11-3)."""

    destination: int
    logical: bool
    mode: int
    vector: int
    level: bool = False


class ApicBus:
    """Delivers interrupt messages to `processors` (local APICs, by index) and their EOIs to `eoi_listeners`."""

    def __init__(self) -> None:
        self.processors: list[LocalApic] = []
        self.eoi_listeners: list[Callable[[int], None]] = []
        self.remote: Callable[[Message], bool] | None = None
        """Who delivers messages while the local APICs' work is not done here: the host's kernel."""

    def send(self, message: Message) -> bool:
        """Deliver to whom the destination names; False when nobody took it."""
        if self.remote is not None:
            return self.remote(message)
        return self.deliver([apic for apic in self.processors if apic.matches(message.destination, message.logical)], message)

    def deliver(self, targets: "Iterable[LocalApic]", message: Message) -> bool:
        """Deliver to these; False when none of them took it."""
        if message.mode == LOWEST:
            # Among equals the processor served least recently would be fair; the SDM leaves the choice to the chipset.
            able = [apic for apic in targets if apic.accepts]
            targets = [min(able, key=lambda apic: apic.processor_priority())] if able else []
        return any([apic.receive(message) for apic in targets])  # noqa: C419  every target receives it

    def message_signaled(self, address: int, data: int) -> bool:
        """A device's MSI: the write of `data` to `address` in 0xFEExxxxx (SDM 3A, 11.11)."""
        return self.send(Message(address >> 12 & 0xFF, bool(address & 4), data >> 8 & 7, data & 0xFF, bool(data & 0x8000)))

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC finished a level-triggered `vector`."""
        for listener in self.eoi_listeners:
            listener(vector)


class ApicBank:
    """The page at 0xFEE00000: an access reaches the local APIC of the processor that makes it, whose index `current()` gives."""

    def __init__(self, bus: ApicBus, current: Callable[[], int]) -> None:
        self._bus, self._current = bus, current

    @property
    def answering(self) -> "LocalApic":
        """The local APIC of the processor that runs."""
        return self._bus.processors[self._current()]

    def read(self, offset: int, size: int) -> int:
        """All ones where the accessing processor's APIC is globally disabled."""
        apic = self._bus.processors[self._current()]
        return apic.read(offset, size) if apic.enabled else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Ignored where the accessing processor's APIC is globally disabled."""
        apic = self._bus.processors[self._current()]
        if apic.enabled:
            apic.write(offset, size, value)
