"""write: a range of bytes from one buffer, which is full of 0xcd unless told otherwise.

Example: 'write 512 1k' writes 1 KiB at offset 512.
 -b  write the machine's state, which lies behind the disk     -c  compressed, where the format can
 -P  fill with this byte      -s  fill with a file's content, over and over
 -z  make the range read as zeros; -u: it may give up its room; -n: fail where that would be slow
 -f  flush before it is done     -C  report for programs       -q  report nothing     -p  nothing (an old option)
"""

import errno
import os

from exuvia.cli.io.session import LARGEST, MOST_BYTES, Call, Failed, Session, length, number
from exuvia.cli.io.transfer import aligned, buffers, writable, write
from exuvia.disk.format import Format
from exuvia.disk.vector import Vector

USAGE = "[-bcCfnquz] [-P pattern | -s source_file] off len"
ONE_LINE = "writes a number of bytes at a specified offset"
OPTIONS = "bcCfnpP:qs:uz"
LEAST, MOST = 2, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Write data or zeros."""
    image = session.image
    assert image is not None
    writable(session)
    refuse(call)
    offset = number(call.rest[0])
    zeros = "z" in call
    count = length(call.rest[1], LARGEST if "n" in call else MOST_BYTES, " without -n")
    aligned(call, offset, count)
    data = None if zeros else source(call, count)

    def change() -> None:
        if data is None:
            image.zero(offset, count, "u" in call)
        elif "b" in call:
            image.write_state(offset, data.gather())
        elif "c" in call:
            compress(image, offset, data.gather())
        else:
            image.writev(offset, data)

    return write(session, call, "write", "wrote", offset, count, change)


def compress(image: Format, offset: int, data: bytes) -> None:
    """Write whole clusters, one by one. Raises OSError(EINVAL) for a part of one."""
    unit = image.cluster if image.can_compress() and image.cluster else len(data) or 1
    if image.can_compress() and (offset % unit or (len(data) % unit and offset + len(data) != image.size)):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    for at in range(0, len(data), unit):
        image.write_compressed(offset + at, memoryview(data)[at : at + unit])


def refuse(call: Call) -> None:
    """Options that do not go together. Raises Failed."""
    if len(call.rest) != 2:
        raise Failed(f"write {USAGE} -- {ONE_LINE}")
    if "b" in call and "z" in call:
        raise Failed("-b and -z cannot be specified at the same time")
    if "f" in call and ("b" in call or "c" in call):
        raise Failed("-f and -b or -c cannot be specified at the same time")
    for option in "nu":
        if option in call and "z" not in call:
            raise Failed(f"-{option} requires -z to be specified")
    if sum(option in call for option in "zPs") > 1:
        raise Failed("Only one of -z, -P, and -s can be specified at the same time")
    call.pattern(0xCD)


def source(call: Call, count: int) -> Vector:
    """What to write. Raises Failed."""
    if "s" not in call:
        return buffers([call.rest[1]], call.pattern(0xCD))
    try:
        with open(call.options["s"], "rb") as file:
            content = file.read(count)
    except OSError as error:
        Session.complain(f"{call.options['s']}: {error.strerror}")
        raise Failed("") from None
    if not content:
        raise Failed(f"{call.options['s']}: file is empty")
    return Vector(((content * (count // len(content) + 1))[:count],))
