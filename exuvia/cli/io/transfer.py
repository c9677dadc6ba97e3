"""Reads and writes as the commands do them, on one buffer or several, at once or asynchronously."""

from __future__ import annotations

import errno
import os
import time

from exuvia.cli.io.report import done, dump
from exuvia.cli.io.session import Call, Failed, Session, length, number
from exuvia.disk.node import Unsupported
from exuvia.disk.vector import Vector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def attempt(what: str, work: Callable[[], None]) -> float:
    """Do something here and now; the seconds it took. Raises Failed with the system's word for what went wrong."""
    began = time.perf_counter()
    try:
        work()
    except OSError as error:
        raise Failed(f"{what} failed: {os.strerror(error.errno) if error.errno else error}") from None
    except Unsupported:
        raise Failed(f"{what} failed: {os.strerror(errno.ENOTSUP)}") from None
    return time.perf_counter() - began


def buffers(words: list[str], byte: int) -> Vector:
    """A buffer for each length, filled."""
    return Vector([memoryview(bytearray((byte,)) * length(word)) for word in words])


def aligned(call: Call, offset: int, count: int) -> None:
    """The machine's state and compressed clusters are asked for in whole sectors. Raises Failed."""
    if "b" not in call and "c" not in call:
        return
    for what, value in (("offset", offset), ("count", count)):
        if value % 512:
            raise Failed(f"{value} is not a sector-aligned value for '{what}'")


def check(call: Call, data: bytes, start: int = 0, count: int | None = None, offset: int = 0) -> str | None:
    """What -P has to say about what was read, None where it agrees or was not given."""
    if "P" not in call:
        return None
    count = len(data) - start if count is None else count
    if data[start : start + count].count(call.pattern(0)) != count:
        return f"Pattern verification failed at offset {offset + start}, {count} bytes"
    return None


def read(session: Session, call: Call, what: str, vector: Vector, start: int = 0, count: int | None = None) -> bool:
    """Read into `vector`, verify, dump, report."""
    assert session.queue is not None and session.image is not None
    queue, image, offset = session.queue, session.image, number(call.rest[0])

    def work() -> None:
        if "b" in call:
            image.read_state(offset, vector)
        else:
            queue.check(offset, vector.length, False)
            image.readv(offset, vector)

    seconds = attempt(what, work)
    if "P" not in call and "v" not in call and "q" in call:
        return True
    data = vector.gather() if "P" in call or "v" in call else b""
    wrong = check(call, data, start, count, offset)
    if wrong:
        print(wrong)
    if "q" not in call:
        if "v" in call:
            print("\n".join(dump(data, offset)))
        print(done("read", seconds, offset, vector.length, "C" in call))
    return wrong is None


def write(session: Session, call: Call, what: str, verb: str, offset: int, count: int, change: Callable[[], None]) -> bool:
    """Change `count` bytes, flush where -f wants it, report."""
    assert session.queue is not None
    queue = session.queue

    def work() -> None:
        if "b" not in call:
            queue.check(offset, count, True)
        change()
        if "f" in call:
            queue.node.flush()

    seconds = attempt(what, work)
    if "q" not in call:
        print(done(verb, seconds, offset, count, "C" in call))
    return True


def writable(session: Session) -> None:
    """Refuse to write what was opened read-only, as QEMU does before a command runs."""
    from exuvia.support.errors import UserError

    if session.image is not None and not session.image.writable:
        raise UserError("Block node is read-only")
