"""sigraise: raises a signal."""

import signal
import sys

from exuvia.cli.io.session import Call, Failed, Session

USAGE = "signal"
ONE_LINE = "raises a signal"
OPTIONS = ""
LEAST, MOST = 1, 1
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Send this process a signal by its number."""
    try:
        number = signal.Signals(int(call.rest[0], 0))
    except ValueError:
        raise Failed(f"{call.rest[0]} is not a valid signal number") from None
    sys.stdout.flush()
    signal.raise_signal(number)
    return True
