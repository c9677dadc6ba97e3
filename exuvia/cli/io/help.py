"""help: what a command does, or which there are."""

from __future__ import annotations

from exuvia.cli.io.session import COMMANDS, MODULES, Call, Session
from exuvia.support.later import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "[command]"
ONE_LINE = "help for one or all commands"
OPTIONS = ""
LEAST, MOST = 0, 1
NEEDS_FILE = False


def run(session: Session, call: Call) -> bool:
    """Print it."""
    if call.rest and call.rest[0] not in COMMANDS:
        print(f"command {call.rest[0]} not found")
        return False
    for name in call.rest or COMMANDS:
        command: Any = module(f"exuvia.cli.io.{MODULES.get(name, name)}")
        print(f"{name} {command.USAGE}{' ' if command.USAGE else ''}-- {command.ONE_LINE}")
        if call.rest and command.__doc__ and "\n" in command.__doc__:
            print(command.__doc__.partition("\n")[2].rstrip())
    if not call.rest:
        print("\nUse 'help commandname' for extended help.")
    return True
