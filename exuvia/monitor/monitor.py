"""The human monitor: reads lines from a character backend, runs commands, writes their answers."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from exuvia.monitor.target import Processor, Target, Translate
from exuvia.support.errors import UserError, unknown
from exuvia.support.registry import modules

PROMPT = "(exuvia) "
_LINE = 4096  # characters of a line, at most
_HISTORY = 100


def commands() -> dict[str, Callable[..., None]]:
    """The commands by name: `do_x` in a file of `monitor/commands` is the command `x`."""
    found = {}
    for dotted in modules("exuvia.monitor.commands").values():
        for name, value in vars(import_module(dotted)).items():
            if name.startswith("do_") and inspect.isfunction(value) and value.__module__ == dotted:
                found[name.removeprefix("do_")] = value
    return dict(sorted(found.items()))


class Monitor:
    """A monitor on `chardev` for `machine`. Everything happens in the machine thread, where the backend delivers its input."""

    def __init__(self, machine: Target, chardev: Any, translate: Translate) -> None:
        self.machine, self.chardev, self.translate = machine, chardev, translate
        self.commands = commands()
        self.cpu = 0
        self._line = ""
        self._history: list[str] = []
        self._back = 0  # how many lines back in the history the line shown is
        self._escape = ""
        self._greeted = False

    @property
    def processor(self) -> Processor:
        """The processor that `cpu` chose."""
        chosen: Processor = self.machine.vcpus[self.cpu]
        return chosen

    def start(self) -> None:
        """Take input; the greeting comes at once."""
        self.chardev.connect(self.receive)
        self.greet()

    def attach(self) -> None:
        """Take input; the greeting comes with the first `greet` (a multiplexer shows this monitor then)."""
        self.chardev.connect(self.receive)

    def greet(self) -> None:
        """Say who is here, the first time; then show the prompt."""
        if not self._greeted:
            from exuvia import __version__

            self._greeted = True
            self.print(f"Exuvia {__version__} monitor - type 'help' for more information")
        self.write("\r" + PROMPT + self._line)

    def write(self, text: str) -> None:
        """Write text as it is, with the line ends that a raw terminal needs."""
        self.chardev.write(text.replace("\n", "\r\n").encode())

    def print(self, text: str = "") -> None:
        """Write a line (or several)."""
        self.write(text + "\n")

    def execute(self, line: str) -> None:
        """Run one command line; a mistake in it is answered in a line."""
        words = line.split()
        if not words:
            return
        name, _, suffix = words[0].partition("/")
        try:
            if name not in self.commands:
                raise unknown("command", name, self.commands)
            function = self.commands[name]
            arguments = ["/" + suffix, *words[1:]] if suffix else words[1:]
            try:
                inspect.signature(function).bind(self, *arguments)
            except TypeError:
                raise UserError(f"usage: {usage(name, function)}") from None
            function(self, *arguments)
        except UserError as error:
            self.print(str(error))

    def receive(self, data: bytes) -> None:
        """Keys: printable ones, Enter, Backspace, Ctrl-U, Ctrl-C, the arrows up and down."""
        for char in data.decode("latin-1"):
            self._key(char)

    def _key(self, char: str) -> None:
        if self._escape:
            self._escape += char
            if char.isalpha() or char == "~" or len(self._escape) > 8:
                self._arrow(self._escape)
                self._escape = ""
        elif char == "\x1b":
            self._escape = char
        elif char in "\r\n":
            self._enter()
        elif char in "\x08\x7f":
            if self._line:
                self._line = self._line[:-1]
                self.write("\x08 \x08")
        elif char in "\x03\x15":
            self._show("")
        elif char.isprintable() and len(self._line) < _LINE:
            self._line += char
            self.chardev.write(char.encode("latin-1"))

    def _arrow(self, sequence: str) -> None:
        step = {"\x1b[A": 1, "\x1bOA": 1, "\x1b[B": -1, "\x1bOB": -1}.get(sequence, 0)
        back = self._back + step
        if step and 0 <= back <= len(self._history):
            self._back = back
            self._show(self._history[-back] if back else "")

    def _show(self, line: str) -> None:
        self._line = line
        self.write(f"\r\x1b[K{PROMPT}{line}")

    def _enter(self) -> None:
        line, self._line, self._back = self._line, "", 0
        self.print()
        if line.strip() and self._history[-1:] != [line]:
            self._history = [*self._history[1 - _HISTORY :], line]
        self.execute(line)
        self.write(PROMPT)


def usage(name: str, function: Callable[..., None]) -> str:
    """How a command is typed, from its parameters."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return " ".join([name, *(p.name if p.default is p.empty else f"[{p.name}]" for p in parameters)])
