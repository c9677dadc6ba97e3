"""writev: a range of bytes from several buffers, which are full of 0xcd unless -P says otherwise.

Example: 'writev 512 1k 1k' writes 2 KiB at offset 512.
 -P  fill with this byte    -f  flush before it is done    -C  report for programs    -q  report nothing
"""

from exuvia.cli.io.session import Call, Session, number
from exuvia.cli.io.transfer import buffers, writable, write

USAGE = "[-Cfq] [-P pattern] off len [len..]"
ONE_LINE = "writes a number of bytes at a specified offset"
OPTIONS = "CfqP:"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Write one buffer for each length."""
    image = session.image
    assert image is not None
    writable(session)
    offset, vector = number(call.rest[0]), buffers(call.rest[1:], call.pattern(0xCD))
    return write(session, call, "writev", "wrote", offset, vector.length, lambda: image.writev(offset, vector))
