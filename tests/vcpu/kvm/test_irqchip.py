"""Interrupt controllers go to the kernel and come back as they were; what only one mode has; time that stands for kvmclock too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import api, irqchip, vm
from tests.guests import console
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import Guest, program

pytestmark = [host.needs_kvm, needs_binutils]


@pytest.fixture
def guest(tmp_path: Path) -> Any:
    made = program("timers", tmp_path, irqchip="on")
    yield made
    made.vm.close()


def test_the_chips_come_back(guest: Guest) -> None:
    devices: Any = guest.machine.devices
    chips = guest.vm.irqchip
    chips.let_go()
    master, slave, ioapic = (devices[name] for name in ("pic0", "pic1", "ioapic"))
    for chip, base in ((master, 0x20), (slave, 0x28)):
        chip.write(0, 1, 0x11)
        for value in (base, 4 if chip is master else 2, 1, 0x49):
            chip.write(1, 1, value)
    slave.write(2, 1, 0x0C)
    guest.machine.pic.input(5)(True)
    guest.machine.pic.input(11)(True)
    master.write(0, 1, 0x11)  # and an initialization that is not done
    master.write(1, 1, 0x30)
    for number, entry in ((3, 0x0100_0000_0000_0931), (9, 0x0000_0000_0001_A040)):
        for half in (0, 1):
            ioapic.write(0, 4, 0x10 + 2 * number + half)
            ioapic.write(0x10, 4, entry >> 32 * half & 0xFFFFFFFF)
    ioapic.write(0, 4, 0)
    ioapic.write(0x10, 4, 3 << 24)
    before = [chip.save() for chip in (master, slave, ioapic)]
    chips.take_over()
    ioapic.entries, slave.requests, master.expected = [0] * 24, 0, []
    chips.let_go()
    after = [chip.save() for chip in (master, slave, ioapic)]
    for saved in (*before, *after):
        saved.pop("data", None)
    assert after == before


def test_a_local_apic_comes_back(guest: Guest) -> None:
    apic: Any = guest.machine.devices["apic0"]
    vcpu = guest.machine.vcpus[0]
    vcpu.reset()
    guest.vm.irqchip.let_go()
    for offset, value in (
        (0xF0, 0x1FF), (0x80, 0x20), (0xD0, 5 << 24), (0x320, 0x20051), (0x350, 0x700), (0x360, 0x400), (0x370, 0xFE), (0x3E0, 0xB),
        (0x380, 400_000_000),
    ):  # fmt: skip
        apic.write(offset, 4, value)
    apic.requests, apic.service, apic.trigger = 1 << 0x51 | 1 << 0x20, 1 << 0x60, 1 << 0x60
    before = apic.save()
    fd = vcpu.fd  # type: ignore[attr-defined]
    irqchip.store_apic(fd, apic)
    assert apic.tick.deadline is None
    apic.reset()
    irqchip.load_apic(fd, apic)
    after = apic.save()
    assert 0 < after["tick"] - apic.clock.now() <= 400_000_000
    for saved in (before, after):
        for name in ("loaded_at", "tick", "current_count", "ppr", "apr"):
            saved.pop(name, None)
    assert after == before


@pytest.mark.parametrize("mode", ["on", "split"])
def test_the_kernel_does_the_work(mode: str, tmp_path: Path) -> None:
    """HLT and the local APIC's registers make no exit; with all of them in the kernel, the 8259's ports do not either."""
    guest = program("timers", tmp_path, irqchip=mode)
    exits: list[dict[int, int]] = []
    guest.machine.at_end.insert(0, lambda: exits.append(guest.machine.vcpus[0].exits))  # type: ignore[attr-defined]
    assert guest.run() == console.PASS
    assert guest.text == console.expected("timers")
    assert not exits[0][api.EXIT_HLT]
    assert bool(exits[0][api.EXIT_IRQ_WINDOW_OPEN]) <= (mode == "split")


def test_controllers_that_the_host_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = vm.Vm.extension
    monkeypatch.setattr(vm.Vm, "extension", lambda self, number: 0 if number == api.CAP_SPLIT_IRQCHIP else real(self, number))
    with pytest.raises(UserError, match="kernel-irqchip=split: KVM on this host has no such interrupt controllers"):
        program("timers", tmp_path, irqchip="split")


def test_kvmclock_is_virtual_time(tmp_path: Path) -> None:
    """It stands while the machine does."""
    guest = program("timers", tmp_path)
    machine = guest.machine
    readings: list[tuple[int, int]] = []

    def until(running: bool) -> None:
        while machine.clock.running != running:
            time.sleep(0.001)

    def stand() -> None:
        until(True)
        machine.pause()
        until(False)
        time.sleep(0.4)
        machine.resume()
        until(True)
        machine.post(read)

    def read() -> None:
        before, clock = machine.clock.now(), api.ClockData()
        api.ioctl(guest.vm.fd, api.GET_CLOCK, clock)
        readings.append((before, clock.clock))

    assert guest.run(stand) == console.PASS
    virtual, kvms = readings[0]
    assert abs(kvms - virtual) < 200_000_000  # half of the time that it stood
