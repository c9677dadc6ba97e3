"""Virtual time: it starts at power-on, stands still while the machine is paused, and fires the devices' timers.

Timers belong to the machine thread: `set`, `cancel`, `run_due` and `next_deadline` are called there only; `now` may be asked anywhere.
"""

import heapq
import time
from collections.abc import Callable

TOGETHER = 3_000  # ns between readings that count as one
TRIES = 20


class Timer:
    """One alarm of a Clock; `deadline` is its virtual time in nanoseconds, or None while it is not armed."""

    def __init__(self, clock: "Clock", callback: Callable[[], None]) -> None:
        self.deadline: int | None = None
        self._clock, self._callback = clock, callback
        self._ticket = -1  # the number of this timer's one valid entry in the clock's heap

    def set(self, at: int) -> None:
        """Arm, or arm again, for virtual time `at` ns; the callback then runs once. A time that has passed is due at once."""
        if at != self.deadline:
            self.deadline = at
            self._ticket = self._clock._enter(at, self)

    def cancel(self) -> None:
        """Disarm; nothing happens when it is not armed."""
        self.deadline, self._ticket = None, -1


class Clock:
    """Nanoseconds of virtual time, paused at 0 until the first `resume()`; `source` counts the host's nanoseconds."""

    def __init__(self, source: Callable[[], int] = time.monotonic_ns) -> None:
        self._source = source
        self._base = 0  # source time at virtual 0, while running
        self._stopped: int | None = 0  # the virtual time at which the clock stands, None while running
        self._heap: list[tuple[int, int, Timer]] = []
        self._tickets = 0
        self._timers: list[Timer] = []
        self.beside: Callable[[], int] = lambda: 0
        """Another counter of the host's, its TSC. The guest's stands when virtual time does: `skip` is told how far this one went then."""
        self.skip: Callable[[int], object] = lambda count: None
        self._held = 0  # what it showed when virtual time stopped

    def now(self) -> int:
        """Nanoseconds of virtual time since power-on."""
        stopped = self._stopped
        return self._source() - self._base if stopped is None else stopped

    def rest(self, ns: int) -> None:
        """Leave the host's processor to others for so long, if time goes on meanwhile: where a guest only asks what time it is."""
        if self._stopped is None:
            time.sleep(ns / 1_000_000_000)

    @property
    def running(self) -> bool:
        """False while paused."""
        return self._stopped is None

    def pause(self) -> None:
        """Stop virtual time."""
        if self._stopped is None:
            at, self._held = self._both()
            self._stopped = at - self._base

    def resume(self) -> None:
        """Let virtual time go on from where it stands."""
        if self._stopped is not None:
            at, count = self._both()
            self._base = at - self._stopped
            self._stopped = None
            self.skip(count - self._held)

    def _both(self) -> tuple[int, int]:
        """Source and the counter beside it at one time: what the host does between two readings would part them, bit by bit."""
        for _ in range(TRIES):
            before, count, after = self._source(), self.beside(), self._source()
            if after - before < TOGETHER:
                break
        return (before + after) // 2, count

    def count(self) -> int:
        """The counter beside, which stands while virtual time does; any origin."""
        return self.beside() if self._stopped is None else self._held

    def restore(self, now: int) -> None:
        """Put the paused clock at `now` ns, as when a snapshot is loaded; raises RuntimeError while running."""
        if self._stopped is None:
            raise RuntimeError("the clock is running")
        self._stopped = now

    def host_time(self, at: int) -> int:
        """What the host's clock will show at virtual time `at`, as long as the clock runs; both in nanoseconds."""
        return self._base + at

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer, not armed, that will run `callback` in the machine thread."""
        made = Timer(self, callback)
        self._timers.append(made)
        return made

    def next_deadline(self) -> int | None:
        """The virtual time in ns at which the next timer is due, None when none is armed."""
        heap = self._heap
        while heap and heap[0][2]._ticket != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self) -> None:
        """Run the callbacks that are due, in the order of their deadlines.

        Each timer runs at most once per call, even when its callback arms it for a time that has passed: a guest that asks for a tiny
        period cannot keep the machine thread here.
        """
        now, heap = self.now(), self._heap
        due = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        for entry in due:
            timer = entry[2]
            if timer._ticket == entry[1]:
                timer.cancel()
                timer._callback()

    def _enter(self, at: int, timer: Timer) -> int:
        # Entries that were re-armed or cancelled stay in the heap until they surface; sweep when they are most of it.
        if len(self._heap) > 2 * len(self._timers) + 64:
            self._heap = [entry for entry in self._heap if entry[2]._ticket == entry[1]]
            heapq.heapify(self._heap)
        self._tickets += 1
        heapq.heappush(self._heap, (at, self._tickets, timer))
        return self._tickets
