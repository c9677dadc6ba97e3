"""The progress that -p shows, on standard output as QEMU does; without it, SIGUSR1 asks for a line."""

from __future__ import annotations

import sys
from _signal import SIGUSR1, signal  # type: ignore[import-not-found]  # what is around them makes enumerations, 2 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from exuvia.disk.jobs.job import Job


class Watch:
    """`with Watch(shown) as watch:`, then `job.watch = watch` or `watch.share(0.5)`."""

    def __init__(self, shown: bool, quiet: bool = False) -> None:
        self.shown = shown and not quiet
        self._last = -1.0
        self._asked = False

    def __enter__(self) -> Watch:
        if not self.shown:
            try:
                signal(SIGUSR1, self._ask)
            except ValueError:  # not in the main thread
                pass
        self.share(0.0)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def __call__(self, job: Job) -> None:
        """The job has come forward."""
        if self.shown or self._asked:
            self.share(job.done / job.total if job.total else 1.0)

    def share(self, share: float) -> None:
        """`share` of 1 is done."""
        percent = min(share, 1.0) * 100
        if self.shown and (percent - self._last >= 1 or percent == 100 != self._last or self._last < 0):
            print(f"    ({percent:3.2f}/100%)", end="\r", flush=True)
            self._last = percent
        if self._asked:
            self._asked = False
            print(f"    ({percent:3.2f}/100%)", file=sys.stderr, flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.shown:
            print(flush=True)
