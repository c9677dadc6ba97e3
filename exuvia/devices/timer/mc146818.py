"""MC146818 real-time clock and CMOS RAM as PCs have it (Motorola MC146818A datasheet; century and memory bytes: IBM PC/AT, PIIX4)."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from exuvia.devices.device import Alarm, Device, Irq, Property, Reg, State
from exuvia.support.errors import UserError

_SECOND = 1_000_000_000
_UPDATING = 244_000  # ns before an update during which UIP is set
_DELAY = 100_000_000  # ns that the host may let a guest stand, which looks for the next update
_WAITING, _REST = 100, 250_000  # reads of register A in a row that mean waiting for UIP, and how long the host sleeps at each then
_PF, _AF, _UF, _IRQF = 0x40, 0x20, 0x10, 0x80  # register C; the enables in B are the same bits
_SET, _BINARY, _HOURS24 = 0x80, 0x04, 0x02  # register B
_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, _CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
_TIME = (_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, _CENTURY)
_ALARM = {1: _SECONDS, 3: _MINUTES, 5: _HOURS}
_A, _B, _C, _D = 10, 11, 12, 13


def time_of_day(base: str) -> int:
    """Nanoseconds since 1970 that a clock shows at power-on: `base` is utc, localtime or a date. UserError when it is none of them."""
    if base == "utc":
        return time.time_ns()
    if base == "localtime":
        now = time.time()
        return int((now + time.localtime(now).tm_gmtoff) * _SECOND)
    try:
        given = datetime.fromisoformat(base)
    except ValueError:
        raise UserError(f"property 'base' is utc, localtime or a date as 2026-11-22T10:00:00, not '{base}'") from None
    return int(given.replace(tzinfo=UTC).timestamp()) * _SECOND


class Mc146818(Device):
    """Index and data ports 0 and 1 (0x70, 0x71), the same for the upper 128 bytes at 2 and 3. The CMOS and the time survive a reset.

    The time of day runs with virtual time from `base`. `irq` is ISA interrupt 8.
    """

    name = "mc146818rtc"
    accesses = (1,)
    irq = Irq()
    base = Property(str, "utc", "the time at power-on: utc, localtime, or a date as 2026-11-22T10:00:00")

    index = Reg(0)
    data = Reg(1)
    upper_index = Reg(2)
    upper_data = Reg(3)

    cmos = State(bytearray(256), keep=True)
    a = State(0x26)
    b = State(_HOURS24, keep=True)
    flags = State(0)
    epoch = State(0, keep=True)  # ns since 1970 at virtual time 0
    idle = State(-_DELAY)  # ns since 1970 at the last read of register A, if it said that no update is in progress
    waits = State(0)  # how many such reads there were in a row
    seen = State(0)  # virtual ns up to which periods and updates are in `flags`

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.epoch = time_of_day(self.base)
        self.cmos[_D] = 0x80  # the battery is good

    def reset(self) -> None:
        """RESET clears the interrupt enables and the flags; the rest is the battery's."""
        super().reset()
        self.b &= ~0x78

    def set_memory(self, below: int, above: int) -> None:
        """Tell firmware and old guests of `below` bytes of RAM under 4 GiB and `above` from there on."""
        extended = min(max(below - (1 << 20), 0) >> 10, 0xFFFF)
        blocks = min(max(below - (16 << 20), 0) >> 16, 0xFFFF)
        for at, size, value in (
            (0x15, 2, 640),
            (0x17, 2, extended),
            (0x30, 2, extended),
            (0x34, 2, blocks),
            (0x5B, 3, above >> 16 & 0xFFFFFF),
        ):
            self.cmos[at : at + size] = value.to_bytes(size, "little")

    # Time.

    def _now(self) -> int:
        """Nanoseconds since 1970, as the guest's clock has them."""
        return self.epoch + self.clock.now()

    def _encode(self, value: int) -> int:
        return value if self.b & _BINARY else value // 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        return value if self.b & _BINARY else (value >> 4) * 10 + (value & 0xF)

    def _hour(self, hour: int) -> int:
        if self.b & _HOURS24:
            return self._encode(hour)
        return self._encode((hour + 11) % 12 + 1) | (0x80 if hour >= 12 else 0)

    def _date(self) -> datetime:
        return datetime(1970, 1, 1) + timedelta(seconds=self._now() // _SECOND % (8000 * 365 * 86400))

    def _show(self, at: int, date: datetime) -> int:
        match at:
            case 0:
                return self._encode(date.second)
            case 2:
                return self._encode(date.minute)
            case 4:
                return self._hour(date.hour)
            case 6:
                return self._encode(date.isoweekday() % 7 + 1)
            case 7:
                return self._encode(date.day)
            case 8:
                return self._encode(date.month)
            case 9:
                return self._encode(date.year % 100)
            case _:
                return self._encode(date.year // 100)

    def _freeze(self) -> None:
        date = self._date()
        for at in _TIME:
            self.cmos[at] = self._show(at, date)

    def _take(self) -> None:
        """Let the clock run on from what the time bytes say; bytes that are no date are left as they would read."""
        hour = self.cmos[_HOURS]
        hours = self._decode(hour if self.b & _HOURS24 else hour & 0x7F)
        if not self.b & _HOURS24:
            hours = hours % 12 + (12 if hour & 0x80 else 0)
        year = self._decode(self.cmos[_CENTURY]) * 100 + self._decode(self.cmos[_YEAR])
        try:
            date = datetime(
                year,
                self._decode(self.cmos[_MONTH]),
                self._decode(self.cmos[_DAY]),
                hours,
                self._decode(self.cmos[_MINUTES]),
                self._decode(self.cmos[_SECONDS]),
            )
        except ValueError:
            return
        self.epoch = (date - datetime(1970, 1, 1)) // timedelta(seconds=1) * _SECOND - self.clock.now()

    # Interrupts.

    def _period(self) -> int:
        """The periodic rate's period in ticks of 32,768 Hz, 0 when it is off."""
        rate = self.a & 0xF
        return 0 if not rate or self.a & 0x70 != 0x20 else 1 << (rate + 6 if rate < 3 else rate - 1)

    def _collect(self) -> None:
        """Set the flags of what has happened since this was last asked."""
        now, seen = self.clock.now(), self.seen
        self.seen = now
        period = self._period()
        if period and now * 32_768 // _SECOND // period != seen * 32_768 // _SECOND // period:
            self.flags |= _PF
        if not self.b & _SET and (self.epoch + now) // _SECOND != (self.epoch + seen) // _SECOND:
            self.flags |= _UF
            if self._alarm_matches():
                self.flags |= _AF
        self._update()

    def _alarm_matches(self) -> bool:
        date = self._date()
        return all(self.cmos[at] & 0xC0 == 0xC0 or self.cmos[at] == self._show(time, date) for at, time in _ALARM.items())

    def _update(self) -> None:
        self.irq.set(bool(self.flags & self.b & (_PF | _AF | _UF)))
        now, at = self.clock.now(), []
        period = self._period()
        if self.b & _PF and period:
            count = now * 32_768 // _SECOND // period + 1
            at.append(-(-count * period * _SECOND // 32_768))
        if self.b & (_AF | _UF) and not self.b & _SET:
            at.append(now + _SECOND - self._now() % _SECOND)
        if at:
            self.tick.set(min(at))
        else:
            self.tick.cancel()

    def on_tick(self) -> None:
        """A period or a second has gone by."""
        self._collect()

    tick = Alarm(on_tick)

    def _updating(self) -> bool:
        """UIP. Who polls sees each update, the ones too that came and went while the host did something else."""
        if self.b & _SET:
            return False
        now, before = self._now(), self.idle
        missed = 0 <= now - before < _DELAY and now // _SECOND != before // _SECOND
        updating = missed or now % _SECOND >= _SECOND - _UPDATING
        self.idle = -_DELAY if updating else now
        self.waits = 0 if updating else self.waits + 1
        if self.waits > _WAITING and now % _SECOND < _SECOND - _UPDATING - 2 * _REST:
            self.clock.rest(_REST)
        return updating

    # The registers.

    @data.read
    def read_data(self) -> int:
        at = int(self.index) & 0x7F
        if at == _A:
            return self.a | self._updating() << 7
        self.waits = 0
        if at in _TIME:
            return self.cmos[at] if self.b & _SET else self._show(at, self._date())
        if at == _B:
            return self.b
        if at == _C:
            self._collect()
            flags, self.flags = self.flags, 0
            self._update()
            return flags | (_IRQF if flags & self.b & 0x70 else 0)
        return self.cmos[at]

    @data.write
    def write_data(self, value: int) -> None:
        at = int(self.index) & 0x7F
        if at in _TIME:
            if not self.b & _SET:
                self._freeze()
            self.cmos[at] = value
            if not self.b & _SET:
                self._take()
        elif at == _A:
            self._collect()
            self.a = value & 0x7F
            self._update()
        elif at == _B:
            self._collect()
            before, self.b = self.b, value
            if value & _SET:
                self.b &= ~_UF
                if not before & _SET:
                    self.b, kept = before, self.b
                    self._freeze()
                    self.b = kept
            elif before & _SET:
                self._take()
            self._update()
        elif at not in (_C, _D):
            self.cmos[at] = value

    @index.read
    def read_index(self) -> int:
        return 0xFF

    @upper_data.read
    def read_upper(self) -> int:
        return self.cmos[0x80 | int(self.upper_index) & 0x7F]

    @upper_data.write
    def write_upper(self, value: int) -> None:
        self.cmos[0x80 | int(self.upper_index) & 0x7F] = value
