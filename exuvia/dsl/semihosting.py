"""What semihosting's calling conventions have in common: the guest's buffers and strings, and calls that wait for input.

The host's side is `machine.semihosting` (backends/semihosting.py), None where it is off. OSError is what the guest is told as errno.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Generic, TypeVar

from exuvia.dsl.processor import Processor

C = TypeVar("C")

MOST = 64 << 20  # bytes that one call moves; of more, the rest is for the guest's next call
PIECE = 1 << 16
MOST_PATH, MOST_TEXT = 4095, 1 << 20


class Waits(Exception):
    """There is nothing to read yet; the processor is woken when there is."""


def bad(number: int) -> OSError:
    """The call fails with this errno."""
    return OSError(number, "")


class Operations(Generic[C]):
    """What a convention has: by number, what is done with a call. It gives the result, or None where registers are left alone."""

    def __init__(self, convention: str) -> None:
        self._convention = convention
        self._known: dict[int, Callable[[C], int | None]] = {}

    def operation(self, number: int) -> Callable[[Callable[[C], int | None]], Callable[[C], int | None]]:
        """Decorator: the function is operation `number`."""

        def register(f: Callable[[C], int | None]) -> Callable[[C], int | None]:
            self._known[number] = f
            return f

        return register

    def perform(self, p: Processor, number: int, call: C) -> int | None:
        """Operation `number`. Raises OSError where it fails, Waits."""
        if number not in self._known:
            p.unknown(f"{self._convention} operation {number:#x}")
            raise bad(errno.ENOSYS)
        return self._known[number](call)


def fetch(p: Processor, address: int, size: int) -> bytes:
    """All of a buffer of the guest's."""
    data = p.read_bytes(address, size)
    if len(data) < size:
        raise bad(errno.EFAULT)
    return data


def store(p: Processor, address: int, data: bytes) -> None:
    """Into a buffer of the guest's."""
    if p.write_bytes(address, data) < len(data):
        raise bad(errno.EFAULT)


def text(p: Processor, address: int, most: int = MOST_PATH) -> bytes:
    """A string of the guest's up to the zero behind it."""
    found = b""
    while len(found) <= most:
        size = 4096 - (address + len(found)) % 4096
        piece = p.read_bytes(address + len(found), size)
        head, zero, _ = piece.partition(b"\0")
        found += head
        if zero and len(found) <= most:
            return found
        if len(piece) < size:
            raise bad(errno.EFAULT)
    raise bad(errno.ENAMETOOLONG)


def send(p: Processor, address: int, count: int, write: Callable[[bytes], int]) -> int:
    """A buffer of the guest's to `write`: how many bytes went."""
    done, count = 0, min(count, MOST)
    while done < count:
        piece = p.read_bytes(address + done, min(PIECE, count - done))
        try:
            if not piece:
                raise bad(errno.EFAULT)
            took = write(piece)
        except OSError:
            if not done:
                raise
            break
        done += took
        if took < len(piece):
            break
    return done


def receive(p: Processor, address: int, count: int, read: Callable[[int], bytes | None]) -> int:
    """From `read` into a buffer of the guest's: how many bytes came, none at the end of a file."""
    done, count = 0, min(count, MOST)
    while done < count:
        wanted = min(PIECE, count - done)
        try:
            data = read(wanted)
            if data is None and not done:
                raise Waits
            if data and not (took := p.write_bytes(address + done, data)):
                raise bad(errno.EFAULT)
        except OSError:
            if not done:
                raise
            break
        if not data:
            break
        done += took
        if took < wanted:
            break
    return done
