"""map: which areas are the image's own, not its backing image's."""

from itertools import groupby

from exuvia.cli.io.report import amount
from exuvia.cli.io.session import Call, Session
from exuvia.disk.node import Kind

USAGE = ""
ONE_LINE = "prints the allocated areas of a file"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """A line for each area."""
    assert session.image is not None
    offset = 0
    for own, extents in groupby(session.image.extents(0, session.image.size), lambda extent: extent.kind is not Kind.ABSENT):
        length = sum(extent.length for extent in extents)
        state = "    allocated" if own else "not allocated"
        print(f"{amount(length)} (0x{length:x}) bytes {state} at offset {amount(offset)} (0x{offset:x})")
        offset += length
    return True
