"""Eventfds on both sides of a guest: what it rings, and what interrupts it; the same guest with devices that do so by software."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exuvia.vcpu.kvm import routes
from exuvia.vcpu.kvm.routes import MsiMessage
from tests.guests import console
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import PROGRAMS, Guest

pytestmark = [needs_binutils]
MESSAGE = MsiMessage(0xFEE00000, 0x40)
INPUT = routes.PIC_FIRST + 5


class Doorbell:
    """A device that calls somebody at each write."""

    def __init__(self, answer: Callable[[int], object]) -> None:
        self.answer = answer

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.answer(value)


def count(fd: int) -> int:
    """How often an eventfd was signaled since the last time."""
    return os.eventfd_read(fd) if select.select([fd], [], [], 0)[0] else 0


@pytest.fixture
def fds() -> Any:
    made = [os.eventfd(0) for _ in range(4)]
    yield made
    for fd in made:
        os.close(fd)


def answering(guest: Guest, bell: int, answer: Callable[[], object]) -> Callable[[], None]:
    """What runs beside the guest: an answer whenever it rings."""

    def beside() -> None:
        while not guest.over.is_set():
            if select.select([bell], [], [], 0.05)[0]:
                os.eventfd_read(bell)
                answer()

    return beside


@host.needs_kvm
def test_ioeventfds_and_an_irqfd(fds: list[int], tmp_path: Path) -> None:
    port, memory, bell, interrupt = fds
    guest = Guest(console.assemble("signals", tmp_path, PROGRAMS), irqchip="on")
    vm, left = guest.vm.fd, []
    others: list[int] = []
    guest.machine.ports.map_device(0x1234, 1, Doorbell(others.append))
    routes.ioeventfd(vm, port, 0x1234, 1, port=True, match=7)
    routes.ioeventfd(vm, memory, 0xA0010, 4)
    routes.ioeventfd(vm, bell, 0x1235, 1, port=True)
    routes.irqfd(vm, interrupt, INPUT)

    def remove() -> None:
        routes.ioeventfd(vm, port, 0x1234, 1, port=True, match=7, remove=True)
        routes.irqfd(vm, interrupt, INPUT, remove=True)
        left.append(True)

    guest.machine.at_end.insert(0, remove)
    assert guest.run(answering(guest, bell, lambda: os.eventfd_write(interrupt, 1))) == console.PASS
    assert guest.text == "rung\nthree interrupts\n"
    assert (count(port), count(memory), others) == (2, 1, [6])
    assert left == [True]


@pytest.mark.parametrize("accel", ["software", pytest.param("kvm", marks=host.needs_kvm)])
def test_the_same_by_devices(accel: str, tmp_path: Path) -> None:
    guest = Guest(console.assemble("signals", tmp_path, PROGRAMS), accel=accel)
    machine = guest.machine
    seen: list[int] = []
    line = machine.lines[5].input()

    def pulse(value: int) -> None:
        line(True)
        line(False)

    machine.ports.map_device(0x1234, 1, Doorbell(seen.append))
    machine.ports.map_device(0x1235, 1, Doorbell(pulse))
    machine.memory.map_device(0xA0000, 0x1000, Doorbell(seen.append))
    assert guest.run() == console.PASS
    assert guest.text == "rung\nthree interrupts\n"
    assert seen == [6, 7, 7, 0x55]


@host.needs_kvm
@pytest.mark.parametrize("irqchip", ["split", "on"])
def test_a_message_by_an_irqfd(irqchip: str, fds: list[int], tmp_path: Path) -> None:
    bell, interrupt = fds[:2]
    guest = Guest(console.assemble("messages", tmp_path, PROGRAMS), irqchip=irqchip)
    vm = guest.vm
    routes.ioeventfd(vm.fd, bell, 0x1235, 1, port=True)
    routes.irqfd(vm.fd, interrupt, vm.routes.add_message(MESSAGE))
    assert guest.run(answering(guest, bell, lambda: os.eventfd_write(interrupt, 1))) == console.PASS
    assert guest.text == "two messages\n"


@pytest.mark.parametrize(
    ("accel", "irqchip"), [("software", "off"), *(pytest.param("kvm", mode, marks=host.needs_kvm) for mode in ("off", "split", "on"))]
)
def test_a_message_by_a_device(accel: str, irqchip: str, tmp_path: Path) -> None:
    """As a PCI device sends it."""
    guest = Guest(console.assemble("messages", tmp_path, PROGRAMS), accel=accel, irqchip=irqchip)
    bus = guest.machine.apic_bus
    guest.machine.ports.map_device(0x1235, 1, Doorbell(lambda value: bus.message_signaled(*MESSAGE)))
    assert guest.run() == console.PASS
    assert guest.text == "two messages\n"


@host.needs_kvm
def test_a_message_to_nobody(tmp_path: Path) -> None:
    guest = Guest(console.assemble("messages", tmp_path, PROGRAMS), irqchip="on")
    taken: list[bool] = []
    guest.machine.at_end.insert(0, lambda: taken.append(guest.machine.apic_bus.message_signaled(0xFEE0E000, 0x40)))
    guest.machine.ports.map_device(0x1235, 1, Doorbell(lambda value: guest.machine.exit(console.PASS)))
    assert guest.run() == console.PASS
    assert taken == [False]
