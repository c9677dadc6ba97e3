"""remove_break: forget a breakpoint and let what stands there go on."""

import errno
import os

from exuvia.cli.io.session import Call, Session

USAGE = "tag"
ONE_LINE = "remove a breakpoint by tag"
OPTIONS = ""
LEAST, MOST = 1, 1
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Forget it."""
    debug = session.debugger()
    if debug is not None and debug.remove_breakpoint(call.rest[0]):
        return True
    print(f"Could not remove breakpoint {call.rest[0]}: {os.strerror(errno.ENOENT if debug else errno.ENOTSUP)}")
    return False
