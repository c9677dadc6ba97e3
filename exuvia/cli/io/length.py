"""length: gets the length of the current file."""

from exuvia.cli.io.report import amount
from exuvia.cli.io.session import Call, Session

USAGE = ""
ONE_LINE = "gets the length of the current file"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Print it with a unit."""
    assert session.image is not None
    print(amount(session.image.size))
    return True
