"""The real-time clock: formats, setting, interrupts."""

import pytest

from exuvia.devices.timer.mc146818 import Mc146818
from exuvia.support.errors import UserError
from tests.devices.timing import ManualClock, high


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.rtc = Mc146818(clock=self.clock, base="2026-11-22T23:59:58")

    def read(self, at: int) -> int:
        self.rtc.write(0, 1, at)
        return self.rtc.read(1, 1)

    def write(self, at: int, value: int) -> None:
        self.rtc.write(0, 1, at)
        self.rtc.write(1, 1, value)

    def date(self) -> list[int]:
        return [self.read(at) for at in (0x32, 9, 8, 7, 4, 2, 0)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_formats(rig: Rig) -> None:
    assert rig.date() == [0x20, 0x26, 0x11, 0x22, 0x23, 0x59, 0x58]
    assert rig.read(6) == 1  # a Sunday
    rig.clock.advance(2_000_000_000)
    assert rig.date() == [0x20, 0x26, 0x11, 0x23, 0x00, 0x00, 0x00]
    rig.write(11, 0x04)
    assert rig.date() == [20, 26, 11, 23, 12, 0, 0]
    rig.clock.advance(13 * 3600 * 1_000_000_000)
    assert rig.read(4) == 0x81


def test_setting(rig: Rig) -> None:
    rig.write(11, 0x82)
    for at, value in ((0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x59)):
        rig.write(at, value)
    rig.clock.advance(5_000_000_000)
    assert rig.date() == [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]
    rig.write(11, 0x02)
    rig.clock.advance(1_000_000_000)
    assert rig.date() == [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00]


def test_nonsense_is_survived(rig: Rig) -> None:
    rig.write(11, 0x82)
    for at in (0x32, 9, 8, 7, 4, 2, 0):
        rig.write(at, 0xFF)
    rig.write(11, 0x02)
    assert rig.date()[:2] == [0x20, 0x26]


def test_update_in_progress(rig: Rig) -> None:
    assert not rig.read(10) & 0x80
    rig.clock.advance(999_800_000)
    assert rig.read(10) & 0x80
    rig.clock.advance(300_000)
    assert not rig.read(10) & 0x80


def test_who_polls_sees_an_update_that_the_host_slept_through(rig: Rig) -> None:
    rig.clock.advance(999_000_000)
    assert not rig.read(10) & 0x80
    rig.clock.advance(2_000_000)
    assert [rig.read(10) & 0x80 for _ in range(3)] == [0x80, 0, 0]
    rig.clock.advance(1_000_000_000)
    assert not rig.read(10) & 0x80, "nobody looked for that one"


def test_who_waits_for_an_update_leaves_the_host_to_others(rig: Rig) -> None:
    rests: list[int] = []
    rig.clock.rest = rests.append  # type: ignore[assignment, method-assign]
    for _ in range(100):
        assert not rig.read(10) & 0x80
    assert not rests
    rig.read(10)
    rig.read(10)
    assert len(rests) == 2
    rig.read(0)
    rig.read(10)
    assert len(rests) == 2
    for _ in range(101):
        rig.read(10)
    rig.clock.advance(999_500_000)
    del rests[:]
    assert not rig.read(10) & 0x80
    assert not rests, "the update is near"


def test_update_and_alarm_interrupts(rig: Rig) -> None:
    rig.write(11, 0x12)
    rig.clock.advance(1_000_000_000)
    assert high(rig.rtc.irq)
    assert rig.read(12) & 0xB0 == 0x90
    assert not high(rig.rtc.irq)
    rig.write(11, 0x22)
    for at, value in ((1, 0x05), (3, 0xC0), (5, 0xFF)):
        rig.write(at, value)
    rig.clock.advance(5_900_000_000)
    assert not high(rig.rtc.irq)
    rig.clock.advance(100_000_000)
    assert high(rig.rtc.irq)
    assert rig.read(12) & 0xA0 == 0xA0


def test_periodic_interrupts(rig: Rig) -> None:
    rig.read(12)
    rig.write(10, 0x26)  # 1024 Hz
    rig.write(11, 0x42)
    count = 0
    for _ in range(10_000):
        rig.clock.advance(100_000)
        if high(rig.rtc.irq):
            count += 1
            assert rig.read(12) & 0xC0 == 0xC0
    assert count == 1024


def test_memory_and_ram(rig: Rig) -> None:
    rig.rtc.set_memory(512 << 20, 1 << 30)
    assert rig.read(0x34) | rig.read(0x35) << 8 == 496 << 4
    assert rig.read(0x5C) == 0x40
    rig.write(0x40, 0x5A)
    rig.rtc.reset()
    assert rig.read(0x40) == 0x5A
    assert rig.read(13) == 0x80


def test_bad_base() -> None:
    with pytest.raises(UserError, match="not 'tomorrow'"):
        Mc146818(base="tomorrow")
