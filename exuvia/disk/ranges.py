"""Stretches of a node that one thread at a time may use."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Ranges:
    """`hold` waits until nobody holds a byte of a stretch. The same thread does not hold two that overlap."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int]] = []
        self._change = threading.Condition()

    @contextmanager
    def hold(self, start: int, end: int) -> Iterator[None]:
        """[start, end) is this thread's until the `with` ends."""
        mine = (start, end)
        with self._change:
            self._change.wait_for(lambda: all(end <= first or last <= start for first, last in self._held))
            self._held.append(mine)
        try:
            yield
        finally:
            with self._change:
                self._held.remove(mine)
                self._change.notify_all()
