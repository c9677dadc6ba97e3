"""sleep: waits for the given value in milliseconds."""

import time

from exuvia.cli.io.session import Call, Failed, Session

USAGE = ""
ONE_LINE = "waits for the given value in milliseconds"
OPTIONS = ""
LEAST, MOST = 1, 1
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Let time pass; asynchronous requests go on."""
    try:
        milliseconds = int(call.rest[0], 0)
    except ValueError:
        raise Failed(f"{call.rest[0]} is not a valid number") from None
    time.sleep(milliseconds / 1000)
    return True
