"""A progress bar on standard error, where that is a terminal; elsewhere one line when the work begins."""

import shutil
import sys
import time
from types import TracebackType


class Progress:
    """`with Progress("Alpine") as progress: progress(done, total)`; counts are bytes."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._terminal = sys.stderr.isatty()
        self._shown = False
        self._last = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are there."""
        if not self._terminal:
            if not self._shown:
                print(f"{self.title}: {total / 1e6:.1f} MB", file=sys.stderr, flush=True)
            self._shown = True
            return
        if self._shown and done < total and time.monotonic() - self._last < 0.1:
            return
        self._shown, self._last = True, time.monotonic()
        share = done / total if total else 1.0
        width = max(10, min(40, shutil.get_terminal_size().columns - len(self.title) - 30))
        bar = ("█" * int(width * share)).ljust(width, "░")
        print(f"\r{self.title} {bar} {share:4.0%} {done / 1e6:6.1f}/{total / 1e6:.1f} MB", end="\x1b[K", file=sys.stderr, flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._terminal and self._shown:
            print("\r", end="\x1b[K", file=sys.stderr, flush=True)
