"""quit: exit the program."""

from exuvia.cli.io.session import Call, Session

USAGE = ""
ONE_LINE = "exit the program"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """The end."""
    session.ended = True
    return True
