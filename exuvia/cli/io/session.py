"""What the commands share: the open image, requests under way, and how a line becomes a call."""

from __future__ import annotations

import sys

from exuvia.disk.format import Format
from exuvia.disk.options import LARGEST, size
from exuvia.disk.queue import Queue
from exuvia.support.errors import UserError
from exuvia.support.later import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from exuvia.disk.filters.blkdebug import BlkDebug

# each names a module here with USAGE, ONE_LINE, LEAST and MOST words, OPTIONS (of getopt(3)), NEEDS_FILE and `run(session, call) -> bool`
COMMANDS = """abort aio_flush aio_read aio_write alloc break close discard flush help info length map open quit read readv remove_break
    reopen resume sigraise sleep truncate wait_break write writev""".split()
MODULES = {"break": "break_"}  # a word of Python cannot name a module
SHORT = {"r": "read", "w": "write", "q": "quit", "s": "length", "d": "discard", "f": "flush", "c": "close", "o": "open", "i": "info",
         "b": "", "?": "help"}  # fmt: skip
MOST_BYTES = (1 << 31) - 512  # of one request


class Failed(Exception):
    """The command did not do its work; the text is printed on standard output, as it is no mistake of the program's call."""


class Misused(Exception):
    """Options that the command does not know."""


class Call:
    """A command's words: options with their values, and the rest."""

    __slots__ = ("options", "rest")

    def __init__(self, words: Iterable[str], known: str) -> None:
        """Take options as getopt(3) does, anywhere among the words. Raises Misused."""
        self.options: dict[str, str] = {}
        self.rest: list[str] = []
        left = iter(words)
        for word in left:
            if word == "--":
                self.rest += left
            elif word[0] != "-" or word == "-":
                self.rest.append(word)
            else:
                for at, letter in enumerate(word[1:], 2):
                    place = known.find(letter)
                    if place < 0 or letter == ":":
                        raise Misused(f"invalid option -- '{letter}'")
                    if known[place + 1 : place + 2] != ":":
                        self.options[letter] = ""
                        continue
                    value = word[at:] or next(left, None)
                    if value is None:
                        raise Misused(f"option requires an argument -- '{letter}'")
                    self.options[letter] = value
                    break

    def __contains__(self, option: str) -> bool:
        return option in self.options

    def number(self, at: int) -> int:
        """Word `at` as a number of bytes. Raises Failed."""
        return number(self.rest[at])

    def pattern(self, default: int) -> int:
        """The byte of -P. Raises Failed."""
        text = self.options.get("P")
        if text is None:
            return default
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if not 0 <= value <= 255:
            raise Failed(f"{text} is not a valid pattern byte")
        return value


def number(text: str) -> int:
    """A size with suffix. Raises Failed with QEMU's words."""
    try:
        return size(text)
    except UserError as error:
        if "too large" in str(error):
            raise Failed(f"Parsing error: argument too large -- {text}") from None
        raise Failed(f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}") from None


def length(text: str, most: int = MOST_BYTES, hint: str = "") -> int:
    """The length of a request. Raises Failed."""
    count = number(text)
    if count > most:
        raise Failed(f"length cannot exceed {most}{hint}, given {text}")
    return count


class Session:
    """At most one image is open. `run` executes lines until `quit`."""

    def __init__(self) -> None:
        self.image: Format | None = None
        self.queue: Queue | None = None
        self.arguments: dict[str, Any] = {}
        self.name = ""
        self.reports: list[str] = []  # of asynchronous requests that are complete
        self.ended = False
        self.commands: dict[str, Any] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, name: str, format: str | None = None, **arguments: Any) -> None:
        """Open an image as the options of `exuvia-io` and of its `open` say. Raises UserError."""
        from exuvia.cli.img.opening import open_named

        self.name, self.arguments = name, {"format": format, **arguments}
        overlay, copy_on_read = arguments.pop("overlay", False), arguments.pop("copy_on_read", False)
        discard = arguments.pop("discard", None)
        try:
            if overlay:
                arguments["writable"] = False
            image = open_named(name, format, **arguments)
        except UserError as error:
            said = str(error)
            raise UserError(f"can't open device {name}: " + said.removeprefix(f"Could not open '{name}': ")) from None
        if discard in ("ignore", "off"):
            image.discard = lambda offset, length: None  # type: ignore[method-assign]
        if overlay:
            from exuvia.cli.overlay import overlay as over

            image = over(image)
        if copy_on_read:
            image = self.keeping(image)
        self.image, self.queue = image, Queue(image)

    def driver(self) -> str:
        """The open image's format."""
        assert self.image is not None
        return self.image.name

    def keeping(self, image: Format) -> Format:
        """The image with copy-on-read."""
        from exuvia.disk.graph import FILTERS

        return FILTERS["copy-on-read"](image)

    def debugger(self) -> BlkDebug | None:
        """The blkdebug under the open image, which prints what it stops."""
        from exuvia.disk.filters.blkdebug import find

        found = find(self.image)
        if found is not None:
            found.say = print
        return found

    def close(self) -> None:
        """Finish what is under way and close the image, if there is one."""
        self.settle()
        if self.queue is not None:
            self.queue.close()
        if self.image is not None:
            self.image.close()
        self.image = self.queue = None

    def settle(self) -> None:
        """Wait for asynchronous requests and say what became of them."""
        if self.queue is not None:
            self.queue.drain()
        self.say_reports()

    def say_reports(self) -> None:
        """Print what has been completed by now."""
        reports, self.reports = self.reports, []
        for text in reports:
            print(text)

    def run(self, lines: Iterable[str]) -> int:
        """Execute lines; 1 when one failed."""
        status = 0
        for line in lines:
            if not self.execute(line):
                status = 1
            if self.reports:
                self.say_reports()
            if self.ended:
                break
        self.settle()
        return status

    def execute(self, line: str) -> bool:
        """One line; whether it worked."""
        words = line.split()
        if not words:
            return True
        name = SHORT.get(words[0], words[0])
        command = self.commands.get(name)
        if command is None:
            if name not in COMMANDS:
                return self.complain(f'command "{words[0]}" not found')
            command = self.commands[name] = module(f"exuvia.cli.io.{MODULES.get(name, name)}")
        if command.NEEDS_FILE and self.image is None:
            return self.complain("no file open, try 'help open'")
        count, least, most = len(words) - 1, command.LEAST, command.MOST
        if count < least or (most is not None and count > most):
            wanted = f"at least {least}" if most is None else f"{least}" if least == most else f"between {least} and {most}"
            return self.complain(f"bad argument count {count} to {words[0]}, expected {wanted} arguments")
        try:
            call = Call(words[1:], command.OPTIONS)
        except Misused as error:
            self.complain(f"{words[0]}: {error}")
            print(f"{name} {command.USAGE}{' ' if command.USAGE else ''}-- {command.ONE_LINE}")
            return False
        try:
            worked: bool = command.run(self, call)
        except Failed as error:
            if str(error):
                print(error)
            return False
        except UserError as error:
            return self.complain(f"exuvia-io: {error}")
        except OSError as error:
            return self.complain(f"exuvia-io: {error.filename or self.name}: {error.strerror or error}")
        return worked

    @staticmethod
    def complain(text: str) -> bool:
        """A line on standard error; never worked."""
        sys.stdout.flush()
        print(text, file=sys.stderr)
        return False


__all__ = ["COMMANDS", "LARGEST", "MOST_BYTES", "Call", "Failed", "Session", "length", "number"]
