"""PL031: seconds, setting, the match interrupt."""

from exuvia.devices.timer.pl031 import Pl031
from tests.devices.timing import ManualClock, high

SECOND = 1_000_000_000


def test_it_counts_and_can_be_set() -> None:
    clock = ManualClock()
    rtc = Pl031(clock=clock, base="2026-11-22T10:00:00")
    assert rtc.read(0, 4) == 1795341600
    clock.advance(90 * SECOND)
    assert rtc.read(0, 4) == 1795341690
    rtc.write(8, 4, 1000)
    rtc.reset()
    clock.advance(SECOND)
    assert rtc.read(0, 4) == 1001, "the battery's"
    assert [rtc.read(0xFF0 + 4 * n, 4) for n in range(4)] == [0x0D, 0xF0, 0x05, 0xB1]


def test_the_match() -> None:
    clock = ManualClock()
    rtc = Pl031(clock=clock, base="2026-11-22T10:00:00.5")
    rtc.write(0x10, 4, 1)
    rtc.write(8, 4, 100)
    clock.advance(SECOND // 2)
    rtc.write(4, 4, 105)
    clock.advance(4 * SECOND)
    assert not high(rtc.irq)
    clock.advance(SECOND // 2)
    assert high(rtc.irq)
    assert rtc.read(0x18, 4) == 1
    rtc.write(0x1C, 4, 1)
    assert not high(rtc.irq)
    assert rtc.read(0x14, 4) == 0
    rtc.write(4, 4, 105)
    assert high(rtc.irq), "it is there already"
