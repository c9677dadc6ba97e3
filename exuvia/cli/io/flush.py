"""flush: flush all in-core file state to disk."""

from exuvia.cli.io.session import Call, Session
from exuvia.cli.io.transfer import attempt

USAGE = ""
ONE_LINE = "flush all in-core file state to disk"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Make all that was written safe."""
    assert session.queue is not None
    attempt("flush", session.queue.node.flush)
    return True
