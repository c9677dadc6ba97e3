"""What a user sees while the processor is compiled for the first time: a bar on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

WIDTH = 30


def compiling() -> Callable[[int, int], None] | None:
    """A callable (instruction forms compiled, of how many), or None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        bar = "█" * (WIDTH * done // total)
        sys.stderr.write(f"\r\x1b[2Kcompiling the processor, once: {bar:░<{WIDTH}} {done} of {total} instruction forms")
        if done == total:
            sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()

    return show
