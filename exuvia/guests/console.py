"""Runs one command in a guest over its serial console: `exuvia run GUEST --exec CMD`.

The guest's shell, as first process, is given FIRST on the kernel's command line: it turns echo off, says that it is ready and reads one
line. That line, sent by `ExecConsole`, carries the command in octal escapes, so that any byte gets through. Output stands between two
marks that hold a random word, the second with the exit status; then the guest powers off.
"""

import os
import secrets
from collections.abc import Callable

from exuvia.backends.chardev.chardev import Chardev

_TAIL = 4096  # bytes of boot messages kept, for the report when the boot fails
_LINE = 4096  # bytes without a line's end after which they are looked at all the same


class ExecConsole(Chardev):
    """The other end of the guest's serial port. `status` is the command's exit status once `done`.

    sink     gets the command's output
    on_boot  gets what the guest says before, and b"" when that is over
    """

    def __init__(self, command: str, sink: Callable[[bytes], object], on_boot: Callable[[bytes], object] = lambda _: None) -> None:
        super().__init__("exec")
        self._command, self._sink, self._on_boot = command, sink, on_boot
        self._word = secrets.token_hex(8)
        self._state: Callable[[], bool] = self._boot
        self._held = bytearray()
        self._said = b""
        self.started = self.done = False
        self.status = 1

    @property
    def first(self) -> str:
        """What the guest's shell runs first: raw mode, the mark, one line read as it is and run."""
        return f"IFS=; set -f; busybox stty raw -echo; echo {self._word}-ready; read -r c; eval $c"

    @property
    def line(self) -> bytes:
        """The line that runs the command. Kernel messages are off meanwhile."""
        octal = "".join(f"\\0{byte:03o}" for byte in os.fsencode(self._command))
        return (
            f"unset IFS; set +f; echo 1 >/proc/sys/kernel/printk; c=$(printf '%b' '{octal}'); printf '%s-%s\\n' {self._word} begin; "
            f"sh -c \"$c\" </dev/null 2>&1; printf '%s-end %d\\n' {self._word} $?; busybox poweroff -f\n"
        ).encode()

    def write(self, data: bytes) -> None:
        """Take what the guest says. Work is done by the line: a serial port writes byte by byte."""
        self._held += data
        if b"\n" in data or len(self._held) > _LINE:
            while self._state():
                pass

    def last_words(self) -> str:
        """The last line that the guest wrote before the command began."""
        lines = (self._said + self._held).decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    def _after(self, mark: str) -> bool:
        """Drop what is held up to the end of `mark`; False, and all of it but the last bytes goes to `on_boot`, when it is not there."""
        wanted = f"{self._word}-{mark}\n".encode()
        at = self._held.find(wanted)
        if at >= 0:
            new = self._take(at + len(wanted))
        else:
            new = self._take(len(self._held) if self._held.endswith(b"\n") else max(0, len(self._held) - len(wanted)))
        self._said = (self._said + new)[-_TAIL:]
        if not self.started:
            self._on_boot(new.removesuffix(wanted))
        return at >= 0

    def _boot(self) -> bool:
        if not self._after("ready"):
            return False
        self._state = self._ready
        self.started = True
        self._on_boot(b"")
        self.deliver(self.line)
        return True

    def _ready(self) -> bool:
        if not self._after("begin"):
            return False
        self._state = self._output
        return True

    def _output(self) -> bool:
        mark = f"{self._word}-end ".encode()
        at = self._held.find(mark)
        if at >= 0:
            self._emit(at)
            self._take(len(mark))
            self._state = self._ending
            return True
        self._emit(len(self._held) - next(n for n in range(len(mark) - 1, -1, -1) if self._held.endswith(mark[:n])))
        return False

    def _emit(self, count: int) -> None:
        if count:
            self._sink(self._take(count))

    def _ending(self) -> bool:
        digits, newline, _ = bytes(self._held).partition(b"\n")
        if newline or len(self._held) > _LINE:
            self.status = int(digits) if digits.isdigit() and len(digits) <= 3 else 1
            self.done = True
            self._state = self._finished
        return False

    def _finished(self) -> bool:
        self._held.clear()
        return False
