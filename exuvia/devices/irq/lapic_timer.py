"""The local APIC's timer interrupt, lent to native code while nothing else is requested or in service (docs/engine.md, the tick).

What a local APIC would do then is little: the request goes into service when it is delivered, EOI ends that, a write of the initial count
sets the timer anew (SDM 3A, 11.5.4, 11.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exuvia.devices.irq.tick import Condition, Lender, Tick

if TYPE_CHECKING:
    from exuvia.devices.irq.apicbus import Message
    from exuvia.devices.irq.lapic import LocalApic

SHORTEST = 20_000  # ns between two ticks: a guest that asks for shorter ones would never get to run
PAGE, EOI, INITIAL_COUNT = 0xFEE00000, 0xB0, 0x380


class LentTimer(Lender):
    """The timer of `apic`, whose processor has `tick`."""

    def __init__(self, apic: LocalApic, tick: Tick) -> None:
        self.apic, self.tick, self.vector = apic, tick, 0
        self.waiting: list[Message] = []
        tick.wanted = self.called

    def returned(self, condition: Condition) -> None:
        """See Lender."""
        apic, own = self.apic, 1 << self.vector
        again, self.tick.line = self.tick.line, False
        apic.requests = apic.requests | own if condition == "pending" or condition == "active" and again else apic.requests & ~own
        apic.service = apic.service | own if condition == "active" else apic.service & ~own
        if self.tick.armed is not None:
            count, apic.loaded_at = self.tick.armed
            apic.initial_count = count
        if not apic.lvt_timer.periodic:
            apic.expired = self.tick.deadline is None

    def receive(self, message: Message) -> bool:
        """Whether a message has to wait until the processor is out of native code."""
        if self.take_back():
            return False
        self.waiting.append(message)
        return True

    def called(self) -> None:
        """The processor is."""
        waiting, self.waiting = self.waiting, []
        for message in waiting:
            self.apic.receive(message)
        self.apic.refresh()

    def lend(self) -> bool:
        """Let native code have it, if there is nothing else."""
        apic, timer = self.apic, self.apic.lvt_timer
        own = 1 << timer.vector
        if timer.masked or timer.vector < 16 or not apic.accepts or apic.external():
            return False
        if (apic.requests | apic.service) & ~own or apic.trigger & own or timer.vector & 0xF0 <= int(apic.tpr) & 0xF0:
            return False
        active = bool(apic.service & own)
        self.vector, self.tick.line = timer.vector, bool(apic.requests & own)
        condition: Condition = "active" if active else "pending" if apic.requests & own else "idle"
        period = int(apic.initial_count) * apic.divisor() if timer.periodic else 0
        if 0 < period < SHORTEST:
            return False
        scale = 0 if timer.periodic else apic.divisor()
        self.tick.lend(condition, timer.vector, end=PAGE + EOI, mask=0, period=period, arm=PAGE + INITIAL_COUNT, scale=scale)
        return True
