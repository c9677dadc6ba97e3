"""A clock for tests that moves only when it is told to, and a look at a wire."""

from exuvia.devices.device import Wire
from exuvia.vcpu.clock import Clock


class ManualClock(Clock):
    """Virtual time under the test's hand."""

    def __init__(self) -> None:
        self.time = 0
        super().__init__(lambda: self.time)
        self.resume()

    def advance(self, nanoseconds: int) -> None:
        """Move on, stopping at every deadline on the way."""
        end = self.time + nanoseconds
        while (at := self.next_deadline()) is not None and at <= end:
            self.time = max(self.time, at)
            self.run_due()
        self.time = end


def high(wire: Wire) -> bool:
    """Its level now; a type checker would take that of a moment ago for it."""
    return wire.level
