"""A processor of KVM's among the machine's threads: kicks, pauses, resets, somebody who looks while it runs, and errors."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import api
from exuvia.vcpu.kvm.vcpu import KICK
from tests.guests import console
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import Guest, program

pytestmark = [host.needs_kvm, needs_binutils]


@pytest.mark.parametrize("irqchip", ["off", "split", "on"])
@pytest.mark.parametrize(("name", "smp"), [("timers", 1), ("smp_start", 4)])
def test_disturbed(name: str, smp: int, irqchip: str, tmp_path: Path) -> None:
    """Kicked, paused, and looked at, all the while: nothing is lost."""
    guest = program(name, tmp_path, irqchip=irqchip, smp=smp)
    machine, r, seen = guest.machine, random.Random(1), []

    def look() -> None:
        seen.append(machine.vcpus[r.randrange(smp)].describe())  # type: ignore[attr-defined]

    def disturb() -> None:
        while not guest.over.is_set():
            time.sleep(r.random() / 30)
            what = r.randrange(4)
            if what == 0:
                r.choice(machine.vcpus).kick()
            elif what == 1:
                machine.pause()
                time.sleep(r.random() / 200)
                machine.resume()
            else:
                machine.post(look)

    assert guest.run(disturb) == console.PASS
    assert guest.text == console.expected(name)
    assert any("RIP=" in text for text in seen)
    assert KICK not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_reset_begins_again(tmp_path: Path) -> None:
    guest = program("limits", tmp_path)
    object.__setattr__(guest.machine.config, "no_reboot", False)
    resets: list[bool] = []

    def reset() -> None:
        while not guest.text and not guest.over.is_set():
            time.sleep(0.001)
        resets.append(True)
        guest.machine.request_reset()

    assert guest.run(reset) == console.PASS
    assert resets
    assert guest.text.endswith(console.expected("limits"))
    assert len(guest.text) > len(console.expected("limits"))


def test_a_kick_before_the_run_is_remembered(tmp_path: Path) -> None:
    guest = program("timers", tmp_path)
    cpu: Any = guest.machine.vcpus[0]
    guest.machine.reset()
    cpu.kick()
    cpu.run()
    assert sum(cpu.exits.values()) == 0
    guest.vm.close()


class Failing(Guest):
    """KVM comes back for something that ends the machine."""

    def failure(self, reason: int, suberror: int = 0) -> str:
        cpu: Any = self.machine.vcpus[0]

        def come_back(fd: int) -> int:
            cpu.shared.exit_reason, cpu.internal.suberror, cpu.internal.ndata = reason, suberror, 0
            return 0

        cpu.__dict__["native_run"] = come_back
        with pytest.raises(UserError) as caught:
            self.run()
        return str(caught.value)


@pytest.mark.parametrize(
    ("reason", "suberror", "text"),
    [
        (api.EXIT_FAIL_ENTRY, 0x80000021, "the host's processor refuses its state (reason 0x80000021)"),
        (api.EXIT_INTERNAL_ERROR, 3, "an error in KVM (3)"),
        (0, 7, "the host's processor stopped for an unknown reason (0x7)"),
        (99, 0, "KVM came back for a reason that is not known (99)"),
    ],
)
def test_errors_are_one_line(reason: int, suberror: int, text: str, tmp_path: Path) -> None:
    said = Failing(console.assemble("timers", tmp_path)).failure(reason, suberror)
    assert said.startswith("cpu 0") and said.endswith(text) and "\n" not in said


def test_a_triple_fault_resets(tmp_path: Path) -> None:
    """With -no-reboot the machine ends."""
    guest = program("timers", tmp_path)
    cpu: Any = guest.machine.vcpus[0]

    def come_back(fd: int) -> int:
        cpu.shared.exit_reason = api.EXIT_SHUTDOWN
        return 0

    cpu.__dict__["native_run"] = come_back
    assert guest.run() == 0


def test_instructions_that_kvm_cannot_emulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are done in software, and that is said once."""
    guest = program("exceptions", tmp_path)
    assert guest.run() == console.PASS
    assert guest.text == console.expected("exceptions")
    helped = guest.vm.help.instructions
    said = capsys.readouterr().err
    assert (said.count("the software processor does such instructions"), said.count("\n")) == ((1, 1) if helped else (0, 0))
    if host.KINDS:
        assert helped > 10
