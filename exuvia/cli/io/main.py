"""exuvia-io: exercise a disk image.

usage: exuvia-io [OPTIONS] [-c COMMAND]... [FILE]

  -c, --cmd COMMAND      execute a command; without any, they are read from standard input
  -f, --format FMT       the image's format; found out where it is left out
  -r, --read-only        open it read-only
  -s, --snapshot         leave the image alone: what is written goes to a temporary file
  -C, --copy-on-read     keep what is read of its backing image
  -n, --nocache          short for -t none
  -t, --cache MODE       none, writeback, writethrough, directsync or unsafe
  -d, --discard MODE     ignore or unmap
  -U, --force-share      open although somebody writes
  -i, --aio MODE         threads, native or io_uring (all the same here: threads);  -k is -i native;  -m is taken and means nothing
  --image-opts           FILE is a description: KEY=VALUE,...
  --object OBJECT        secret,id=ID,data=TEXT|file=PATH: a password
  -h, --help; -V, --version

`exuvia-io -c help` lists the commands.

example: exuvia-io -f raw -c 'write -P 0x5a 0 64k' -c 'read -P 0x5a 0 64k' disk.img
"""

from __future__ import annotations

import sys

from exuvia.cli.arguments import parse
from exuvia.cli.img.opening import MODES
from exuvia.cli.io.session import Session
from exuvia.cli.program import Wrong, start
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

OPTIONS = """cmd/c= format/f= read-only/r snapshot/s copy-on-read/C nocache/n cache/t= discard/d= force-share/U aio/i= native-aio/k
    misalign/m image-opts object= version/V trace/T="""


def run(words: Sequence[str]) -> int:
    """The command line; 1 when a command failed."""
    arguments = parse(words, OPTIONS)
    given, rest = arguments.given, arguments.rest
    names = [name for name, _ in given]
    last = dict(given)
    if "help" in names:
        print((__doc__ or "").split("\n", 2)[2].rstrip())
        return 0
    if "version" in names:
        from exuvia import __version__

        print(f"exuvia-io version {__version__}")
        return 0
    if len(rest) > 1:
        raise Wrong("one FILE at most")
    if "image-opts" in names and "format" in names:
        raise UserError("--image-opts and -f are mutually exclusive")
    for name, text in given:
        if name == "object":
            from exuvia.disk.objects import define

            define(text)
    for option, words in (("cache", MODES), ("discard", ("ignore", "off", "unmap", "on")), ("aio", ("threads", "native", "io_uring"))):
        if last.get(option, words[0]) not in words:
            raise UserError(f"Invalid {option} option: {last[option]}")
    with Session() as session:
        if rest:
            session.open(
                rest[0],
                last.get("format"),
                described="image-opts" in names,
                writable="read-only" not in names,
                share="force-share" in names,
                cache="none" if "nocache" in names else last.get("cache"),
                discard=last.get("discard"),
                overlay="snapshot" in names,
                copy_on_read="copy-on-read" in names,
            )
        commands = [value for name, value in given if name == "cmd"]
        return session.run(commands or prompted())


def prompted() -> Iterator[str]:
    """Lines of standard input, each asked for."""
    say, flush, ask = sys.stdout.write, sys.stdout.flush, sys.stdin.readline
    while True:
        say("exuvia-io> ")
        flush()
        line = ask()
        if not line:
            if sys.stdin.isatty():
                print()
            return
        yield line.rstrip("\n")


def main() -> NoReturn:
    """The console script `exuvia-io`."""
    start("exuvia-io", run, leave=True)


if __name__ == "__main__":
    main()
