"""High precision event timers (Intel IA-PC HPET specification 1.0a): a 64-bit counter at 100 MHz, three periodic comparators."""

from exuvia.devices.device import Alarm, Device, Irq, Reg, Sink, State, Wire, Word
from exuvia.support.bits import bit

TIMERS = 3
FIRST_ROUTE = 20  # comparator n can drive I/O APIC input FIRST_ROUTE + n
_TICK = 10  # ns
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_SHORTEST = 20_000  # ns between two interrupts: a guest that asks for shorter periods would never get to run
LATEST = 250_000_000  # ns: periodic matches that a busy host is late with come faster than they should, older ones never
_LEVEL, _ENABLE, _PERIODIC, _VALUE_SET, _MODE32 = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8
_CONFIGURABLE = _LEVEL | _ENABLE | _PERIODIC | _VALUE_SET | _MODE32 | 0x3E00
_CAPABLE = 0x30  # periodic, 64 bits


class Hpet(Device):
    """The HPET block of a PC at 0xFED00000.

    `out0` to `out2` go to the I/O APIC's inputs 20 to 22. With legacy replacement comparators 0 and 1 drive interrupts 0 and 8 instead of
    the 8254 and the RTC: those connect to `input(0)` and `input(1)`, and `legacy0` and `legacy1` to the interrupts.
    """

    name = "hpet"
    window = 0x400
    accesses = (4, 8)
    out0, out1, out2 = Irq(), Irq(), Irq()
    legacy0, legacy1 = Irq(), Irq()

    capabilities = Reg(0x000, 64, reset=10_000_000 << 32 | 0x8086A201, writable=0)
    configuration = Reg(0x010, 64, writable=3, enable=bit[0], legacy=bit[1])
    status = Reg(0x020, 64, clear=(1 << TIMERS) - 1, writable=0)
    counter = Reg(0x0F0, 64)

    configurations = State([0] * TIMERS)
    comparators = State([_MASK64] * TIMERS)
    periods = State([0] * TIMERS)
    started = State(0)  # virtual ns at which the running counter was 0
    lines = State(0)  # of the 8254 and the RTC

    def input(self, number: int) -> Sink:
        """The sink of the 8254's (0) or the RTC's (1) interrupt, passed on while legacy replacement is off."""
        own = 1 << number

        def follow(level: bool) -> None:
            self.lines = self.lines | own if level else self.lines & ~own
            if not self.configuration.legacy:
                self._legacy(number).set(level)

        return follow

    def _legacy(self, number: int) -> Wire:
        return self.legacy1 if number else self.legacy0

    def _wire(self, number: int) -> Wire:
        if number < 2 and self.configuration.legacy:
            return self._legacy(number)
        return (self.out0, self.out1, self.out2)[number]

    def _count(self, now: int | None = None) -> int:
        if not self.configuration.enable:
            return int(self.counter)
        return ((self.clock.now() if now is None else now) - self.started) // _TICK & _MASK64

    @counter.read
    def read_counter(self) -> int:
        return self._count()

    @counter.write
    def write_counter(self, value: int) -> None:
        self.counter = value
        if self.configuration.enable:
            self.started = self.clock.now() - value * _TICK
        for number in range(TIMERS):
            self._schedule(number)

    @configuration.write
    def write_configuration(self, value: Word) -> None:
        before, count = self.configuration, self._count()
        self.configuration = value & 3
        if before.enable and not value.enable:
            self.counter = count
        elif value.enable and not before.enable:
            self.started = self.clock.now() - count * _TICK
        if value.legacy != before.legacy:
            for number in range(2):
                (self.out0, self.out1)[number].set(False)
                self._legacy(number).set(not value.legacy and bool(self.lines >> number & 1))
        for number in range(TIMERS):
            self._drive(number)
            self._schedule(number)

    @status.write
    def write_status(self, value: int) -> None:
        self.status = self.status & ~value
        for number in range(TIMERS):
            self._drive(number)

    def _drive(self, number: int) -> None:
        """Level-triggered comparators hold their wire while their status is set."""
        settings = self.configurations[number]
        held = settings & _LEVEL and settings & _ENABLE and self.status >> number & 1 and self.configuration.enable
        self._wire(number).set(bool(held))

    # The comparators.

    def _mask(self, number: int) -> int:
        return _MASK32 if self.configurations[number] & _MODE32 else _MASK64

    def _schedule(self, number: int, now: int | None = None) -> None:
        alarm = (self.match0, self.match1, self.match2)[number]
        settings = self.configurations[number]
        if not self.configuration.enable or not settings & _ENABLE:
            alarm.cancel()
            return
        if now is None:
            now = self.clock.now()
        left = self.comparators[number] - self._count(now) & self._mask(number)
        at = now - (now - self.started) % _TICK + left * _TICK
        if settings & _PERIODIC and self.periods[number]:
            period = self.periods[number] * _TICK
            behind = self._count(now) - self.comparators[number] & self._mask(number)
            if 0 < behind * _TICK <= LATEST:
                at = now + period // 4
            at = max(at, now + _SHORTEST if period < _SHORTEST else 0)
        alarm.set(at)

    def _match(self, number: int) -> None:
        settings, mask = self.configurations[number], self._mask(number)
        now = self.clock.now()  # once: what comes due from here on must not look like a match that comes when the counter has gone round
        if settings & _PERIODIC and self.periods[number]:
            period = self.periods[number]
            late = self._count(now) - self.comparators[number] & mask
            lost = late // period if late * _TICK > LATEST else 0
            self.comparators[number] = self.comparators[number] + (lost + 1) * period & mask
        if settings & _LEVEL:
            self.status = self.status | 1 << number
            self._drive(number)
        else:
            self._wire(number).pulse()
        if settings & _PERIODIC and self.periods[number]:
            self._schedule(number, now)
        else:
            (self.match0, self.match1, self.match2)[number].set(now + (mask + 1) * _TICK)  # when the counter comes round again

    match0 = Alarm(lambda self: self._match(0))
    match1 = Alarm(lambda self: self._match(1))
    match2 = Alarm(lambda self: self._match(2))

    def read(self, offset: int, size: int) -> int:
        """As a Device, 32 or 64 bits; the comparators stand 32 bytes apart from 0x100 on."""
        number = (offset - 0x100) // 0x20
        if not 0 <= number < TIMERS or size not in (4, 8) or offset % size:
            return super().read(offset, size)
        match offset & 0x18:
            case 0x00:
                word = self.configurations[number] | _CAPABLE | 1 << 32 + FIRST_ROUTE + number
            case 0x08:
                word = self.comparators[number]
            case _:
                word = 0  # no FSB delivery
        return word >> 8 * (offset & 4) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Device, 32 or 64 bits. A periodic comparator takes a write as its period, and with VAL_SET as its next match too."""
        number = (offset - 0x100) // 0x20
        if not 0 <= number < TIMERS or size not in (4, 8) or offset % size:
            super().write(offset, size, value)
            return
        shift = 8 * (offset & 4)
        mask = ((1 << 8 * size) - 1) << shift
        settings = self.configurations[number]
        if offset & 0x18 == 0 and not shift:
            self.configurations[number] = settings = value & _CONFIGURABLE
            if settings & _MODE32:
                self.comparators[number] &= _MASK32
                self.periods[number] &= _MASK32
            self._drive(number)
        elif offset & 0x18 == 8:
            if settings & _PERIODIC:
                self.periods[number] = (self.periods[number] & ~mask | value << shift) & self._mask(number)
            if not settings & _PERIODIC or settings & _VALUE_SET:
                self.comparators[number] = (self.comparators[number] & ~mask | value << shift) & self._mask(number)
                self.configurations[number] &= ~_VALUE_SET
        self._schedule(number)
