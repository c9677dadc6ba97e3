"""reopen: change how the image is open.

-r  read-only    -w  to be written    -c  cache mode    -o  options of the driver
"""

from exuvia.cli.io.session import Call, Session
from exuvia.support.errors import UserError

USAGE = "[(-r|-w)] [-c cache] [-o options]"
ONE_LINE = "reopens an image with new options"
OPTIONS = "rwc:o:"
LEAST, MOST = 0, None
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Close it, and open it as it was but for what is told."""
    if "r" in call and "w" in call:
        raise UserError("Only one -r/-w option may be given")
    arguments = dict(session.arguments)
    if "r" in call or "w" in call:
        arguments["writable"] = "w" in call
    if "c" in call:
        arguments["cache"] = call.options["c"]
    name = session.name
    if "o" in call:
        name = (
            f"{name},{call.options['o']}"
            if arguments.get("described")
            else f"driver={session.driver()},file.filename={name},{call.options['o']}"
        )
        arguments.update(described=True, format=None)
    session.close()
    session.open(name, **arguments)
    return True
