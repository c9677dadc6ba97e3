"""The machine's loop, driven by processors that are generators."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from exuvia.machines.config import MachineConfig
from exuvia.machines.machine import Machine
from tests.machines.fake import FakeVcpu

pytestmark = pytest.mark.timeout(10)

Program = Callable[[FakeVcpu], Iterator[str]]


class Bare(Machine):
    """A machine of processors only."""

    def __init__(self, config: MachineConfig, *programs: Program) -> None:
        super().__init__(config)
        self.fakes = [FakeVcpu(n, program) for n, program in enumerate(programs)]
        self.vcpus.extend(self.fakes)
        self.boots = 0

    def boot(self) -> None:
        self.boots += 1


def forever(what: str) -> Program:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        while True:
            yield what

    return program


def test_exit_from_the_guest() -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        machine.exit(7)
        yield ""

    machine = Bare(MachineConfig(no_shutdown=True), program)
    assert machine.run() == 7
    assert machine.fakes[0].runs == 1


def test_a_timer_kicks_a_running_processor() -> None:
    machine = Bare(MachineConfig(), forever("spin"))
    fired: list[int] = []

    def due() -> None:
        fired.append(machine.clock.now())
        if len(fired) == 3:
            machine.exit(0)
        else:
            timer.set(machine.clock.now() + 2_000_000)

    timer = machine.clock.timer(due)
    timer.set(2_000_000)
    assert machine.run() == 0
    assert [round(b - a, -6) >= 2_000_000 for a, b in zip([0, *fired], fired, strict=False)] == [True] * 3


def test_a_timer_armed_while_the_processor_runs_is_noticed() -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        timer.set(machine.clock.now() + 1_000_000)  # as a device does on a port write
        yield "spin"
        yield "spin"

    machine = Bare(MachineConfig(), program)
    timer = machine.clock.timer(lambda: machine.exit(3))
    assert machine.run() == 3


def test_a_halted_machine_sleeps_until_the_timer() -> None:
    machine = Bare(MachineConfig(), forever("hlt"))
    cpu = machine.fakes[0]

    def acknowledge() -> int:
        cpu.interrupt(False)
        machine.exit(0)
        return 0x20

    cpu.acknowledge = acknowledge
    timer = machine.clock.timer(lambda: cpu.interrupt(True))
    timer.set(30_000_000)
    before = time.process_time()
    assert machine.run() == 0
    assert time.process_time() - before < 0.025, "it was busy while it should have slept"
    assert cpu.taken == [0x20]
    assert cpu.runs == 2


@pytest.mark.parametrize("what", ["hlt", "spin"])
def test_a_timer_centuries_ahead(what: str) -> None:
    """As an HPET comparator of 64 bits can be."""
    machine = Bare(MachineConfig(), forever(what))
    machine.clock.timer(lambda: None).set(10 << 64)
    other = threading.Timer(0.05, lambda: machine.exit(4))
    other.start()
    assert machine.run() == 4
    other.join()


def test_guest_time_stands_while_the_host_compiles() -> None:
    """And goes on: the timer that was armed before is still noticed."""
    stood: list[int] = []

    def program(cpu: FakeVcpu) -> Iterator[str]:
        timer.set(machine.clock.now() + 20_000_000)
        before = machine.clock.now()
        with machine.standstill(), machine.standstill():
            time.sleep(0.1)
        stood.append(machine.clock.now() - before)
        yield "spin"

    machine = Bare(MachineConfig(), program)
    timer = machine.clock.timer(lambda: machine.exit(3))
    with machine.standstill():
        assert not machine.clock.running
    assert not machine.clock.running
    assert machine.run() == 3
    assert stood[0] < 80_000_000


def test_posted_work_runs_in_the_machine_thread() -> None:
    machine = Bare(MachineConfig(), forever("spin"))
    where: list[threading.Thread] = []

    def work() -> None:
        where.append(threading.current_thread())
        machine.exit(0)

    other = threading.Timer(0.01, lambda: machine.post(work))
    other.start()
    assert machine.run() == 0
    assert where == [threading.current_thread()]
    other.join()


@pytest.mark.parametrize("no_reboot", [False, True])
def test_reset(no_reboot: bool) -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        if cpu.resets == 2:
            machine.exit(5)
        else:
            machine.request_reset()
        yield ""

    machine = Bare(MachineConfig(no_reboot=no_reboot), program)
    assert machine.run() == (0 if no_reboot else 5)
    assert machine.boots == (1 if no_reboot else 2)


def test_no_shutdown_keeps_a_stopped_machine_which_resume_resets() -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        if cpu.resets == 2:
            machine.exit(0)
        else:
            machine.request_shutdown()
        yield ""

    machine = Bare(MachineConfig(no_shutdown=True), program)
    seen: list[str] = []

    def look() -> None:
        seen.append(machine.status)
        machine.resume()

    other = threading.Timer(0.05, look)
    other.start()
    assert machine.run() == 0
    assert seen == ["shutdown"]
    other.join()


def test_pause_stops_processor_and_clock() -> None:
    machine = Bare(MachineConfig(), forever("spin"))
    times: list[int] = []

    def outside() -> None:
        time.sleep(0.01)
        machine.pause()
        time.sleep(0.02)
        times.append(machine.clock.now())
        runs = machine.fakes[0].runs
        time.sleep(0.02)
        times.append(machine.clock.now())
        assert machine.fakes[0].runs == runs
        machine.resume()
        time.sleep(0.01)
        times.append(machine.clock.now())
        machine.exit(0)

    other = threading.Thread(target=outside)
    other.start()
    assert machine.run() == 0
    other.join()
    assert times[0] == times[1] < times[2]


def test_a_timer_goes_on_after_a_pause() -> None:
    machine = Bare(MachineConfig(), forever("spin"))
    timer = machine.clock.timer(lambda: machine.exit(6))
    timer.set(60_000_000)

    def outside() -> None:
        time.sleep(0.02)
        machine.pause()
        time.sleep(0.1)
        machine.resume()

    other = threading.Thread(target=outside)
    other.start()
    assert machine.run() == 6
    other.join()


def test_paused_at_the_start() -> None:
    machine = Bare(MachineConfig(paused=True), forever("hlt"))
    other = threading.Timer(0.02, lambda: machine.exit(0))
    other.start()
    assert machine.run() == 0
    assert machine.fakes[0].runs == 0
    other.join()


def test_processors_take_turns() -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        if cpu.index == 0:
            machine.fakes[1].start(8)
        for _ in range(3):
            order.append(cpu.index)
            yield "spin"
        machine.exit(0)
        yield ""

    order: list[int] = []
    machine = Bare(MachineConfig(smp=2), program, program)
    assert machine.run() == 0
    assert order == [0, 1, 0, 1, 0, 1]


def test_a_machine_can_be_ended_while_everything_is_halted() -> None:
    machine = Bare(MachineConfig(), forever("hlt"))
    other = threading.Timer(0.02, lambda: machine.exit(9))
    other.start()
    assert machine.run() == 9
    other.join()
