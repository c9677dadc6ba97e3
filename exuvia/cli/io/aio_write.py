"""aio_write: asynchronously write a range of bytes from buffers, which are full of 0xcd unless -P says otherwise.

Example: 'aio_write 512 1k 1k' writes 2 KiB at offset 512, some time later. aio_flush waits for all such requests.
It counts as done when it is submitted, whatever becomes of it.
 -P  fill with this byte    -z  make the range read as zeros; -u: it may give up its room    -f  flush before it is done
 -C  report for programs    -i  count it as invalid    -q  report nothing
"""

import os
import time

from exuvia.cli.io.report import done
from exuvia.cli.io.session import LARGEST, Call, Failed, Session, length, number
from exuvia.cli.io.transfer import buffers, writable
from exuvia.disk.queue import Completion

USAGE = "[-Cfiquz] [-P pattern] off len [len..]"
ONE_LINE = "asynchronously writes a number of bytes"
OPTIONS = "CfiP:quz"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Submit, and say later what became of it."""
    assert session.queue is not None
    writable(session)
    if "z" in call and len(call.rest) != 2:
        raise Failed("-z supports only a single length parameter")
    if "u" in call and "z" not in call:
        raise Failed("-u requires -z to be specified")
    if "z" in call and "P" in call:
        raise Failed("-z and -P cannot be specified at the same time")
    offset = number(call.rest[0])
    began = time.perf_counter()
    if "i" in call:
        return True
    if "z" in call:
        count = length(call.rest[1], LARGEST)
        future = session.queue.zero(offset, count, unmap="u" in call)
    else:
        vector = buffers(call.rest[1:], call.pattern(0xCD))
        count, future = vector.length, session.queue.write(offset, vector)

    def complete(future: Completion) -> None:
        error = future.exception()
        try:
            if error is None and "f" in call and session.image is not None:
                session.image.flush()
        except OSError as failure:
            error = failure
        if error is not None:
            session.reports.append(f"aio_write failed: {os.strerror(getattr(error, 'errno', 0) or 5)}")
        elif "q" not in call:
            session.reports.append(done("wrote", time.perf_counter() - began, offset, count, "C" in call))

    future.add_done_callback(complete)
    return True
