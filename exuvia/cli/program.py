"""How every command begins and ends: one line for a user's error, exit statuses, broken pipes."""

from __future__ import annotations

import gc
import os
import sys

from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

GARBAGE = 50_000  # new objects between two looks for cycles: among what imports make, looking took a tenth of a short command


class Wrong(UserError):
    """The command line makes no sense; a hint to --help follows the text."""


def complain(program: str, error: UserError) -> None:
    """Say on standard error what the user did wrong."""
    print(f"{program}: {error}", file=sys.stderr)
    if isinstance(error, Wrong):
        print(f"Try '{program} --help' for more information", file=sys.stderr)


def start(program: str, function: Callable[[Sequence[str]], int], *, leave: bool = False) -> NoReturn:
    """Run `function(arguments)` as the command `program` and exit with its status; a UserError is one line and status 1.

    `leave`: the process ends without taking the interpreter apart, which costs a short command a sixth of its time. Nothing that is
    registered to run at exit does.
    """
    gc.set_threshold(GARBAGE)
    try:
        status = function(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        complain(program, error)
        status = 1
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    except OSError as failure:
        complain(program, UserError(f"{failure.filename}: {failure.strerror}" if failure.filename else f"{failure.strerror or failure}"))
        status = 1
    except KeyboardInterrupt:
        status = 130
    if leave:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    sys.exit(status)
