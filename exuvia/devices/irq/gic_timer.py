"""The private interrupt of a processor's timer, lent to native code while nothing else goes on at the processor (docs/engine.md, the tick).

What a GIC would do then is little: pending becomes active when it is acknowledged, and that ends with EOIR (IHI 0048B, 3.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exuvia.devices.irq.gic import NONE
from exuvia.devices.irq.tick import Condition, Lender, Tick

if TYPE_CHECKING:
    from exuvia.devices.irq.gic import Interface


class LentTimer(Lender):
    """`intid` at `interface`, whose wires `update` drives; `registers` are `ack` and `end`, the addresses of IAR and EOIR if they have
    such."""

    def __init__(self, interface: Interface, tick: Tick, intid: int, update: Callable[[], object], **registers: int) -> None:
        self.interface, self.tick, self.intid, self.bit = interface, tick, intid, 1 << intid
        self.update, tick.wanted = update, self.called
        self.registers = registers
        self.priority, self.circumstances = (0, 0), (0, 0, 0, 0, 0)
        """When it was lent: another processor may have changed the registers since."""
        self.later: list[Callable[[], object]] = []
        """What others write to what native code has: whether it is active."""

    def returned(self, condition: Condition) -> None:
        """See Lender."""
        interface, bank, bit = self.interface, self.interface.bank, self.bit
        bank.lines = bank.lines | bit if self.tick.line else bank.lines & ~bit
        group, own = self.priority
        if condition == "active":
            bank.active |= bit
            interface.active_priorities[group] |= own
        else:
            bank.active &= ~bit
            interface.active_priorities[group] &= ~own
        waiting, self.later = self.later, []
        for work in waiting:
            work()

    def called(self) -> None:
        """The processor is out of native code."""
        self.interface.reclaim()
        self.update()

    def _priority(self) -> tuple[int, int]:
        """The group, and the bit of the active priorities."""
        group = self.interface.bank.group >> self.intid & 1
        return group, self.interface.active_bit(self.interface.bank.priority[self.intid], group)

    def lends(self, groups: int, others: Callable[[], object]) -> bool:
        """Whether native code has it, or will have: if it is of `groups`, a set, and no `others` are pending. The wires are low then."""
        now = self._circumstances(groups)
        if self.tick.lent and now == self.circumstances and not others():
            return True  # its processor is not disturbed
        if not self.take_back():
            return True
        interface = self.interface
        if not groups >> (interface.bank.group >> self.intid & 1) & 1 or (condition := self._condition()) is None or others():
            return False
        interface.irq.set(False)
        interface.fiq.set(False)
        self.priority, self.circumstances = self._priority(), now
        self.tick.lend(condition, self.intid, none=NONE, **self.registers)
        return True

    def _circumstances(self, groups: int) -> tuple[int, int, int, int, int]:
        """What others than its processor can change."""
        bank, bit = self.interface.bank, self.bit
        return groups, bank.enabled & bit, bank.group & bit, (bank.edge | bank.latched) & bit, bank.priority[self.intid]

    def _condition(self) -> Condition | None:
        """How it could be lent, None where it is disabled or masked, or something else is active. What else is pending is not looked at."""
        interface, bank, bit = self.interface, self.interface.bank, self.bit
        if not bank.enabled & bit or (bank.edge | bank.latched) & bit or bank.priority[self.intid] >= interface.priority_mask:
            return None
        active = list(interface.active_priorities)
        if not bank.active & bit:
            return None if any(active) else "pending" if bank.lines & bit else "idle"
        group, own = self._priority()
        return "active" if active[group] == own and not active[1 - group] else None
