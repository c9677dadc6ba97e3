"""The generic timer in plain Python (DDI 0487, D11): CTL, CVAL and TVAL of each timer, its output, and its alarm on the machine's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NS_SHIFT = 4  # the counter is virtual time in units of 16 ns
FREQUENCY = 1_000_000_000 >> NS_SHIFT
ENABLE, IMASK, ISTATUS = 1, 2, 4
EL0PCTEN, EL0VCTEN, EL0VTEN, EL0PTEN = (1 << i for i in (0, 1, 8, 9))  # CNTKCTL_EL1: what EL0 has of counters and timers
EL1PCTEN, EL1PCEN = 1 << 0, 1 << 1  # CNTHCTL_EL2: EL1 and EL0 have the physical counter, the physical timer
WORD = (1 << 64) - 1
FAR = 1 << 62  # ns; an alarm beyond it never comes


def nothing(level: bool) -> None:
    """An output that leads nowhere."""


class Timer:
    """One timer of a processor. `output` is where its level goes: a private interrupt. The words are `cntX_ctl` and `cntX_cval`.

    The virtual one is the processor's tick, where that has one (dsl/tick.py)."""

    def __init__(self, processor: Any, words: str, end: str, virtual: bool) -> None:
        self.processor, self.virtual = processor, virtual
        self.ctl_word, self.cval_word = f"{words}_ctl_{end}", f"{words}_cval_{end}"
        self.output: Callable[[bool], None] = nothing
        self._level = False
        self._alarm: Any = None

    @property
    def tick(self) -> Any:
        """The processor's, or None where the machine's clock has to do."""
        return self.processor.tick if self.virtual else None

    @property
    def level(self) -> bool:
        """The output."""
        return self._level if self.tick is None else bool(self.tick.line)

    @level.setter
    def level(self, level: bool) -> None:
        if self.tick is None:
            self._level = level
        else:
            self.tick.line = level

    @property
    def offset(self) -> int:
        """What the timer's counter is behind the physical one by."""
        return int(self.processor.cntvoff_el2) if self.virtual else 0

    @property
    def count(self) -> int:
        """The counter it compares with."""
        return int(self.processor.clock.now() >> NS_SHIFT) - self.offset & WORD

    @property
    def met(self) -> bool:
        """The condition, which ISTATUS shows."""
        return self.count >= int(getattr(self.processor, self.cval_word))

    def read(self, register: str) -> int:
        """`ctl`, `cval` or `tval`."""
        p = self.processor
        if register == "cval":
            return int(getattr(p, self.cval_word))
        if register == "tval":
            return int(getattr(p, self.cval_word)) - self.count & 0xFFFFFFFF
        ctl = int(getattr(p, self.ctl_word))
        return ctl | (ISTATUS if ctl & ENABLE and self.met else 0)

    def write(self, register: str, value: int) -> None:
        """Likewise."""
        p = self.processor
        if register == "ctl":
            setattr(p, self.ctl_word, value & (ENABLE | IMASK))
        elif register == "cval":
            setattr(p, self.cval_word, value)
        else:
            signed = (value & 0xFFFFFFFF) - (value << 1 & 1 << 32)
            setattr(p, self.cval_word, self.count + signed & WORD)
        self.update()

    def update(self) -> None:
        """The output, and when to look again. Also what the alarm calls."""
        p = self.processor
        if self._alarm is None:
            if self.tick is not None:
                self._alarm, self.tick.ring = self.tick, self.update
            else:
                self._alarm = p.clock.timer(self.update)
        ctl = getattr(p, self.ctl_word)
        met = self.met
        level = bool(ctl & ENABLE) and not ctl & IMASK and met
        if level != self.level:
            self.level = level
            self.output(level)
        at = (p.clock.now() >> NS_SHIFT) + max(0, getattr(p, self.cval_word) - self.count) << NS_SHIFT
        if ctl & ENABLE and not ctl & IMASK and not met and at < FAR:
            self._alarm.set(at)
        else:
            self._alarm.cancel()


class Timers:
    """Those of one processor, by the names that boards give their interrupts."""

    def __init__(self, processor: Any) -> None:
        self.virtual = Timer(processor, "cntv", "el0", True)
        self.physical = Timer(processor, "cntp", "el0", False)
        self.hypervisor = Timer(processor, "cnthp", "el2", False)
        self.all = self.virtual, self.physical, self.hypervisor
