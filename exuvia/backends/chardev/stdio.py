"""`-chardev stdio`: the terminal that the command was started in, or whatever standard input and output are."""

import os
import select

from exuvia.backends.chardev import terminal
from exuvia.backends.chardev.chardev import Chardev, Post
from exuvia.backends.chardev.stream import Stream
from exuvia.support.errors import UserError


class Stdio(Chardev):
    """Standard input and output. A terminal is put in raw mode while the machine runs."""

    name = "stdio"
    options = {
        "signal": "off: Ctrl-C and Ctrl-Z go to the guest instead of this process (default on)",
        "mux": "on: several devices and the monitor share it, Ctrl-A c switches (default off)",
    }
    in_use = False

    def __init__(self, id: str, options: dict[str, str] | None = None) -> None:
        super().__init__(id, options)
        self.signals = self.switch("signal", True)
        self._stream: Stream | None = None

    def open(self, post: Post) -> None:
        """Raw mode and the reader; raises UserError when another backend has standard input already."""
        if Stdio.in_use:
            raise UserError("standard input is used by two character backends (mux=on lets them share one)")
        super().open(post)
        Stdio.in_use = True
        terminal.enter(0, signals=self.signals)
        self._stream = Stream(0, lambda data: self.post(lambda: self.deliver(data)), lambda: None, writes=False)
        self._stream.start()

    def write(self, data: bytes) -> None:
        """Write to standard output; what a closed one does not take is lost."""
        while data:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:  # whoever shares it made it so
                select.select([], [1], [], 1)
            except OSError:
                return

    def emptied(self) -> None:
        """Read on."""
        if self._stream is not None:
            self._stream.more()

    def close(self) -> None:
        """Give the terminal back."""
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
            Stdio.in_use = False
            terminal.restore()
