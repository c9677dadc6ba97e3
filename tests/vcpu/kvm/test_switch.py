"""A running guest goes on with another accelerator's processors, and back: registers, memory, interrupts on their way, timers."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from exuvia.isa.x86.rare import msr
from exuvia.vcpu import accelerators
from exuvia.vcpu.accelerators import Unavailable
from tests.guests import console
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import Guest, program

pytestmark = [host.needs_kvm, needs_binutils]
soak = pytest.mark.soak


def switch_about(guest: Guest, seed: int) -> dict[str, int]:
    """Runs the guest and switches all the while; how often to which."""
    r, machine, count = random.Random(seed), guest.machine, dict.fromkeys(("kvm", "software"), 0)
    failures: list[Exception] = []

    def switch() -> None:
        name = "software" if machine.accelerator == "kvm" else "kvm"
        try:
            accelerators.switch(machine, name)
        except Exception as error:
            failures.append(error)
            machine.exit(99)
        count[name] += 1

    def beside() -> None:
        while not guest.over.is_set():
            machine.post(lambda: machine.alone(switch))
            time.sleep(r.random() / 20)

    status = guest.run(beside)
    assert not failures, failures
    assert status == console.PASS, guest.text
    return count


@pytest.mark.parametrize(
    ("name", "irqchip", "first"),
    [
        ("limits", "off", "kvm"),
        ("timers", "off", "software"),
        ("smp_start", "off", "kvm"),
        pytest.param("smp_tlb", "off", "kvm", marks=soak),
        ("timers", "split", "kvm"),
        pytest.param("smp_start", "split", "kvm", marks=soak),
        pytest.param("smp_tlb", "split", "software", marks=soak),
        ("timers", "on", "software"),
        ("smp_start", "on", "kvm"),
        pytest.param("smp_tlb", "on", "kvm", marks=soak),
    ],
)
def test_there_and_back_while_it_runs(name: str, irqchip: str, first: str, tmp_path: Path) -> None:
    words = console.options(name)
    smp = int(words[words.index("-smp") + 1]) if "-smp" in words else 1
    guest = program(name, tmp_path, accel=first, irqchip=irqchip, smp=smp)
    count = switch_about(guest, 1)
    assert guest.text == console.expected(name)
    assert min(count.values()) >= 2


def refusal(guest: Guest) -> str:
    """Why the guest cannot go on with the other accelerator, and that it goes on without."""
    machine, said = guest.machine, []

    def switch() -> None:
        before = list(machine.vcpus)
        with pytest.raises(Unavailable) as refused:
            accelerators.switch(machine, "software" if machine.accelerator == "kvm" else "kvm")
        said.append(str(refused.value))
        assert machine.vcpus == before

    machine.post(lambda: machine.alone(switch))
    assert guest.run() == console.PASS
    return said[0]


def test_no_switch_to_a_processor_that_lacks_something(tmp_path: Path) -> None:
    guest = program("timers", tmp_path, accel="software", cpu="max")
    model = guest.machine.vcpus[0].model  # type: ignore[attr-defined]
    model.features |= {"a feature of tomorrow"}
    said = refusal(guest)
    assert said.startswith("it lacks features that the guest was shown: ")
    assert "a feature of tomorrow" in said


def test_no_switch_under_kvmclock(tmp_path: Path) -> None:
    """The guest has it, and the software processor has none."""
    guest = program("timers", tmp_path)

    def switch_on() -> None:
        vcpu = guest.machine.vcpus[0]
        vcpu.fetch()  # type: ignore[attr-defined]
        msr.stored(vcpu)[0x4B564D01] = 0x2000 | 1  # type: ignore[arg-type]

    guest.machine.post(switch_on)
    assert refusal(guest) == "the guest uses kvmclock, which only KVM has"
