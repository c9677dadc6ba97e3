"""resume: let a request go on that stands at a breakpoint."""

import errno
import os

from exuvia.cli.io.session import Call, Session

USAGE = "tag"
ONE_LINE = "resumes the request tagged as tag"
OPTIONS = ""
LEAST, MOST = 1, 1
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Let it go."""
    debug = session.debugger()
    if debug is not None and debug.resume(call.rest[0]):
        return True
    print(f"Could not resume request: {os.strerror(errno.ENOENT if debug else errno.ENOTSUP)}")
    return False
