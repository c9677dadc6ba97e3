"""Several users of one backend: serial ports and the monitor take turns, Ctrl-A is the way between them.

The keys are QEMU's (System Emulation, "Keys in the character backend multiplexer").
"""

import time
from collections.abc import Callable

from exuvia.backends.chardev.chardev import Chardev, Post

ESCAPE = 0x01  # Ctrl-A
LIMIT = 1 << 16  # bytes kept for a user that does not take them; then keys are lost, so that Ctrl-A x always gets through

HELP = """
C-a h    print this help
C-a x    exit
C-a s    save disk data back to file (there is no such saving yet)
C-a t    toggle console timestamps
C-a b    send break (magic sysrq)
C-a c    switch between console and monitor
C-a C-a  sends C-a
"""


class MuxPort(Chardev):
    """One user's view of the shared backend."""

    def __init__(self, mux: "Mux", id: str) -> None:
        super().__init__(id)
        self._mux = mux

    def write(self, data: bytes) -> None:
        """Output, whoever has the keyboard."""
        self._mux.output(data)

    def deliver(self, data: bytes) -> None:
        """Keys, while this user has them."""
        super().deliver(data[: max(0, LIMIT - len(self._waiting))])


class Mux:
    """Shares `backend`: every `port()` writes to it, one of them has its input."""

    def __init__(self, backend: Chardev, on_quit: Callable[[], object]) -> None:
        self.backend, self.on_quit = backend, on_quit
        self.ports: list[MuxPort] = []
        self.focus = 0
        self.on_focus: Callable[[MuxPort], object] | None = None
        self._escaped = False
        self._stamps: float | None = None
        self._line_start = True
        backend.connect(self.input)

    def port(self, id: str) -> MuxPort:
        """A new user. The first one has the keyboard at the start."""
        made = MuxPort(self, id)
        self.ports.append(made)
        return made

    def open(self, post: Post) -> None:
        """Open the backend."""
        self.backend.open(post)

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()

    def output(self, data: bytes) -> None:
        """Output of any port, each line with the time since `C-a t` where that was asked for."""
        if self._stamps is None:
            self.backend.write(data)
            return
        stamped = b""
        for line in data.splitlines(keepends=True):
            if self._line_start:
                elapsed = time.monotonic() - self._stamps
                stamped += b"[%02d:%02d:%06.3f] " % (elapsed // 3600, elapsed // 60 % 60, elapsed % 60)
            stamped += line
            self._line_start = line.endswith(b"\n")
        self.backend.write(stamped)

    def input(self, data: bytes) -> None:
        """Keys from the backend: commands are taken out, the rest goes to the port that has the keyboard."""
        plain = bytearray()
        for byte in data:
            if not self._escaped and byte != ESCAPE:
                plain.append(byte)
                continue
            if not self._escaped:
                self._escaped = True
                continue
            self._escaped = False
            if byte == ESCAPE:
                plain.append(byte)
                continue
            self._pass(plain)
            self._command(chr(byte))
        self._pass(plain)

    def _pass(self, plain: bytearray) -> None:
        if plain and self.ports:
            self.ports[self.focus].deliver(bytes(plain))
        plain.clear()

    def _command(self, key: str) -> None:
        match key:
            case "h" | "?":
                self.backend.write(HELP.encode())
            case "x":
                self.backend.write(b"exuvia: terminated\n")
                self.on_quit()
            case "s":
                self.backend.write(b"what -snapshot keeps cannot be saved yet\n")
            case "t":
                self._stamps = time.monotonic() if self._stamps is None else None
                self._line_start = False
            case "b" if self.ports:
                self.ports[self.focus].send_break()
            case "c" if self.ports:
                self.focus = (self.focus + 1) % len(self.ports)
                if self.on_focus is not None:
                    self.on_focus(self.ports[self.focus])
            case _:  # an unknown key is swallowed
                pass
