"""Every device in the registry: reset, save and load, register widths, what a hostile guest writes, and its declarations."""

import json
import random

import pytest

from exuvia.devices.device import Device, devices
from exuvia.support import log
from tests.devices.timing import ManualClock

NAMES = list(devices)


def make(name: str) -> Device:
    clock = ManualClock()
    clock.advance(1_000_000_007)
    return devices[name](clock=clock)


def use(device: Device, random: random.Random, accesses: int) -> None:
    """Accesses of every size, mostly to addresses that exist."""
    offsets = list(range(min(device.window, 0x1000))) or [0]
    named = [register.offset for register in device.registers.values() if register.offset is not None] or offsets
    for _ in range(accesses):
        size = random.choice((1, 2, 4, 8))
        offset = random.choice(named if random.random() < 0.8 else offsets)
        if random.random() < 0.5:
            device.write(offset, size, random.choice((0, 1, 0xFF, (1 << 8 * size) - 1, random.getrandbits(8 * size))) & (1 << 8 * size) - 1)
        else:
            value = device.read(offset, size)
            assert isinstance(value, int)
            assert 0 <= value < 1 << 8 * size, f"a read of {size} at {offset:#x} gave {value:#x}"
        if random.random() < 0.2:
            clock = device.clock
            assert isinstance(clock, ManualClock)
            clock.time += random.choice((0, 1_000, 1_000_000, 5_000_000_000))
            clock.run_due()


@pytest.mark.parametrize("name", NAMES)
def test_declared(name: str) -> None:
    kind = devices[name]
    assert kind.__doc__, "the docstring is the help"
    assert all(prop.help for prop in kind.properties.values())
    assert list(kind.accesses) == sorted(kind.accesses)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_any_use_keeps_widths_and_survives(name: str, seed: int) -> None:
    use(make(name), random.Random(f"{name} {seed}"), 400)


@pytest.mark.parametrize("name", NAMES)
def test_any_use_is_survived_with_the_log_on(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("all")
    try:
        use(make(name), random.Random(name), 200)
    finally:
        log.configure("")


@pytest.mark.parametrize("name", NAMES)
def test_reset_returns_to_the_reset_values(name: str) -> None:
    device = make(name)
    device.reset()
    fresh = device.save()
    clock = device.clock
    assert isinstance(clock, ManualClock)
    before = clock.time
    use(device, random.Random(name), 200)
    clock.time = before  # some reset values are times
    device.reset()
    after = device.save()
    kept = {key for key, state in device._states.items() if state.keep}
    assert {key: value for key, value in after.items() if key not in kept} == {
        key: value for key, value in fresh.items() if key not in kept
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_save_and_load(name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    device = make(name)
    use(device, chance, 200)
    saved = device.save()
    wire_form = json.loads(json.dumps(saved))
    assert wire_form == saved, "what is saved is JSON-like"
    other = make(name)
    assert isinstance(device.clock, ManualClock)
    assert isinstance(other.clock, ManualClock)
    other.clock.time = device.clock.time
    other.load(wire_form)
    assert other.save() == saved
    # The copy behaves as the original does.
    state = chance.getstate()
    use(device, chance, 200)
    chance.setstate(state)
    use(other, chance, 200)
    assert other.save() == device.save()
