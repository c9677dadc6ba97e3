"""close: close the current open file."""

from exuvia.cli.io.session import Call, Session

USAGE = ""
ONE_LINE = "close the current open file"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Let go of the image."""
    session.close()
    return True
