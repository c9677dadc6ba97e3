"""8254 programmable interval timer (Intel datasheet, order 231164) and a PC's port 0x61, which gates counter 2."""

from typing import Any

from exuvia.devices.device import Alarm, Device, Irq, Reg, State
from exuvia.support.bits import bit

FREQUENCY = 1_193_182  # Hz
_SECOND = 1_000_000_000
_REFRESH = 15_085  # ns between two toggles of port 0x61's refresh bit
_SHORTEST = 20_000  # ns between two interrupts: a guest that asks for shorter periods would never get to run
LATEST = 250_000_000  # ns: rises that a busy host is late with come faster than they should, older ones never


class Counter:
    """One of the three counters. What it shows is computed from the time at which its count began; times are virtual ns."""

    SAVED = (
        "mode",
        "bcd",
        "access",
        "count",
        "following",
        "switch",
        "began",
        "elapsed",
        "gate",
        "null",
        "low",
        "second",
        "latch",
        "status",
    )

    def __init__(self) -> None:
        self.mode, self.bcd, self.access = 0, 0, 3
        self.count = 0  # clocks per period, 0: nothing is counted
        self.following, self.switch = 0, 0  # modes 2 and 3: the count of the periods from the time `switch` on
        self.began: int | None = None  # when the present count began, None while the gate or a missing trigger holds it
        self.elapsed = 0  # clocks counted before the gate stopped it
        self.gate = True
        self.null = True
        self.low: int | None = None  # the first byte of a count being written
        self.second = False  # the next byte read is the high one
        self.latch: list[int] = []  # latched bytes to read
        self.status: int | None = None

    def control(self, word: int, now: int) -> None:
        """A control word that programs this counter."""
        self.mode = word >> 1 & 7
        if self.mode > 5:
            self.mode -= 4
        self.bcd, self.access = word & 1, word >> 4 & 3
        self.count, self.following, self.began, self.elapsed = 0, 0, None, 0
        self.null, self.low, self.second, self.latch, self.status = True, None, False, [], None

    def clocks(self, now: int) -> int:
        """Clocks counted of the present count."""
        if self.following and now >= self.switch:
            self.count, self.began, self.elapsed, self.following = self.following, self.switch, 0, 0
        return self.elapsed if self.began is None else self.elapsed + (now - self.began) * FREQUENCY // _SECOND

    def output(self, now: int) -> bool:
        """The level of OUT."""
        clocks, count, mode = self.clocks(now), self.count, self.mode
        if not count or mode in (1, 5) and self.began is None:
            return mode != 0
        if mode < 2:
            return clocks >= count
        if mode > 3:
            return clocks != count
        if not self.gate:
            return True
        return clocks % count != count - 1 if mode == 2 else clocks % count < count + 1 >> 1

    def value(self, now: int) -> int:
        """The 16 bits that a read shows."""
        clocks, count = self.clocks(now), self.count
        if self.mode == 2 and count:
            left = count - clocks % count
        elif self.mode == 3 and count:
            half = count + 1 >> 1
            phase = clocks % count
            left = (count & ~1) - 2 * (phase if phase < half else phase - half)
        else:
            left = count - clocks
        if not self.bcd:
            return left & 0xFFFF
        left %= 10_000
        return left % 10 | left // 10 % 10 << 4 | left // 100 % 10 << 8 | left // 1000 << 12

    def load(self, raw: int, now: int) -> None:
        """A whole count was written."""
        if self.bcd:
            raw = sum((raw >> 4 * digit & 0xF) * 10**digit for digit in range(4))
        new = raw or (10_000 if self.bcd else 0x10000)
        running = self.began is not None and self.count
        self.null = False
        if self.mode in (2, 3) and running:
            clocks = self.clocks(now)
            assert self.began is not None
            ends = (clocks // self.count + 1) * self.count - self.elapsed
            self.following, self.switch = new, self.began + -(-ends * _SECOND // FREQUENCY)
        elif self.mode in (1, 5):
            if running:
                self.following, self.switch = new, 1 << 63  # at the next trigger
            else:
                self.count = new
        else:
            self.count, self.elapsed, self.following = new, 0, 0
            self.began = now if self.gate else None

    def set_gate(self, level: bool, now: int) -> None:
        """Drive GATE: in modes 1 and 5 its rise is the trigger, in 2 and 3 it starts anew, in 0 and 4 counting goes on."""
        if level == self.gate:
            return
        if not level and self.mode not in (1, 5):
            self.elapsed, self.began = self.clocks(now), None
        self.gate = level
        if level and self.count:
            if self.mode not in (0, 4):
                self.count, self.elapsed, self.following = self.following or self.count, 0, 0
            self.began = now

    def next_rise(self, now: int) -> int | None:
        """When OUT next rises after `now`, None for never."""
        clocks = self.clocks(now)
        if not self.count or self.began is None:
            return None
        if self.mode in (2, 3):
            target = (clocks // self.count + 1) * self.count
        else:
            target = self.count + (self.mode > 3)
            if clocks >= target:
                return None
        return self.began + -(-(target - self.elapsed) * _SECOND // FREQUENCY)

    def write(self, value: int, now: int) -> None:
        """A byte of the count."""
        if self.access == 1:
            self.load(value, now)
        elif self.access == 2:
            self.load(value << 8, now)
        elif self.low is None:
            self.low = value
            if self.mode == 0:
                self.count = 0  # the first byte stops the count and OUT stays low
        else:
            low, self.low = self.low, None
            self.load(low | value << 8, now)

    def read(self, now: int) -> int:
        """A byte: the latched status, else the latched count, else the count as it runs."""
        if self.status is not None:
            status, self.status = self.status, None
            return status
        if self.latch:
            return self.latch.pop(0)
        value = self.value(now)
        high = self.access == 2 or self.access == 3 and self.second
        if self.access == 3:
            self.second = not self.second
        return value >> 8 if high else value & 0xFF

    def latch_count(self, now: int) -> None:
        """Hold the count for the next read; a count held already stays."""
        if not self.latch:
            value = self.value(now)
            self.latch = {1: [value & 0xFF], 2: [value >> 8]}.get(self.access, [value & 0xFF, value >> 8])

    def latch_status(self, now: int) -> None:
        """Hold the status byte for the next read."""
        if self.status is None:
            self.status = self.output(now) << 7 | self.null << 6 | self.access << 4 | self.mode << 1 | self.bcd


class I8254(Device):
    """The timer: offsets 0 to 2 are the counters, 3 the control word, 4 is what a PC has at port 0x61.

    `irq` is OUT of counter 0, exact in its rising edges (interrupt 0). A rise that comes late does not move the ones after it; those that
    are overdue by then follow at four times their rate, for guests count them.
    """

    name = "isa-pit"
    accesses = (1,)
    irq = Irq()

    counter0 = Reg(0)
    counter1 = Reg(1)
    counter2 = Reg(2)
    control = Reg(3)
    port61 = Reg(4, writable=0xF, gate2=bit[0])
    due = State(0)  # when the rise that the alarm stands for should come

    def __init__(self, **settings: Any) -> None:
        self.counters = [Counter(), Counter(), Counter()]
        super().__init__(**settings)
        self.reset()

    def reset(self) -> None:
        """Counters stopped, counter 2's gate low."""
        super().reset()
        self.counters = [Counter(), Counter(), Counter()]
        self.counters[2].gate = False

    def save(self) -> dict[str, Any]:
        """As a Device, and the counters."""
        return super().save() | {"counters": [{key: getattr(counter, key) for key in Counter.SAVED} for counter in self.counters]}

    def load(self, saved: dict[str, Any]) -> None:
        """As a Device, and the counters."""
        super().load(saved)
        for counter, values in zip(self.counters, saved["counters"], strict=True):
            for key in Counter.SAVED:
                setattr(counter, key, list(values[key]) if key == "latch" else values[key])

    def on_rise(self) -> None:
        """OUT of counter 0 rises; in modes 2 and 3 it was low before."""
        self.irq.set(False)
        self.irq.set(True)
        self._schedule(self.due)

    rise = Alarm(on_rise)

    def _schedule(self, after: int) -> None:
        """Set the alarm for the first rise after a time."""
        counter, now = self.counters[0], self.clock.now()
        at = counter.next_rise(after)
        if at is not None and at < now - LATEST:
            at = counter.next_rise(now)
        if at is None:
            self.rise.cancel()
            return
        self.due = at
        if counter.mode in (2, 3):
            period = counter.count * _SECOND // FREQUENCY
            at = max(at, now + max(period // 4 if at < now else 0, _SHORTEST if period < _SHORTEST else 0))
        self.rise.set(at)

    def read(self, offset: int, size: int) -> int:
        """As a Device; the counters are read straight."""
        if offset < 3 and size == 1:
            return self.counters[offset].read(self.clock.now())
        return super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Device; the counters are written straight."""
        if offset < 3 and size == 1:
            now = self.clock.now()
            self.counters[offset].write(value, now)
            if offset == 0:
                self._changed(now)
        else:
            super().write(offset, size, value)

    def _changed(self, now: int) -> None:
        """One time for both: OUT may rise between two."""
        self.irq.set(self.counters[0].output(now))
        self._schedule(now)

    @control.read
    def read_control(self) -> int:
        return 0xFF

    @control.write
    def write_control(self, value: int) -> None:
        number, now = value >> 6, self.clock.now()
        if number == 3:
            for index, counter in enumerate(self.counters):
                if value >> index & 2:
                    if not value & 0x20:
                        counter.latch_count(now)
                    if not value & 0x10:
                        counter.latch_status(now)
        elif value & 0x30:
            self.counters[number].control(value, now)
            if number == 0:
                self._changed(now)
        else:
            self.counters[number].latch_count(now)

    @port61.read
    def read_port61(self) -> int:
        now = self.clock.now()
        return int(self.port61) & 0xF | (now // _REFRESH & 1) << 4 | self.counters[2].output(now) << 5

    @port61.write
    def write_port61(self, value: int) -> None:
        self.port61 = value & 0xF
        self.counters[2].set_gate(bool(value & 1), self.clock.now())
