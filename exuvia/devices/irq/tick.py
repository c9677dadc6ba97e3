"""What a processor has for the interrupt of its own timer, which native code may handle while nothing else goes on (docs/engine.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

Condition = Literal["idle", "pending", "active"]


class Tick(Protocol):
    """See vcpu/tick.py."""

    line: bool
    ring: Callable[[], object]
    wanted: Callable[[], object]

    @property
    def lent(self) -> bool: ...
    @property
    def deadline(self) -> int | None: ...
    @property
    def armed(self) -> tuple[int, int] | None: ...
    def set(self, at: int) -> None: ...
    def cancel(self) -> None: ...
    def lend(
        self, condition: Condition, number: int, *, end: int = ..., mask: int = ..., ack: int = ..., none: int = ...,
        period: int = ..., arm: int = ..., scale: int = ...,
    ) -> None: ...  # fmt: skip
    def take_back(self) -> Condition | None: ...


class Lender:
    """What an interrupt controller has for a `tick` that it lends."""

    tick: Tick

    def take_back(self) -> bool:
        """What native code did is in the controller again. False: the processor has yet to leave native code, and calls `tick.wanted`."""
        if self.tick.lent:
            condition = self.tick.take_back()
            if condition is None:
                return False
            self.returned(condition)
        return True

    def returned(self, condition: Condition) -> None:
        """How native code left it: the controller's registers follow."""
        raise NotImplementedError
