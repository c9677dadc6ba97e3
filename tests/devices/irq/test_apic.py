"""Local APICs, the I/O APIC and the bus between them."""

import pytest

from exuvia.devices.irq.apicbus import ApicBank, ApicBus, Message
from exuvia.devices.irq.ioapic import IoApic
from exuvia.devices.irq.lapic import LocalApic


class Source:
    time = 0

    def __call__(self) -> int:
        return self.time


class Port:
    def __init__(self) -> None:
        self.level = False
        self.events: list[int | str] = []

    def interrupt(self, level: bool) -> None:
        self.level = level

    def nmi(self) -> None:
        self.events.append("nmi")

    def init(self) -> None:
        self.events.append("init")

    def start(self, vector: int) -> None:
        self.events.append(vector)


class Machine:
    def __init__(self, processors: int = 2) -> None:
        from exuvia.vcpu.clock import Clock

        self.source = Source()
        self.clock = Clock(self.source)
        self.clock.resume()
        self.bus = ApicBus()
        self.apics = [LocalApic(self.bus, clock=self.clock, index=index) for index in range(processors)]
        self.ports = [Port() for _ in self.apics]
        for apic, port in zip(self.apics, self.ports, strict=True):
            apic.processor = port
            apic.write(0xF0, 4, 0x1FF)
        self.ioapic = IoApic(self.bus)

    def entry(self, number: int, value: int) -> None:
        for half in (1, 0):
            self.ioapic.write(0, 4, 0x10 + 2 * number + half)
            self.ioapic.write(0x10, 4, value >> 32 * half & 0xFFFFFFFF)

    def advance(self, nanoseconds: int) -> None:
        self.source.time += nanoseconds
        self.clock.run_due()


def high(port: Port) -> bool:
    return port.level


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_priorities_nest(machine: Machine) -> None:
    apic, port = machine.apics[0], machine.ports[0]
    machine.bus.send(Message(0, False, 0, 0x41))
    assert high(port)
    assert apic.acknowledge() == 0x41
    assert not high(port)
    machine.bus.send(Message(0, False, 0, 0x4F))
    assert not high(port)  # same class
    assert apic.read(0x220, 4) == 1 << 15
    assert apic.read(0x120, 4) == 1 << 1
    machine.bus.send(Message(0, False, 0, 0x51))
    assert high(port)
    assert apic.acknowledge() == 0x51
    apic.write(0xB0, 4, 0)
    assert not high(port)
    apic.write(0xB0, 4, 0)
    assert high(port)
    apic.task_priority = 4
    assert not high(port)
    assert apic.read(0x80, 4) == 0x40
    assert apic.read(0xA0, 4) == 0x40
    assert apic.acknowledge() == 0xFF  # spurious
    apic.write(0x80, 4, 0x30)
    assert high(port)
    assert apic.acknowledge() == 0x4F


def test_software_disable_masks_the_lvts(machine: Machine) -> None:
    apic = machine.apics[0]
    apic.write(0x350, 4, 0x700)
    apic.write(0xF0, 4, 0xFF)
    assert apic.read(0x350, 4) == 0x10700
    apic.write(0x350, 4, 0x700)
    assert apic.read(0x350, 4) == 0x10700
    assert not machine.bus.send(Message(0, False, 0, 0x41))


def test_illegal_vector_sets_esr(machine: Machine) -> None:
    apic = machine.apics[0]
    apic.write(0x370, 4, 0x45)
    machine.bus.send(Message(0, False, 0, 5))
    assert apic.read(0x280, 4) == 0
    apic.write(0x280, 4, 0)
    assert apic.read(0x280, 4) == 0x40
    assert apic.acknowledge() == 0x45
    apic.write(0x300, 4, 0x40003)
    apic.write(0x280, 4, 0)
    assert apic.read(0x280, 4) == 0x20


def test_start_up_of_another_processor(machine: Machine) -> None:
    boot, other = machine.apics
    boot.write(0x310, 4, 1 << 24)
    boot.write(0x300, 4, 0xC500)
    boot.write(0x300, 4, 0x8500)  # de-assert
    boot.write(0x300, 4, 0x0609)
    assert machine.ports[1].events == ["init", 9]
    assert machine.ports[0].events == []
    assert not other.accepts


@pytest.mark.parametrize(("icr", "reached"), [(0x40041, [0]), (0x80041, [0, 1]), (0xC0041, [1])])
def test_shorthands(machine: Machine, icr: int, reached: list[int]) -> None:
    machine.apics[0].write(0x300, 4, icr)
    assert [index for index, port in enumerate(machine.ports) if high(port)] == reached


@pytest.mark.parametrize(
    ("format", "addresses", "destination", "reached"),
    [
        (0xFFFFFFFF, (1, 2), 2, [1]),
        (0xFFFFFFFF, (1, 2), 3, [0, 1]),
        (0x0FFFFFFF, (0x11, 0x21), 0x21, [1]),
        (0x0FFFFFFF, (0x11, 0x12), 0x13, [0, 1]),
        (0x0FFFFFFF, (0x11, 0x21), 0xFF, [0, 1]),
    ],
)
def test_logical_destinations(machine: Machine, format: int, addresses: tuple[int, int], destination: int, reached: list[int]) -> None:
    for apic, address in zip(machine.apics, addresses, strict=True):
        apic.write(0xE0, 4, format)
        apic.write(0xD0, 4, address << 24)
    machine.bus.send(Message(destination, True, 0, 0x41))
    assert [index for index, port in enumerate(machine.ports) if high(port)] == reached


def test_lowest_priority_avoids_the_busy(machine: Machine) -> None:
    machine.apics[0].task_priority = 2
    for apic in machine.apics:
        apic.write(0xD0, 4, 1 << 24)
    assert machine.bus.message_signaled(0xFEE0100C, 0x0141)
    assert [port.level for port in machine.ports] == [False, True]


def test_timer_one_shot_and_periodic(machine: Machine) -> None:
    apic, port = machine.apics[0], machine.ports[0]
    apic.write(0x3E0, 4, 0x3)  # by 16
    apic.write(0x320, 4, 0x40)
    apic.write(0x380, 4, 100_000)
    machine.advance(800_000)
    assert apic.read(0x390, 4) == 50_000
    assert not high(port)
    machine.advance(800_000)
    assert apic.acknowledge() == 0x40
    assert apic.read(0x390, 4) == 0
    apic.write(0xB0, 4, 0)
    machine.advance(10_000_000)
    assert not high(port)
    apic.write(0x320, 4, 0x20041)
    apic.write(0x380, 4, 100_000)
    start = machine.source.time
    machine.advance(1_700_000)  # late by 0.1 ms: the next tick does not drift
    assert apic.acknowledge() == 0x41
    assert apic.tick.deadline == start + 3_200_000
    apic.write(0x380, 4, 0)
    assert apic.tick.deadline is None


def test_a_periodic_timer_of_one_nanosecond_leaves_time(machine: Machine) -> None:
    apic = machine.apics[0]
    apic.write(0x3E0, 4, 0xB)
    apic.write(0x320, 4, 0x20041)
    apic.write(0x380, 4, 1)
    machine.advance(100_000)
    assert (machine.clock.next_deadline() or 0) >= machine.source.time + 10_000


def test_pic_through_lint0(machine: Machine) -> None:
    apic, port = machine.apics[0], machine.ports[0]
    apic.pic_acknowledge = lambda: 0x33
    pin = apic.input(0)
    apic.write(0x350, 4, 0x10700)
    pin(True)
    assert not high(port)
    apic.write(0x350, 4, 0x700)
    assert high(port)
    assert apic.acknowledge() == 0x33
    assert high(port)
    pin(False)
    assert not high(port)


def test_boot_processor_starts_in_virtual_wire_mode() -> None:
    apic, other = Machine().apics
    apic.reset()
    other.reset()
    assert apic.read(0x350, 4) == 0x700
    assert other.read(0x350, 4) == 0x10000
    assert apic.base == 0xFEE00900
    assert other.base == 0xFEE00800


def test_base_msr(machine: Machine) -> None:
    apic = machine.apics[0]
    with pytest.raises(ValueError):
        apic.base = 0xFEE00C00
    bank = ApicBank(machine.bus, lambda: 0)
    assert bank.read(0x30, 4) == 0x00050014
    apic.base = 0xFEE00000
    assert bank.read(0x30, 4) == 0xFFFFFFFF
    assert apic.base == 0xFEE00100


def test_ioapic_edge(machine: Machine) -> None:
    line = machine.ioapic.input(4)
    line(True)  # masked: lost
    line(False)
    machine.entry(4, 0x41)
    assert not high(machine.ports[0])
    line(True)
    assert machine.apics[0].acknowledge() == 0x41
    machine.apics[0].write(0xB0, 4, 0)
    assert not high(machine.ports[0])


def test_ioapic_level_and_remote_irr(machine: Machine) -> None:
    apic, line = machine.apics[1], machine.ioapic.input(10)
    machine.entry(10, 1 << 56 | 0x8051)
    line(True)
    assert machine.ioapic.read(0x10, 4) == 0xC051
    assert apic.acknowledge() == 0x51
    assert apic.read(0x1A0, 4) == 1 << 17
    apic.write(0xB0, 4, 0)
    assert apic.acknowledge() == 0x51  # still high: again
    line(False)
    apic.write(0xB0, 4, 0)
    assert not high(machine.ports[1])
    assert machine.ioapic.read(0x10, 4) == 0x8051


def test_ioapic_masked_level_is_delivered_when_unmasked(machine: Machine) -> None:
    machine.entry(10, 0x18051)
    machine.ioapic.input(10)(True)
    assert not high(machine.ports[0])
    machine.entry(10, 0x8051)
    assert high(machine.ports[0])


def test_ioapic_identity(machine: Machine) -> None:
    machine.ioapic.write(0, 4, 1)
    assert machine.ioapic.read(0x10, 4) == 0x00170020


def test_save_and_load(machine: Machine) -> None:
    machine.apics[0].write(0x320, 4, 0x20041)
    machine.apics[0].write(0x380, 4, 1_000_000)
    machine.bus.send(Message(0, False, 0, 0x41))
    saved = machine.apics[0].save()
    other = Machine()
    other.apics[0].load(saved)
    assert high(other.ports[0])
    assert other.apics[0].save() == saved
    assert other.clock.next_deadline() == machine.clock.next_deadline()
