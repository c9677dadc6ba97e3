"""A job: long work on disks that can be watched, slowed, paused and ended from another thread."""

import threading
import time
from collections.abc import Callable


class Cancelled(Exception):
    """The job was told to end."""


class Job:
    """`run` does the work in the caller's thread. `done` of `total` bytes; `speed` in bytes per second, 0 without a limit.

    `watch`, when set, is called with the job whenever it has come forward.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.speed = 0
        self.watch: Callable[[Job], None] | None = None
        self._cancelled = False
        self._going = threading.Event()
        self._going.set()
        self._due = 0.0

    def run(self) -> None:
        """All of it. Raises Cancelled, UserError, OSError."""
        raise NotImplementedError

    def cancel(self) -> None:
        """`run` raises Cancelled soon."""
        self._cancelled = True
        self._going.set()

    def pause(self) -> None:
        """Stop for a while, after what is under way."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._going.set()

    def advance(self, count: int, costly: bool = True) -> None:
        """`count` more bytes are done; `costly` ones count for the speed. Waits while paused or too fast; raises Cancelled."""
        self.done += count
        if self.watch is not None:
            self.watch(self)
        if costly and self.speed:
            now = time.monotonic()
            self._due = max(self._due, now) + count / self.speed
            if self._due > now:
                time.sleep(self._due - now)
        self._going.wait()
        if self._cancelled:
            raise Cancelled
