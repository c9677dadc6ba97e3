"""PrimeCell Real Time Clock PL031 (Arm DDI 0224)."""

from typing import Any

from exuvia.devices.device import Alarm, Device, Irq, Property, Reg, State
from exuvia.devices.timer.mc146818 import time_of_day

_SECOND = 1_000_000_000
_MASK = 0xFFFFFFFF
_IDENTITY = bytes((0x31, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1))


class Pl031(Device):
    """Counts seconds since 1970, with virtual time from `base`. `irq` is RTCINTR: the counter has reached RTCMR."""

    name = "pl031"
    window = 0x1000
    irq = Irq()
    base = Property(str, "utc", "the time at power-on: utc, localtime, or a date as 2026-11-22T10:00:00")

    rtcdr = Reg(0x00, 32, writable=0)
    rtcmr = Reg(0x04, 32)
    rtclr = Reg(0x08, 32)
    rtccr = Reg(0x0C, 32, reset=1, writable=0)  # once started, a reset alone stops it
    rtcimsc = Reg(0x10, 32, writable=1)
    rtcris = Reg(0x14, 32, writable=0)
    rtcmis = Reg(0x18, 32, writable=0)
    rtcicr = Reg(0x1C, 32)
    rtcperiphid0 = Reg(0xFE0, 32, reset=_IDENTITY[0], writable=0)
    rtcperiphid1 = Reg(0xFE4, 32, reset=_IDENTITY[1], writable=0)
    rtcperiphid2 = Reg(0xFE8, 32, reset=_IDENTITY[2], writable=0)
    rtcperiphid3 = Reg(0xFEC, 32, reset=_IDENTITY[3], writable=0)
    rtcpcellid0 = Reg(0xFF0, 32, reset=_IDENTITY[4], writable=0)
    rtcpcellid1 = Reg(0xFF4, 32, reset=_IDENTITY[5], writable=0)
    rtcpcellid2 = Reg(0xFF8, 32, reset=_IDENTITY[6], writable=0)
    rtcpcellid3 = Reg(0xFFC, 32, reset=_IDENTITY[7], writable=0)

    epoch = State(0, keep=True)  # ns since 1970 at virtual time 0

    def __init__(self, clock: Any = None, **settings: Any) -> None:
        super().__init__(clock, **settings)
        self.epoch = time_of_day(self.base)

    def _now(self) -> int:
        """Nanoseconds since 1970, as the guest's clock has them."""
        return self.epoch + self.clock.now()

    @rtcdr.read
    def read_counter(self) -> int:
        """Seconds."""
        return self._now() // _SECOND & _MASK

    @rtclr.write
    def write_load(self, value: int) -> None:
        """The counter goes on from here."""
        self.rtclr = value
        self.epoch = int(value) * _SECOND - self.clock.now()
        self._arm()

    @rtcmr.write
    def write_match(self, value: int) -> None:
        """When to interrupt."""
        self.rtcmr = value
        self._arm()

    def _arm(self) -> None:
        """When the counter, which wraps, is at RTCMR next."""
        ahead = int(self.rtcmr) - self._now() // _SECOND & _MASK
        if ahead:
            self.match.set(self.clock.now() + ahead * _SECOND - self._now() % _SECOND)
        else:
            self.on_match()

    def on_match(self) -> None:
        """The counter is at RTCMR."""
        self.rtcris = 1
        self._update()
        self.match.set(self.clock.now() + (_MASK + 1) * _SECOND - self._now() % _SECOND)

    match = Alarm(on_match)

    def _update(self) -> None:
        self.irq.set(bool(self.rtcris & self.rtcimsc))

    @rtcimsc.write
    def write_mask(self, value: int) -> None:
        """Whether it interrupts."""
        self.rtcimsc = value & 1
        self._update()

    @rtcmis.read
    def read_masked(self) -> int:
        """Whether it does now."""
        return self.rtcris & self.rtcimsc

    @rtcicr.write
    def write_clear(self, value: int) -> None:
        """A one takes the interrupt away."""
        self.rtcris = self.rtcris & ~value
        self._update()

    @rtcicr.read
    def read_clear(self) -> int:
        """Write-only."""
        return 0
