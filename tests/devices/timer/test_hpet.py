"""The HPET: counter, one-shot and periodic comparators, legacy replacement."""

import pytest

from exuvia.devices.timer.hpet import Hpet
from tests.devices.timing import ManualClock


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.hpet = Hpet(clock=self.clock)
        self.edges: dict[str, list[int]] = {}
        for name in ("out0", "out1", "out2", "legacy0", "legacy1"):
            seen = self.edges[name] = []
            getattr(self.hpet, name).connect(lambda level, seen=seen: seen.append(self.clock.time) if level else None)

    def write(self, offset: int, value: int) -> None:
        self.hpet.write(offset, 4, value)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_counter(rig: Rig) -> None:
    assert rig.hpet.read(0, 8) >> 32 == 10_000_000  # femtoseconds
    rig.clock.advance(1000)
    assert rig.hpet.read(0xF0, 8) == 0
    rig.hpet.write(0xF0, 8, 0xFFFFFFFF)
    rig.write(0x10, 1)
    rig.clock.advance(1000)
    assert rig.hpet.read(0xF0, 8) == 0xFFFFFFFF + 100
    assert rig.hpet.read(0xF4, 4) == 1
    rig.write(0x10, 0)
    rig.clock.advance(1000)
    assert rig.hpet.read(0xF0, 4) == 99


def test_one_shot_edge(rig: Rig) -> None:
    rig.write(0x10, 1)
    rig.write(0x140, 0x104)
    rig.write(0x148, 500)
    rig.clock.advance(4_999)
    assert rig.edges["out2"] == []
    rig.clock.advance(100_000_000)
    assert rig.edges["out2"] == [5_000]
    assert rig.hpet.read(0x20, 4) == 0


def test_periodic_as_linux_programs_it(rig: Rig) -> None:
    rig.write(0x10, 3)
    rig.write(0x100, 0x14C)  # enabled, periodic, VAL_SET, 32 bits
    rig.write(0x108, 200_000)
    rig.write(0x108, 100_000)
    rig.clock.advance(9_500_000)
    assert rig.edges["legacy0"] == [2_000_000 + 1_000_000 * number for number in range(8)]
    assert rig.edges["out0"] == []


def test_matches_that_a_busy_host_is_late_with_follow(rig: Rig) -> None:
    rig.write(0x10, 3)
    rig.write(0x100, 0x14C)
    rig.write(0x108, 100_000)
    rig.write(0x108, 100_000)  # 1 kHz
    rig.clock.advance(10_100_000)
    rig.clock.time += 8_000_000
    rig.clock.advance(10_000_000)
    assert len(rig.edges["legacy0"]) == 28
    rig.clock.time += 2_000_000_000
    rig.clock.advance(10_000_000)
    assert len(rig.edges["legacy0"]) == pytest.approx(39, abs=1)


def test_periodic_while_time_goes_on(rig: Rig) -> None:
    """A match is late and the next one comes due while it is handled: none is missed for good."""
    rig.write(0x10, 1)
    rig.write(0x100, 0x14C)
    rig.write(0x108, 10_000)
    rig.write(0x108, 3_000)  # 30 us
    read = rig.clock.now

    def now() -> int:
        rig.clock.time += 11_000
        return read()

    rig.clock.now = now  # type: ignore[method-assign]
    for _ in range(100):
        rig.clock.advance(100_000)
    gaps = [b - a for a, b in zip(rig.edges["out0"], rig.edges["out0"][1:], strict=False)]
    assert len(gaps) > 90
    assert max(gaps) < 250_000


def test_level(rig: Rig) -> None:
    rig.write(0x10, 1)
    rig.write(0x120, 0x106)
    rig.write(0x128, 100)
    rig.clock.advance(2_000)
    assert rig.hpet.out1.level
    assert rig.hpet.read(0x20, 4) == 2
    rig.write(0x20, 2)
    assert (rig.hpet.out1.level, rig.hpet.read(0x20, 4)) == (False, 0)


def test_legacy_replacement_takes_the_place_of_the_8254(rig: Rig) -> None:
    pit = rig.hpet.input(0)
    pit(True)
    assert len(rig.edges["legacy0"]) == 1
    rig.write(0x10, 2)
    assert not rig.hpet.legacy0.level
    pit(False)
    pit(True)
    assert len(rig.edges["legacy0"]) == 1
    rig.write(0x10, 0)
    assert rig.hpet.legacy0.level


def test_a_tiny_period_leaves_time(rig: Rig) -> None:
    rig.write(0x10, 1)
    rig.write(0x100, 0x14C)
    rig.write(0x108, 1)
    rig.write(0x108, 1)
    rig.clock.advance(1_000_000)
    assert 1 < len(rig.edges["out0"]) <= 51
