"""discard: give up a range of bytes.

Example: 'discard 512 1k' discards 1 KiB at offset 512.
 -C  report for programs    -q  report nothing
"""

from exuvia.cli.io.session import LARGEST, Call, Session, length, number
from exuvia.cli.io.transfer import writable, write

USAGE = "[-Cq] off len"
ONE_LINE = "discards a number of bytes at a specified offset"
OPTIONS = "Cq"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Discard, and say so."""
    image = session.image
    assert image is not None
    writable(session)
    offset, count = number(call.rest[0]), length(call.rest[1], LARGEST)
    return write(session, call, "discard", "discard", offset, count, lambda: image.discard(offset, count))
