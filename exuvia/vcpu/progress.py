"""What a user sees while handlers are compiled for the first time: a line on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable


def compiling() -> Callable[[int, int], None] | None:
    """A callable (handlers so far, in this batch), or None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(total: int, batch: int) -> None:
        sys.stderr.write(f"\r\x1b[2Kexuvia: compiling the processor, {total} instruction forms\r")
        sys.stderr.flush()

    return show
