"""`exuvia-img COMMAND …`: one file per command here, imported when it is used."""

from __future__ import annotations

import sys

from exuvia.cli.arguments import Arguments, parse
from exuvia.cli.program import Wrong, start
from exuvia.support.errors import UserError
from exuvia.support.later import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

# each names a module here with OPTIONS and `run(arguments) -> exit status`; its docstring is the help
COMMANDS = "amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot".split()

GENERAL = """
A SIZE is a number of bytes, perhaps with k, M, G, T, P or E of 1024s. A FMT is one of those that `exuvia-img --help` lists and is
found out where it is left out; name it for raw images, whose content could pretend to be anything.
--image-opts: file names are KEY=VALUE,… descriptions; `json:{…}` is one anywhere. --object secret,id=ID,data=TEXT|file=PATH: a password.
-U, --force-share: open although somebody writes. -q: print errors only. -p: show the progress (or send SIGUSR1).
-t, -T: none, writeback, writethrough, directsync or unsafe, the cache of the target and of the source. --output: human or json.
"""


def overview() -> str:
    """The help of the whole."""
    from exuvia.disk.graph import FILTERS, FORMATS, PROTOCOLS

    lines = ["usage: exuvia-img COMMAND [options]", ""]
    for name in COMMANDS:
        title = (module(f"exuvia.cli.img.{name}").__doc__ or "").split("\n", 1)[0]
        lines.append(f"  {name:<10}{title.partition(': ')[2]}")
    names = sorted({*FORMATS, *PROTOCOLS, *FILTERS})
    lines += ["", "exuvia-img COMMAND --help tells more.", GENERAL.strip(), "", f"Supported formats: {' '.join(names)}"]
    return "\n".join(lines)


def name_of(arguments: Arguments) -> str:
    """What a failure of the host's is told of: the image that the command works on."""
    return arguments.rest[0] if arguments.rest else "standard output"


def run(words: Sequence[str]) -> int:
    """The command line; its exit status."""
    name = words[0] if words else ""
    if not words:
        raise Wrong("Not enough arguments")
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name in ("-V", "--version"):
        from exuvia import __version__

        print(f"exuvia-img version {__version__}")
        return 0
    if name.startswith("-"):
        raise Wrong(f"unrecognized option '{name}'")
    if name not in COMMANDS:
        raise Wrong(f"Command not found: {name}")
    command: Any = module(f"exuvia.cli.img.{name}")
    try:
        arguments = parse(words[1:], command.OPTIONS, keep_last=name == "resize")
        if arguments.has("help"):
            print(f"{(command.__doc__ or '').strip()}\n{GENERAL}")
            return 0
        for text in arguments.values("object"):
            from exuvia.disk.objects import define

            define(text)
        status: int = command.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (UserError, OSError) as failure:
        error = failure if isinstance(failure, UserError) else UserError(f"{failure.filename or name_of(arguments)}: {failure.strerror}")
        failed: int = getattr(command, "FAILED", 1)
        if failed == 1 or isinstance(error, Wrong):
            raise error from None
        print(f"exuvia-img: {error}", file=sys.stderr)
        return failed
    return status


def main() -> NoReturn:
    """The console script `exuvia-img`."""
    start("exuvia-img", run, leave=True)


if __name__ == "__main__":
    main()

__all__ = ["COMMANDS", "main", "run"]
