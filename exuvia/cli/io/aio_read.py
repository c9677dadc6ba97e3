"""aio_read: asynchronously read a range of bytes into buffers.

Example: 'aio_read -v 512 1k 1k' dumps 2 KiB from offset 512 on, some time later. aio_flush waits for all such requests.
It counts as done when it is submitted, whatever becomes of it.
 -C  report for programs    -i  count it as invalid    -P  verify that every byte is this one    -q  report nothing    -v  dump
"""

import os
import time

from exuvia.cli.io.report import done, dump
from exuvia.cli.io.session import Call, Session, number
from exuvia.cli.io.transfer import buffers, check
from exuvia.disk.queue import Completion

USAGE = "[-Ciqv] [-P pattern] off len [len..]"
ONE_LINE = "asynchronously reads a number of bytes"
OPTIONS = "CP:iqv"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Submit, and say later what became of it."""
    assert session.queue is not None
    call.pattern(0)
    offset, vector = number(call.rest[0]), buffers(call.rest[1:], 0xAB)
    if "i" in call:
        return True
    began = time.perf_counter()

    def complete(future: Completion) -> None:
        error = future.exception()
        if error is not None:
            session.reports.append(f"readv failed: {os.strerror(getattr(error, 'errno', 0) or 5)}")
            return
        data = vector.gather() if {"P", "v"} & call.options.keys() else b""
        lines = [text for text in (check(call, data, offset=offset),) if text]
        if "q" not in call:
            lines += list(dump(data, offset)) if "v" in call else []
            lines.append(done("read", time.perf_counter() - began, offset, vector.length, "C" in call))
        if lines:
            session.reports.append("\n".join(lines))

    session.queue.read(offset, vector).add_done_callback(complete)
    return True
