"""Virtual time and its timers."""

import itertools

import pytest

from exuvia.vcpu.clock import Clock


class Rig:
    def __init__(self) -> None:
        self.time = 1_000_000
        self.clock = Clock(lambda: self.time)
        self.fired: list[str] = []


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_time_stands_still_while_paused(rig: Rig) -> None:
    rig.time += 50
    assert rig.clock.now() == 0
    rig.clock.resume()
    rig.time += 100
    rig.clock.pause()
    rig.time += 1000
    assert rig.clock.now() == 100
    rig.clock.restore(5000)
    rig.clock.resume()
    rig.time += 1
    assert rig.clock.now() == 5001
    with pytest.raises(RuntimeError):
        rig.clock.restore(0)


def test_order_rearming_and_cancelling(rig: Rig) -> None:
    clock = rig.clock
    clock.resume()
    timers = {name: clock.timer(lambda name=name: rig.fired.append(name)) for name in "abcd"}  # type: ignore[misc]
    timers["a"].set(300)
    timers["b"].set(200)
    timers["c"].set(100)
    timers["d"].set(50)
    timers["d"].cancel()
    timers["c"].set(400)
    assert clock.next_deadline() == 200
    rig.time += 350
    clock.run_due()
    assert rig.fired == ["b", "a"]
    assert timers["a"].deadline is None
    assert clock.next_deadline() == 400
    rig.time += 50
    clock.run_due()
    assert rig.fired == ["b", "a", "c"]
    assert clock.next_deadline() is None


def test_a_timer_runs_once_per_call_even_when_armed_for_the_past(rig: Rig) -> None:
    rig.clock.resume()

    def again() -> None:
        rig.fired.append("x")
        timer.set(0)

    timer = rig.clock.timer(again)
    timer.set(0)
    rig.clock.run_due()
    assert rig.fired == ["x"]
    assert rig.clock.next_deadline() == 0


def test_one_callback_may_cancel_another(rig: Rig) -> None:
    rig.clock.resume()
    second = rig.clock.timer(lambda: rig.fired.append("second"))
    first = rig.clock.timer(second.cancel)
    first.set(1)
    second.set(2)
    rig.time += 10
    rig.clock.run_due()
    assert rig.fired == []


def test_the_counter_beside_stands_too(rig: Rig) -> None:
    """10 of its ticks a nanosecond; readings that the host parted are made again, so that the two do not drift apart."""
    delays = itertools.cycle([0, 50_000, 0, 0, 9_000])
    skipped: list[int] = []

    def beside() -> int:
        rig.time += next(delays)  # the host does something else
        count = 10 * rig.time
        rig.time += next(delays)
        return count

    rig.clock.beside, rig.clock.skip = beside, skipped.append
    rig.clock.resume()
    for _ in range(100):
        rig.time += 1_000_000
        rig.clock.pause()
        rig.clock.pause()
        count = rig.clock.count()
        rig.time += 5_000_000
        assert rig.clock.count() == count
        rig.clock.resume()
        rig.clock.resume()
    assert len(skipped) == 101
    assert sum(skipped) > 100 * 50_000_000
    assert 10 * rig.time - sum(skipped) == 10 * rig.clock.now()


def test_rearming_for_ever_takes_no_memory(rig: Rig) -> None:
    timer = rig.clock.timer(lambda: None)
    for at in range(10_000):
        timer.set(10**12 + at)
    assert len(rig.clock._heap) < 200
    assert rig.clock.next_deadline() == 10**12 + 9_999
