"""A tick without a processor: the test does what native code would."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.devices.irq.tick import Condition


class FakeTick:
    """`state` is None while it is not lent; `loan` is what it was lent with. `elsewhere`: the processor is in native code."""

    def __init__(self) -> None:
        self.ring: Callable[[], object] = lambda: None
        self.wanted: Callable[[], object] = lambda: None
        self.line = self.elsewhere = self.asked = False
        self.state: Condition | None = None
        self.loan: dict[str, int] = {}
        self.deadline: int | None = None
        self.armed: tuple[int, int] | None = None

    @property
    def lent(self) -> bool:
        return self.state is not None

    def set(self, at: int) -> None:
        self.deadline = at

    def cancel(self) -> None:
        self.deadline = None

    def lend(self, condition: Condition, number: int, **loan: int) -> None:
        self.state, self.loan, self.armed = condition, loan | {"number": number}, None

    def take_back(self) -> Condition | None:
        assert self.lent, "nobody asks for what is here"
        if self.elsewhere:
            self.asked = True
            return None
        state, self.state = self.state, None
        return state

    # what native code does
    def rings(self) -> None:
        """The timer's output goes high."""
        self.line = True
        if self.state == "idle":
            self.state = "pending"

    def becomes(self, state: Condition) -> None:
        """Delivered, acknowledged, ended."""
        assert self.lent
        self.state = state

    def leaves(self) -> None:
        """The processor is out of native code."""
        self.elsewhere = False
        if self.asked:
            self.asked = False
            self.wanted()
