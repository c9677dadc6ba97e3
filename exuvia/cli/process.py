"""What the command line says of this process: its name, the file with its number, whether it goes on in the background, dated messages."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from exuvia.support.errors import UserError


class Dated:
    """A text stream whose lines begin with the time (QEMU, `-msg timestamp=on`: ISO 8601, in UTC)."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._begins = stream, True

    def write(self, text: str) -> int:
        """As a stream's."""
        for line in text.splitlines(keepends=True):
            if self._begins:
                self.stream.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} ")
            self.stream.write(line)
            self._begins = line.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def date_messages() -> None:
    """From now on what is written to standard error has the time."""
    sys.stderr = Dated(sys.stderr)


def call_it(name: str) -> None:
    """The name of the process, of which Linux keeps 15 bytes."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(os.fsencode(name))


@contextlib.contextmanager
def numbered(path: str | None) -> Iterator[None]:
    """The number of the process is in the file meanwhile; what is no regular file stays (root's would be a device of the host's).

    UserError where it cannot be written."""
    if path is None:
        yield
        return
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise UserError(f"-pidfile {path}: {error.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.isfile(path):
                os.unlink(path)


def in_background() -> Callable[[], None]:
    """Go on in a process of its own, in a session of its own; what is returned says there that it has begun.

    The first process ends when that was said, with status 0, or with status 1 when the other ended before, which has said why.
    """
    heard, told = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        os.close(told)
        if not os.read(heard, 1):
            os.waitpid(child, 0)
            os._exit(1)
        os._exit(0)
    os.close(heard)
    os.setsid()

    def begun() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.close(null)
        os.write(told, b"1")
        os.close(told)

    return begun
