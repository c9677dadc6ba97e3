"""alloc: how many of the bytes at an offset are the image's own, not its backing image's."""

from exuvia.cli.io.report import amount
from exuvia.cli.io.session import Call, Session, length, number
from exuvia.disk.node import Kind

USAGE = "offset [count]"
ONE_LINE = "checks if offset is allocated in the file"
OPTIONS = ""
LEAST, MOST = 1, 2
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Print the sum."""
    assert session.image is not None
    offset = number(call.rest[0])
    count = length(call.rest[1], (1 << 63) - 1) if len(call.rest) > 1 else 512
    count = max(0, min(count, session.image.size - offset))
    own = sum(extent.length for extent in session.image.extents(offset, count) if extent.kind is not Kind.ABSENT)
    print(f"{own}/{count} bytes allocated at offset {amount(offset)}")
    return True
