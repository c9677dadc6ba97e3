"""PrimeCell General Purpose Input/Output PL061 (Arm DDI 0190)."""

from exuvia.devices.device import Device, Irq, Reg, Sink, State

_PINS = 8
_IDENTITY = bytes((0x61, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1))


class Pl061(Device):
    """Eight pins. `input(n)` drives one from outside; those that the guest drives are heard of by the sinks in `outputs`."""

    name = "pl061"
    window = 0x1000
    irq = Irq()

    gpiodir = Reg(0x400, 32, writable=0xFF)
    gpiois = Reg(0x404, 32, writable=0xFF)
    gpioibe = Reg(0x408, 32, writable=0xFF)
    gpioiev = Reg(0x40C, 32, writable=0xFF)
    gpioie = Reg(0x410, 32, writable=0xFF)
    gpioris = Reg(0x414, 32, writable=0)
    gpiomis = Reg(0x418, 32, writable=0)
    gpioic = Reg(0x41C, 32)
    gpioafsel = Reg(0x420, 32, writable=0xFF)
    gpioperiphid0 = Reg(0xFE0, 32, reset=_IDENTITY[0], writable=0)
    gpioperiphid1 = Reg(0xFE4, 32, reset=_IDENTITY[1], writable=0)
    gpioperiphid2 = Reg(0xFE8, 32, reset=_IDENTITY[2], writable=0)
    gpioperiphid3 = Reg(0xFEC, 32, reset=_IDENTITY[3], writable=0)
    gpiopcellid0 = Reg(0xFF0, 32, reset=_IDENTITY[4], writable=0)
    gpiopcellid1 = Reg(0xFF4, 32, reset=_IDENTITY[5], writable=0)
    gpiopcellid2 = Reg(0xFF8, 32, reset=_IDENTITY[6], writable=0)
    gpiopcellid3 = Reg(0xFFC, 32, reset=_IDENTITY[7], writable=0)

    outside = State(0)  # what others drive the pins to
    driven = State(0)  # what the guest drives them to, where they are outputs
    latched = State(0)  # edges that have been seen

    def __init__(self, *args: object, **settings: object) -> None:
        self.outputs: dict[int, Sink] = {}
        super().__init__(*args, **settings)  # type: ignore[arg-type]

    def input(self, number: int) -> Sink:
        """The sink of pin 0 to 7; raises ValueError for others."""
        if not 0 <= number < _PINS:
            raise ValueError(f"a PL061 has no pin {number}")

        def follow(level: bool) -> None:
            before = self._pins()
            self.outside = self.outside & ~(1 << number) | level << number
            self._changed(before)

        return follow

    def _pins(self) -> int:
        """The levels now."""
        return int(self.outside & ~self.gpiodir | self.driven & self.gpiodir)

    def _changed(self, before: int) -> None:
        now = self._pins()
        rose, fell = now & ~before, before & ~now
        both, high = int(self.gpioibe), int(self.gpioiev)
        self.latched |= (rose & (both | high) | fell & (both | ~high)) & ~int(self.gpiois)
        for number, sink in self.outputs.items():
            if (now ^ before) & self.gpiodir & 1 << number:
                sink(bool(now >> number & 1))
        self._update()

    def _status(self) -> int:
        """An edge that was latched, or the level that is asked for."""
        levels = ~(self._pins() ^ int(self.gpioiev)) & int(self.gpiois)
        return (self.latched & ~int(self.gpiois) | levels) & 0xFF

    def _update(self) -> None:
        self.irq.set(bool(self._status() & self.gpioie))

    @gpioris.read
    def read_status(self) -> int:
        """Causes."""
        return self._status()

    @gpiomis.read
    def read_masked(self) -> int:
        """Causes that interrupt."""
        return self._status() & self.gpioie

    @gpioic.write
    def clear(self, value: int) -> None:
        """Edges are forgotten."""
        self.latched &= ~value
        self._update()

    @gpioic.read
    def read_clear(self) -> int:
        """Write-only."""
        return 0

    def read(self, offset: int, size: int) -> int:
        """GPIODATA takes the first 1 KiB: address bits 9 to 2 are a mask of the pins."""
        return self._pins() & offset >> 2 if offset < 0x400 else super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """See read."""
        before = self._pins()
        if offset < 0x400:
            mask = offset >> 2
            self.driven = self.driven & ~mask | value & mask
        else:
            super().write(offset, size, value)
        self._changed(before)
