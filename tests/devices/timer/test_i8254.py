"""The 8254: its modes, latches and the interrupts of counter 0."""

import pytest

from exuvia.devices.timer.i8254 import FREQUENCY, I8254
from tests.devices.timing import ManualClock


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pit = I8254(clock=self.clock)
        self.edges: list[int] = []
        self.pit.irq.connect(lambda level: self.edges.append(self.clock.time) if level else None)

    def program(self, counter: int, mode: int, count: int) -> None:
        self.pit.write(3, 1, counter << 6 | 0x30 | mode << 1)
        self.pit.write(counter, 1, count & 0xFF)
        self.pit.write(counter, 1, count >> 8)
        self.edges.clear()

    def clocks(self, count: int) -> None:
        self.clock.advance(-(-count * 1_000_000_000 // FREQUENCY))

    def value(self, counter: int) -> int:
        self.pit.write(3, 1, counter << 6)
        return self.pit.read(counter, 1) | self.pit.read(counter, 1) << 8

    def out2(self) -> bool:
        return bool(self.pit.read(4, 1) & 0x20)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("mode", [2, 3, 6, 7])
def test_periodic_interrupts_do_not_drift(rig: Rig, mode: int) -> None:
    rig.program(0, mode, 11932)  # 100 Hz
    for _ in range(100):
        rig.clock.advance(9_999_000)
        rig.clock.time += 1_000  # late
        rig.clock.run_due()
    rig.clock.advance(2_000_000)
    assert len(rig.edges) == 100
    period = 11932 * 1_000_000_000 / FREQUENCY
    assert all(-1 < at - number * period < 2_100 for number, at in enumerate(rig.edges, 1))


@pytest.mark.parametrize(("stall", "then", "ticks"), [(8, 10, 28), (200, 70, 280), (2000, 10, 20)])
def test_ticks_that_a_busy_host_is_late_with_follow(rig: Rig, stall: int, then: int, ticks: int) -> None:
    """Guests count ticks (Linux refuses to boot where too few come). What is older than a quarter of a second is lost. Times in ms."""
    rig.program(0, 2, 1193)  # 1 kHz
    rig.clock.advance(10_100_000)
    rig.clock.time += stall * 1_000_000
    rig.clock.advance(then * 1_000_000)
    assert len(rig.edges) == pytest.approx(ticks, abs=1)
    assert min(b - a for a, b in zip(rig.edges, rig.edges[1:])) >= 249_000


@pytest.mark.parametrize("count", range(1, 9))
def test_a_one_shot_interrupt_while_time_goes_on(rig: Rig, count: int) -> None:
    """It is due while the guest's write is still being handled."""
    read = rig.clock.now

    def now() -> int:
        rig.clock.time += 1_000
        return read()

    rig.clock.now = now  # type: ignore[method-assign]
    rig.pit.write(3, 1, 0x10)
    rig.edges.clear()
    rig.pit.write(0, 1, count)
    rig.clock.advance(100_000)
    assert len(rig.edges) == 1


@pytest.mark.parametrize(("mode", "clocks"), [(0, 1000), (4, 1001)])
def test_one_shot_interrupts(rig: Rig, mode: int, clocks: int) -> None:
    rig.program(0, mode, 1000)
    rig.clocks(clocks - 1)
    assert rig.edges == []
    rig.clocks(100_000)
    assert len(rig.edges) == 1
    assert abs(rig.edges[0] - clocks * 1_000_000_000 / FREQUENCY) < 2


def test_counter_2_with_its_gate(rig: Rig) -> None:
    rig.pit.write(4, 1, 1)
    rig.program(2, 0, 1000)
    assert not rig.out2()
    rig.clocks(400)
    rig.pit.write(4, 1, 0)
    rig.clocks(10_000)
    assert abs(rig.value(2) - 600) <= 1
    rig.pit.write(4, 1, 1)
    rig.clocks(590)
    assert not rig.out2()
    rig.clocks(20)
    assert rig.out2()
    assert rig.value(2) > 0xFF00  # it counts on past zero


@pytest.mark.parametrize("mode", [1, 5])
def test_hardware_triggered(rig: Rig, mode: int) -> None:
    rig.program(2, mode, 1000)
    rig.clocks(5000)
    assert rig.out2()
    rig.pit.write(4, 1, 1)
    rig.clocks(500)
    assert rig.out2() == (mode == 5)
    rig.pit.write(4, 1, 0)
    rig.pit.write(4, 1, 1)
    rig.clocks(900)
    assert rig.out2() == (mode == 5)
    rig.clocks(200)
    assert rig.out2()


def test_square_wave(rig: Rig) -> None:
    rig.pit.write(4, 1, 1)
    rig.program(2, 3, 1001)
    rig.clocks(500)
    assert rig.out2()
    rig.clocks(2)
    assert not rig.out2()
    rig.clocks(498)
    assert not rig.out2()
    rig.clocks(2)
    assert rig.out2()


def test_a_new_rate_waits_for_the_period_s_end(rig: Rig) -> None:
    rig.program(0, 2, 10_000)
    rig.clocks(5_000)
    rig.pit.write(0, 1, 0xE8)
    rig.pit.write(0, 1, 0x03)  # 1000
    assert rig.value(0) > 4_000
    rig.clocks(7_010)
    assert len(rig.edges) == 3
    assert rig.value(0) <= 1000


def test_latch_and_read_back(rig: Rig) -> None:
    rig.program(0, 2, 50_000)
    rig.pit.write(3, 1, 0xC2)  # status and count of counter 0
    rig.clocks(1000)
    assert rig.pit.read(0, 1) == 0xB4  # OUT, loaded, both bytes, mode 2
    assert rig.pit.read(0, 1) | rig.pit.read(0, 1) << 8 == 50_000
    assert abs(rig.value(0) - 49_000) <= 1
    rig.pit.write(3, 1, 0x34)
    rig.pit.write(3, 1, 0xE2)
    assert rig.pit.read(0, 1) == 0xF4  # null count


def test_byte_access_and_bcd(rig: Rig) -> None:
    rig.pit.write(3, 1, 0x15)  # counter 0, low byte, mode 2, BCD
    rig.pit.write(0, 1, 0x99)
    assert rig.pit.read(0, 1) == 0x99
    rig.clocks(9)
    assert rig.pit.read(0, 1) == 0x90


def test_a_tiny_period_leaves_time(rig: Rig) -> None:
    rig.program(0, 2, 1)
    rig.clock.advance(1_000_000)
    assert len(rig.edges) <= 51
