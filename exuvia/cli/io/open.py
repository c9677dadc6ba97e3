"""open: open an image for the commands that follow.

Example: 'open -n -o driver=raw /tmp/data' opens raw data, uncached.
 -r  read-only    -s  leave the image alone: what is written goes to a temporary file    -C  copy on read
 -n  short for -t none    -t  cache mode    -d  discard mode    -U  open although somebody writes    -k, -i  taken, all the same here
 -o  a description: KEY=VALUE,...
"""

from __future__ import annotations

from exuvia.cli.io.session import Call, Failed, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]"
ONE_LINE = "open the file specified by path"
OPTIONS = "rsCnkUi:t:d:o:"
LEAST, MOST = 0, None
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Open one, if none is open."""
    if session.image is not None:
        return session.complain("exuvia-io: file open already, try 'help close'")
    options = call.options
    given: dict[str, Any] = {
        "writable": "r" not in call,
        "share": "U" in call,
        "cache": "none" if "n" in call else options.get("t"),
        "discard": options.get("d"),
        "overlay": "s" in call,
        "copy_on_read": "C" in call,
    }
    if len(call.rest) > 1 or not (call.rest or "o" in call):
        raise Failed(f"open {USAGE} -- {ONE_LINE}")
    if "o" not in call:
        session.open(call.rest[0], **given)
        return True
    words = options["o"]
    if call.rest:
        words += f",file.filename={call.rest[0].replace(',', ',,')}" if "driver=" in words else f",file={call.rest[0]}"
    session.open(words, described=True, **given)
    return True
