"""A clock for tests that moves only when it is told to."""

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
