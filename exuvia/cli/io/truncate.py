"""truncate: make the image longer or shorter. -m: how new room is given (off, metadata, falloc, full)."""

from exuvia.cli.io.session import Call, Failed, Session, number
from exuvia.cli.io.transfer import writable
from exuvia.support.errors import UserError

USAGE = "[-m prealloc_mode] off"
ONE_LINE = "truncates the current file at the given offset"
OPTIONS = "m:"
LEAST, MOST = 1, 3
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Resize to this many bytes."""
    assert session.image is not None
    mode = call.options.get("m", "off")
    if mode not in ("off", "metadata", "falloc", "full"):
        raise UserError(f"Invalid preallocation mode '{mode}'")
    if len(call.rest) != 1:
        raise Failed(f"truncate {USAGE} -- {ONE_LINE}")
    writable(session)
    session.image.resize(number(call.rest[0]), mode)
    return True
