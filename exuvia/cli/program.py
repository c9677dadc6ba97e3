"""How every command begins and ends: one line for a user's error, exit statuses, broken pipes."""

from __future__ import annotations

import gc
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper

from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

GARBAGE = 50_000  # new objects between two looks for cycles: among what imports make, looking took a tenth of a short command


class Wrong(UserError):
    """The command line makes no sense; a hint to --help follows the text."""


def to_nowhere(number: int) -> None:
    """What is written to this descriptor is lost from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)


class Output(FileIO):
    """Standard output, whose failure says that it is its own: else a command takes it for one of the image that it works on."""

    def write(self, data: Any) -> int:
        """As FileIO's; after the first failure everything is lost, so that it is told once."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            to_nowhere(self.fileno())
            raise


def prepare() -> None:
    """Make standard output an `Output`. What the caller closed goes nowhere, and no file that is opened later takes its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            to_nowhere(number)
            setattr(sys, name, TextIOWrapper(BufferedWriter(FileIO(number, "w", closefd=False))))
    out = sys.stdout
    if isinstance(out, TextIOWrapper):
        buffer = BufferedWriter(Output(out.fileno(), "w", closefd=False))
        sys.stdout = TextIOWrapper(buffer, out.encoding, out.errors, None, out.line_buffering, out.write_through)


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
    prepare()
    try:
        status = function(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        complain(program, error)
        status = 1
    except BrokenPipeError:  # whoever read the output has enough
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
