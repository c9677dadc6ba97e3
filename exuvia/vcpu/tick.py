"""The tick in Python (dsl/tick.py): what a processor's timer sets, and what its interrupt controller lends and takes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from exuvia.dsl.tick import ACTIVE, AWAY, IDLE, NEVER, PENDING

if TYPE_CHECKING:
    from exuvia.vcpu.clock import Timer
    from exuvia.vcpu.software import SoftwareVcpu


Condition = Literal["idle", "pending", "active"]
STATES: dict[Condition, int] = {"idle": IDLE, "pending": PENDING, "active": ACTIVE}
CONDITIONS = {state: condition for condition, state in STATES.items()}
LOAN = "number end mask ack none period arm scale".split()
NOWHERE = (1 << 64) - 1


class Tick:
    """One processor's.

    `ring` is called when the timer rings and the tick is not lent; `wanted` when a controller could not take it back at once.
    """

    ring: Callable[[], object] = staticmethod(lambda: None)
    wanted: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, processor: SoftwareVcpu) -> None:
        self._processor, self._words, at = processor, processor.words, processor.at
        self._at, self._line, self._state = at["tick_at"], at["tick_line"], at["tick_state"]
        self._armed, self._count, self._loaded = (at[f"tick_{name}"] for name in ("armed", "count", "loaded"))
        self._period = at["tick_period"]
        self._loan = [at[f"tick_{name}"] for name in LOAN]
        self._alarm: Timer | None = None  # of the machine's clock, for a processor that is halted
        self.elsewhere: Callable[[], bool] = lambda: False
        """Whether the processor is in native code, in a thread of its own, while who asks holds the machine."""

    # -- the timer's side
    def set(self, at: int) -> None:
        """Ring at virtual time `at` ns."""
        self._words[self._at] = min(at, NEVER)
        if self._processor.halted:
            self.sleep()

    def cancel(self) -> None:
        """Do not."""
        self._words[self._at] = NEVER

    @property
    def deadline(self) -> int | None:
        """When it rings next."""
        return None if self._words[self._at] == NEVER else self._words[self._at]

    @property
    def armed(self) -> tuple[int, int] | None:
        """What the guest wrote to the register `arm` last since the tick was lent, and when."""
        return (self._words[self._count], self._words[self._loaded]) if self._words[self._armed] else None

    @property
    def line(self) -> bool:
        """The timer's output."""
        return bool(self._words[self._line])

    @line.setter
    def line(self, level: bool) -> None:
        self._words[self._line] = int(level)

    # -- the controller's side
    @property
    def lent(self) -> bool:
        """Whether native code has it."""
        return self._words[self._state] != AWAY

    def lend(
        self, condition: Condition, number: int, *, end: int = NOWHERE, mask: int = 0xFFFFFFFF,
        ack: int = NOWHERE, none: int = 0, period: int = 0, arm: int = NOWHERE, scale: int = 0,
    ) -> None:  # fmt: skip
        """Let native code go on from here: the words of dsl/tick.py. For who has it."""
        for word, value in zip(self._loan, (number, end, mask, ack, none, period, arm, scale), strict=True):
            self._words[word] = value
        self._words[self._armed] = 0
        self._words[self._state] = STATES[condition]
        if condition == "pending":
            self._processor.tick_pending()

    def take_back(self) -> Condition | None:
        """How native code left it, and it is lent no more. None: the processor is on its way to call `wanted`."""
        if self.elsewhere():
            self._processor.ask_for_tick()
            return None
        self.look()  # native code has yet to
        state, self._words[self._state] = self._words[self._state], AWAY
        return CONDITIONS[state]

    # -- the processor's side
    def reset(self) -> None:
        """As after power-on; the controller is reset before."""
        self.cancel()
        self.wake()
        self._words[self._line], self._words[self._state] = 0, AWAY

    def sleep(self) -> None:
        """The processor halts: the machine's clock wakes it."""
        if self._words[self._at] != NEVER:
            if self._alarm is None:
                self._alarm = self._processor.clock.timer(self.look)
            self._alarm.set(self._words[self._at])

    def wake(self) -> None:
        """It goes on."""
        if self._alarm is not None:
            self._alarm.cancel()

    def look(self) -> None:
        """Ring, if it is time."""
        at, now, period = self._words[self._at], self._processor.clock.now(), self._words[self._period]
        if at > now:
            if self._processor.halted:
                self.sleep()
            return
        state = self._words[self._state]
        if state == AWAY:
            self.cancel()
            self.ring()
            return
        if period:  # those that were missed are one
            self.set(at + ((now - at) // period + 1) * period)
        else:
            self.cancel()
        self.line = True
        if state == IDLE:
            self._words[self._state] = PENDING
            self._processor.tick_pending()
