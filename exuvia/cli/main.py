"""`exuvia COMMAND`: one file per command, imported when it is used."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from exuvia.cli.program import start
from exuvia.support.errors import UserError, unknown

# each names a module here with `arguments(parser)` and `run(args) -> int`
COMMANDS = {
    "run": "boot a guest, or a kernel of yours",
    "guests": "list and fetch the guests that run knows",
    "ovf": "look into virtual appliances (.ova, .ovf) and take disks out of them",
    "profile": "run a guest and say where its time goes",
    "doctor": "what this host offers, and what to do about what it does not",
    "version": "print the version",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def run(arguments: Sequence[str]) -> int:
    """The command line; its exit status."""
    if arguments and arguments[0] == "--version":
        arguments = ["version"]
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print("usage: exuvia COMMAND [options]\n")
        print("".join(f"  {command:<10} {text}\n" for command, text in COMMANDS.items()))
        print("exuvia COMMAND --help tells more. exuvia-system-x86_64 and exuvia-system-i386 take QEMU's options.")
        return 0
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    command: Any = import_module(f"exuvia.cli.{name}")
    parser = _Parser(prog=f"exuvia {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.arguments(parser)
    status: int = command.run(parser.parse_args(arguments[1:]))
    return status


def main() -> NoReturn:
    """The console script `exuvia`."""
    start("exuvia", run)


if __name__ == "__main__":
    sys.exit(main())
