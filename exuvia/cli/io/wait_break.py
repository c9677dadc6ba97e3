"""wait_break: wait until a request stands at a breakpoint."""

import errno
import os

from exuvia.cli.io.session import Call, Session

USAGE = "tag"
ONE_LINE = "waits for the suspension of a request"
OPTIONS = ""
LEAST, MOST = 1, 1
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Wait."""
    debug = session.debugger()
    if debug is None:  # QEMU waits for ever
        print(f"Could not wait for {call.rest[0]}: {os.strerror(errno.ENOTSUP)}")
        return False
    debug.wait_stopped(call.rest[0])
    return True
