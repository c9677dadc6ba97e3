"""readv: a range of bytes into several buffers.

Example: 'readv -v 512 1k 1k' dumps 2 KiB from offset 512 on.
 -C  report for programs    -q  report nothing    -v  dump what was read    -P  verify that every byte is this one
"""

from exuvia.cli.io.session import Call, Session
from exuvia.cli.io.transfer import buffers, read

USAGE = "[-Cqv] [-P pattern] off len [len..]"
ONE_LINE = "reads a number of bytes at a specified offset"
OPTIONS = "CP:qv"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Read into one buffer for each length."""
    call.pattern(0)
    return read(session, call, "readv", buffers(call.rest[1:], 0xAB))
