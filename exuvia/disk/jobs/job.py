"""A job: long work on disks that can be watched, slowed, paused and ended from another thread."""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Cancelled(Exception):
    """The job was told to end."""


class Job:
    """`run` does the work in the caller's thread. `done` of `total` bytes; `speed` in bytes per second, 0 without a limit.

    `watch`, when set, is called with the job whenever it has come forward. `start` gives `run` a thread of its own; then `state` tells
    where it is and `error` what ended it, None when it did what it should.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.speed = 0
        self.watch: Callable[[Job], None] | None = None
        self._cancelled = False
        self._held = False  # paused or cancelled
        self._going = threading.Event()
        self._going.set()
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.ready = threading.Event()  # a job that goes on until it is told to `complete` has caught up

    def start(self) -> None:
        """Run on a thread of its own."""
        self._thread = threading.Thread(target=self._work, name=type(self).__name__.lower(), daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.error = error
        finally:
            self.ready.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether a job that was started is over, after at most so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.state == "concluded"

    @property
    def state(self) -> str:
        """In QMP's words (JobStatus): created, running, paused, ready or concluded."""
        if self._thread is None:
            return "created"
        if not self._thread.is_alive():
            return "concluded"
        return "paused" if not self._going.is_set() else "ready" if self.ready.is_set() else "running"

    def run(self) -> None:
        """All of it. Raises Cancelled, UserError, OSError."""
        raise NotImplementedError

    def cancel(self) -> None:
        """`run` raises Cancelled soon."""
        self._cancelled = self._held = True
        self._going.set()

    def pause(self) -> None:
        """Stop for a while, after what is under way."""
        self._going.clear()
        self._held = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._held = self._cancelled
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
        if self._held:
            self._going.wait()
            if self._cancelled:
                raise Cancelled
