"""The machine's loop, driven by processors that are generators."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from exuvia.machines.config import MachineConfig
from exuvia.machines.machine import Machine
from exuvia.support.errors import UserError
from tests.machines.fake import FakeVcpu

pytestmark = pytest.mark.timeout(10)

Program = Callable[[FakeVcpu], Iterator[str]]


class Bare(Machine):
    """A machine of processors only."""

    def __init__(self, config: MachineConfig, *programs: Program) -> None:
        super().__init__(config)
        self.fakes = [FakeVcpu(n, program) for n, program in enumerate(programs)]
        self.vcpus.extend(self.fakes)
        if len(programs) > 1:
            for fake in self.fakes:
                fake.native_run = self.apart(fake.index, fake.native_run)
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


def test_processors_run_at_the_same_time() -> None:
    """Each waits, as in native code, for the other."""
    met = threading.Barrier(2, timeout=5)
    threads: set[threading.Thread] = set()

    def program(cpu: FakeVcpu) -> Iterator[str]:
        cpu.native_run = machine.apart(cpu.index, lambda _: met.wait() >= 0)
        threads.add(threading.current_thread())
        if cpu.index == 0:
            machine.alone(lambda: machine.fakes[1].start(8))
            yield ""
        for _ in range(3):
            yield "spin"
        machine.exit(0)
        yield "hlt"

    machine = Bare(MachineConfig(smp=2), program, program)
    assert machine.run() == 0
    assert len(threads) == 2
    assert not any(thread.is_alive() for thread in threads)


def test_a_machine_can_be_ended_while_everything_is_halted() -> None:
    machine = Bare(MachineConfig(), forever("hlt"))
    other = threading.Timer(0.02, lambda: machine.exit(9))
    other.start()
    assert machine.run() == 9
    other.join()


# -- several processors


class Several(Bare):
    """Four processors that run until they are kicked; `inside` are those that do."""

    def __init__(self, config: MachineConfig, program: Program) -> None:
        super().__init__(config, program, program, program, program)
        self.inside: set[int] = set()
        for fake in self.fakes:
            fake.native_run = self.apart(fake.index, self.entered(fake))

    def entered(self, fake: FakeVcpu) -> Callable[[float], bool]:
        def run(timeout: float) -> bool:
            self.inside.add(fake.index)
            kicked = fake.kicked.wait(timeout)
            self.inside.discard(fake.index)
            return kicked

        return run

    def boot(self) -> None:
        super().boot()
        assert not self.inside, "a reset while processors run"
        for fake in self.fakes:
            fake.halted = False

    def until_all_run(self) -> None:
        end = time.monotonic() + 5
        while len(self.inside) < 4:
            assert time.monotonic() < end, self.inside
            time.sleep(0.001)


def outside(machine: Several, *steps: Callable[[], object]) -> int:
    """Runs the machine and takes each step once all processors run; the status. No thread is left."""
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            for step in steps:
                machine.until_all_run()
                step()
        except BaseException as error:
            failures.append(error)
            machine.exit(99)

    threads = set(threading.enumerate())
    other = threading.Thread(target=drive)
    other.start()
    status = machine.run()
    other.join()
    assert not failures, failures
    assert set(threading.enumerate()) == threads
    return status


def test_resets_while_all_run() -> None:
    machine = Several(MachineConfig(smp=4), forever("spin"))
    resets = [machine.request_reset] * 20
    again: list[Callable[[], object]] = []
    for reset in resets:
        again += [reset, lambda: time.sleep(0.002)]
    assert outside(machine, *again, lambda: machine.exit(3)) == 3
    assert 10 <= machine.boots <= 21  # two requests may be one reset


def test_pause_while_all_run() -> None:
    machine = Several(MachineConfig(smp=4), forever("spin"))
    times: list[int] = []

    def stand() -> None:
        machine.pause()
        end = time.monotonic() + 5
        while machine.status != "paused":
            assert time.monotonic() < end
            time.sleep(0.001)
        times.append(machine.clock.now())
        assert not machine.inside
        time.sleep(0.02)
        times.append(machine.clock.now())
        assert not machine.inside
        machine.resume()

    assert outside(machine, stand, stand, lambda: machine.exit(0)) == 0
    assert times[0] == times[1] < times[2] == times[3]


@pytest.mark.parametrize(("end", "status"), [(Machine.request_shutdown, 0), (lambda machine: machine.exit(7), 7)])
def test_an_end_while_all_run(end: Callable[[Machine], object], status: int) -> None:
    machine = Several(MachineConfig(smp=4), forever("spin"))
    assert outside(machine, lambda: end(machine)) == status
    assert not machine.inside


def test_guest_time_stands_while_the_host_compiles_for_one_of_several() -> None:
    """The others leave native code, although they are in the middle of something."""
    machine = Several(MachineConfig(smp=4), forever("spin"))
    seen: list[tuple[set[int], int]] = []

    def compile_something() -> None:
        with machine.standstill():
            before = machine.clock.now()
            time.sleep(0.02)
            seen.append((set(machine.inside), machine.clock.now() - before))

    assert outside(machine, lambda: machine.post(compile_something), lambda: time.sleep(0.05), lambda: machine.exit(0)) == 0
    assert seen == [(set(), 0)]


def test_timers_and_posted_work_disturb_no_processor() -> None:
    machine = Several(MachineConfig(smp=4), forever("spin"))
    fired: list[int] = []
    timer = machine.clock.timer(lambda: fired.append(sum(fake.runs for fake in machine.fakes)))

    def work() -> None:
        fired.append(sum(fake.runs for fake in machine.fakes))
        timer.set(machine.clock.now() + 2_000_000)

    def wait() -> None:
        end = time.monotonic() + 5
        while len(fired) < 2:
            assert time.monotonic() < end
            time.sleep(0.001)
        machine.exit(0)

    assert outside(machine, lambda: machine.post(work), wait) == 0
    assert fired == [4, 4]


def test_an_error_in_a_processors_thread_ends_the_machine() -> None:
    def program(cpu: FakeVcpu) -> Iterator[str]:
        yield "spin" if cpu.index else ""
        if cpu.index == 0:
            machine.until_all_others_run()
            raise UserError("no more")
        while True:
            yield "spin"

    class Others(Several):
        def until_all_others_run(self) -> None:
            fake = self.fakes[0]
            fake.native_run = self.apart(0, lambda _: all(self.waited(n) for n in (1, 2, 3)))
            assert fake.native_run(0)

        def waited(self, index: int) -> bool:
            end = time.monotonic() + 5
            while index not in self.inside and time.monotonic() < end:
                time.sleep(0.001)
            return index in self.inside

    machine = Others(MachineConfig(smp=4), program)
    with pytest.raises(UserError, match="no more"):
        machine.run()
    assert not machine.inside
