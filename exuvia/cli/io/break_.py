"""break: stop the next request that comes to an event, for tests with blkdebug."""

import errno
import os

from exuvia.cli.io.session import Call, Session

USAGE = "event tag"
ONE_LINE = "sets a breakpoint on event and tags the stopped request as tag"
OPTIONS = ""
LEAST, MOST = 2, 2
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Set it."""
    debug = session.debugger()
    try:
        if debug is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        debug.breakpoint(*call.rest)
    except OSError as error:
        print(f"Could not set breakpoint: {error.strerror}")
        return False
    return True
