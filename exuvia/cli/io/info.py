"""info: what format the image has, and what that has to say."""

from __future__ import annotations

from exuvia.cli.img.output import listed
from exuvia.cli.io.report import amount
from exuvia.cli.io.session import Call, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = ""
ONE_LINE = "prints information about the current file"
OPTIONS = ""
LEAST, MOST = 0, 0
NEEDS_FILE = True


def run(session: Session, call: Call) -> bool:
    """Lines as QEMU prints them."""
    image: Any = session.image
    if session.arguments.get("copy_on_read"):  # which -C put in front, and nobody asked about
        image = image.file
    print(f"format name: {image.name}")
    print(f"cluster size: {amount(image.cluster or 0)}")
    print(f"vm state offset: {amount(getattr(image, 'state_offset', 0))}")
    if specific := image.info():
        print(f"Format specific information:\n{listed(specific)}", end="")
    return True
