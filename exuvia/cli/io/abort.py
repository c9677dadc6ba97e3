"""abort: simulate a program crash using abort(3)."""

import os

from exuvia.cli.io.session import Call, Session

USAGE = ""
ONE_LINE = "simulate a program crash using abort(3)"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Die, as if something had gone badly wrong."""
    os.abort()
