"""aio_flush: completes all outstanding aio requests."""

from exuvia.cli.io.session import Call, Session

USAGE = ""
ONE_LINE = "completes all outstanding aio requests"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Wait for them all."""
    session.settle()
    return True
