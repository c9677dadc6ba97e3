"""`-chardev pty`: a new pseudo-terminal; its path is printed, `screen PATH` is the other end."""

import os
import sys
import tty

from exuvia.backends.chardev.chardev import Chardev, Post
from exuvia.backends.chardev.stream import Stream
from exuvia.support.errors import UserError


class Pty(Chardev):
    """A pseudo-terminal of the host. Output waits, a mebibyte at most, until somebody opens it."""

    name = "pty"
    options = {"path": "make a symbolic link to it here", "mux": "on: several devices and the monitor share it (default off)"}

    def __init__(self, id: str, options: dict[str, str] | None = None) -> None:
        super().__init__(id, options)
        self.path = ""
        self._stream: Stream | None = None
        self._fds: tuple[int, ...] = ()

    def open(self, post: Post) -> None:
        """Make the pair and say where it is, on standard error as QEMU does; raises UserError when the link cannot be made."""
        super().open(post)
        try:
            master, slave = os.openpty()
        except OSError as error:
            raise UserError(f"no pseudo-terminal to be had: {error.strerror}") from None
        tty.setraw(slave)
        self._fds = (master, slave)  # the slave stays open here, else a reader that goes away would be an end of file
        self.path = os.ttyname(slave)
        if link := self.given.get("path"):
            try:
                os.symlink(self.path, link)
            except OSError as error:
                self.close()
                raise UserError(f"cannot make the link {link}: {error.strerror}") from None
        print(f"char device redirected to {self.path} (label {self.id})", file=sys.stderr, flush=True)
        self._stream = Stream(master, lambda data: self.post(lambda: self.deliver(data)), lambda: None)
        self._stream.start()

    def write(self, data: bytes) -> None:
        """Output for whoever has it open."""
        if self._stream is not None:
            self._stream.send(data)

    def emptied(self) -> None:
        """Read on."""
        if self._stream is not None:
            self._stream.more()

    def close(self) -> None:
        """Close both ends and take the link away."""
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
            if link := self.given.get("path"):
                try:
                    os.unlink(link)
                except OSError:  # somebody else took it away
                    pass
        for fd in self._fds:
            os.close(fd)
        self._fds = ()
