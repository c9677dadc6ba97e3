"""Runs one command in a guest over its serial console: `exuvia run GUEST --exec CMD`.

The guest's shell, as first process, is given FIRST on the kernel's command line: it turns echo off, says that it is ready and reads one
line. That line, sent by `ExecConsole`, carries the command in octal escapes, so that any byte gets through. Output stands between two
marks that hold a random word, the second with the exit status; then the guest powers off.
"""

import secrets
from collections.abc import Callable

from exuvia.backends.chardev.chardev import Chardev

_TAIL = 1 << 16  # bytes of boot messages kept, for the report when the boot fails


class ExecConsole(Chardev):
    """The other end of the guest's serial port. `sink` gets the command's output; `status` is its exit status once `done`."""

    def __init__(self, command: str, sink: Callable[[bytes], object], on_boot: Callable[[bytes], object] = lambda _: None) -> None:
        super().__init__("exec")
        self._command, self._sink, self._on_boot = command, sink, on_boot
        self._word = secrets.token_hex(8)
        self._state: Callable[[], bool] = self._boot
        self._held = b""
        self.started = self.done = False
        self.status = 1

    @property
    def first(self) -> str:
        """What the guest's shell runs first: raw mode, the mark, one line read as it is and run."""
        return f"IFS=; set -f; busybox stty raw -echo; echo {self._word}-ready; read -r c; eval $c"

    @property
    def line(self) -> bytes:
        """The line that runs the command. Kernel messages are off meanwhile."""
        octal = "".join(f"\\0{byte:03o}" for byte in self._command.encode())
        return (
            f"unset IFS; set +f; echo 1 >/proc/sys/kernel/printk; c=$(printf '%b' '{octal}'); printf '%s-%s\\n' {self._word} begin; "
            f"sh -c \"$c\" </dev/null 2>&1; printf '%s-end %d\\n' {self._word} $?; busybox poweroff -f\n"
        ).encode()

    def write(self, data: bytes) -> None:
        """Take what the guest says."""
        self._held += data
        while self._state():
            pass

    def last_words(self) -> str:
        """The last line that the guest wrote before the command began."""
        lines = self._held.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _boot(self) -> bool:
        self._on_boot(self._held)
        mark = f"{self._word}-ready".encode()
        at = self._held.find(mark)
        if at < 0:
            self._held = self._held[-_TAIL:]
            return False
        self._held = self._held[at + len(mark) :]
        self._state = self._ready
        self.started = True
        self.deliver(self.line)
        return True

    def _ready(self) -> bool:
        mark = f"{self._word}-begin\n".encode()
        at = self._held.find(mark)
        if at < 0:
            self._held = self._held[-_TAIL:]
            return False
        self._held = self._held[at + len(mark) :]
        self._state = self._output
        return True

    def _output(self) -> bool:
        mark = f"{self._word}-end ".encode()
        at = self._held.find(mark)
        if at >= 0:
            self._emit(at)
            self._held = self._held[len(mark) :]
            self._state = self._ending
            return True
        keep = next(length for length in range(min(len(mark) - 1, len(self._held)), -1, -1) if self._held.endswith(mark[:length]))
        self._emit(len(self._held) - keep)
        return False

    def _emit(self, count: int) -> None:
        if count:
            self._sink(self._held[:count])
            self._held = self._held[count:]

    def _ending(self) -> bool:
        digits, newline, _ = self._held.partition(b"\n")
        if newline or len(self._held) > 16:
            self.status = int(digits) if digits.isdigit() and len(digits) <= 3 else 1
            self.done = True
            self._state = self._finished
        return False

    def _finished(self) -> bool:
        self._held = b""
        return False
