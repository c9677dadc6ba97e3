"""The tick in native code (dsl/tick.py): it rings, it is acknowledged and ended at an interrupt controller's registers."""

from __future__ import annotations

from exuvia.codegen.layout import REASON, routine_at
from exuvia.codegen.native import Native, V
from exuvia.dsl.state import Layout
from exuvia.dsl.tick import ACTIVE, AWAY, IDLE, NEVER, PENDING

ROUTINE = "interrupt"


def takes_part(layout: Layout) -> bool:
    """Whether the architecture has such a timer."""
    return ROUTINE in layout.routines


def due(b: Native, at: dict[str, int], now: V) -> V:
    """Does the timer ring? `now` is virtual time."""
    return now >= b.get(at["tick_at"])


def rings(b: Native, at: dict[str, int], now: V) -> None:
    """The timer's output goes high; what the controller has not lent is Python's."""
    rang = b.get(at["tick_at"])
    state = b.get(at["tick_state"])
    with b.if_(state == AWAY, False):
        b.ret(REASON["tick"])
    period = b.get(at["tick_period"])
    b.put(at["tick_at"], NEVER)
    with b.if_(period != 0, False):  # those that were missed are one
        late = now - rang
        b.put(at["tick_at"], now + period - V(b, b.let(f"urem i64 {late.name}, {period.name}")))
    b.put(at["tick_line"], 1)
    b.put(at["tick_state"], b.choose(state == IDLE, PENDING, state))


def pending(b: Native, at: dict[str, int]) -> V:
    """Is it to be delivered, once it is welcome?"""
    return b.get(at["tick_state"]) == PENDING


def deliver(b: Native, layout: Layout) -> None:
    """Have the architecture's text look whether it is, at `pc`."""
    b.go(b.arg("st", True) + routine_at(layout, ROUTINE), b.arg("ic"))


def lent(b: Native, at: dict[str, int]) -> V:
    """Does native code have it?"""
    return b.get(at["tick_state"]) != AWAY


def acknowledge(b: Native, at: dict[str, int]) -> V:
    """What a read of the register `tick_ack` finds, and does."""
    found = pending(b, at)
    answer = b.choose(found, b.get(at["tick_number"]), b.get(at["tick_none"]))
    b.put(at["tick_state"], b.choose(found, ACTIVE, b.get(at["tick_state"])))
    return answer


def ends(b: Native, at: dict[str, int], value: V) -> V:
    """Is this, written to the register `tick_end`, what ends it?"""
    named = ((value ^ b.get(at["tick_number"])) & b.get(at["tick_mask"])) == 0
    return (b.get(at["tick_state"]) == ACTIVE) & named


def arm(b: Native, at: dict[str, int], count: V, now: V) -> None:
    """What a write to the register `tick_arm` does."""
    for word, value in (("count", count), ("loaded", now), ("armed", 1)):
        b.put(at[f"tick_{word}"], value)
    b.put(at["tick_at"], b.choose(count == 0, NEVER, now + count * b.get(at["tick_scale"])))


def end(b: Native, at: dict[str, int]) -> None:
    """It does: the next one may be waiting already."""
    b.put(at["tick_state"], b.choose(b.get(at["tick_line"]) != 0, PENDING, IDLE))
