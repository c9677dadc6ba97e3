"""Ways into and out of a guest that take no exit: interrupt routes, irqfds, ioeventfds (Linux, api.rst, 4.52 to 4.75)."""

from __future__ import annotations

from typing import NamedTuple

from exuvia.vcpu.kvm import api

PINS = 24  # of the I/O APIC: interrupt numbers 0 to 23 are its inputs
PIC_FIRST, PIC_PINS = PINS, 16  # then the 8259s' 16
MSI_FIRST = PIC_FIRST + PIC_PINS
MASTER, SLAVE, IOAPIC = 0, 1, 2  # chips
TO_CHIP, TO_MSI = 1, 2  # types
PORT, MATCH, DEASSIGN = 2, 1, 4  # of an ioeventfd
IRQFD_DEASSIGN, IRQFD_RESAMPLE = 1, 2


class MsiMessage(NamedTuple):
    """What a device writes to send an interrupt message."""

    address: int
    data: int


class Routes:
    """Which chip's input, or which message, an interrupt number is."""

    def __init__(self, vm: int) -> None:
        self._vm = vm
        self._chips: dict[int, tuple[int, int]] = {}
        self._messages: dict[int, MsiMessage] = {}

    def wire_chips(self) -> None:
        """The kernel's own 8259s and I/O APIC, each input by a number of its own."""
        self._chips = {pin: (IOAPIC, pin) for pin in range(PINS)}
        self._chips |= {PIC_FIRST + pin: (MASTER if pin < 8 else SLAVE, pin & 7) for pin in range(PIC_PINS)}
        self._give()

    def set_message(self, number: int, message: MsiMessage | None) -> None:
        """Make an interrupt number this message, or nothing."""
        if self._messages.get(number) == message:
            return
        if message is None:
            del self._messages[number]
        else:
            self._messages[number] = message
        self._give()

    def add_message(self, message: MsiMessage) -> int:
        """A number, for an irqfd, that is this message."""
        number = next(n for n in range(MSI_FIRST, MSI_FIRST + len(self._messages) + 1) if n not in self._messages)
        self.set_message(number, message)
        return number

    def _give(self) -> None:
        entries = [api.Route(number, TO_CHIP, 0, 0, chip, pin) for number, (chip, pin) in self._chips.items()]
        entries += [
            api.Route(number, TO_MSI, 0, 0, m.address & 0xFFFFFFFF, m.address >> 32, m.data) for number, m in sorted(self._messages.items())
        ]
        api.ioctl(self._vm, api.SET_GSI_ROUTING, api.variable((api.Route * len(entries))(*entries)))


def signal_message(vm: int, message: MsiMessage) -> bool:
    """Send an interrupt message now; False when no processor took it."""
    return api.ioctl(vm, api.SIGNAL_MSI, api.Msi(message.address & 0xFFFFFFFF, message.address >> 32, message.data)) > 0


def set_line(vm: int, number: int, level: bool) -> None:
    """Drive an input of a chip in the kernel."""
    api.ioctl(vm, api.IRQ_LINE, api.IrqLevel(number, int(level)))


def irqfd(vm: int, fd: int, number: int, *, resample: int | None = None, remove: bool = False) -> None:
    """An eventfd that raises interrupt `number`. With `resample` it holds the line until the guest's EOI, which signals that eventfd."""
    flags = (IRQFD_DEASSIGN if remove else 0) | (IRQFD_RESAMPLE if resample is not None and not remove else 0)
    api.ioctl(vm, api.IRQFD, api.Irqfd(fd, number, flags, resample or 0))


def ioeventfd(vm: int, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None, remove: bool = False) -> None:
    """An eventfd that the guest's writes of `size` bytes (0: any) signal, of the value `match` only if given. They reach no device then."""
    flags = (PORT if port else 0) | (MATCH if match is not None else 0) | (DEASSIGN if remove else 0)
    api.ioctl(vm, api.IOEVENTFD, api.Ioeventfd(match or 0, address, size, fd, flags))
