"""read: a range of bytes into one buffer.

Example: 'read -v 512 1k' dumps 1 KiB from offset 512 on.
 -b  read the machine's state, which lies behind the disk
 -C  report for programs        -q  report nothing          -v  dump what was read
 -P  verify that every byte is this one; -s and -l: where verification begins in what was read, and for how long
 -p  nothing (an old option)
"""

from exuvia.cli.io.session import Call, Failed, Session, length, number
from exuvia.cli.io.transfer import aligned, buffers, read
from exuvia.disk.vector import Vector

USAGE = "[-abCqv] [-P pattern [-s off] [-l len]] off len"
ONE_LINE = "reads a number of bytes at a specified offset"
OPTIONS = "abCl:pP:qs:v"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Read, and verify where -P wants it."""
    if len(call.rest) != 2:
        raise Failed(f"read {USAGE} -- {ONE_LINE}")
    count = length(call.rest[1])
    aligned(call, number(call.rest[0]), count)
    if "P" in call:
        call.pattern(0)
    start = number(call.options["s"]) if "s" in call else 0
    checked = number(call.options["l"]) if "l" in call else count - start
    if "P" not in call and ("s" in call or "l" in call):
        raise Failed(f"read {USAGE} -- {ONE_LINE}")
    if start < 0 or start + checked > count:
        raise Failed("pattern verification range exceeds end of read data")
    vector = buffers([call.rest[1]], 0xAB) if count else Vector((bytearray(),))
    return read(session, call, "read", vector, start, checked)
