"""The host's side of semihosting: files, standard streams, a console and a command line for a guest that asks by its processor's calls.

The calling conventions are in isa/. Everything here is called in the machine thread and raises OSError for what the guest is told as errno.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence

from exuvia.backends.chardev.chardev import CHUNK, Chardev, Post
from exuvia.backends.chardev.stdio import Stdio
from exuvia.backends.chardev.stream import Stream

STDIN, STDERR = 0, 2
CONSOLE = -1  # in place of a descriptor
FIRST = 3  # handle; those before it are the console's, which are always open
MOST_FILES = 256
NO_WAITING = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a FIFO without a peer must not stop the machine

Wake = Callable[[], object]


class Input:
    """Bytes that have arrived, and who waits for some."""

    def __init__(self) -> None:
        self._arrived = b""
        self._ended = False
        self._wakes: set[Wake] = set()

    def put(self, data: bytes) -> None:
        """More, for whoever waits; none is the end."""
        self._arrived += data
        self._ended = self._ended or not data
        wakes, self._wakes = self._wakes, set()
        for wake in wakes:
            wake()

    def take(self, count: int, wake: Wake) -> bytes | None:
        """Up to `count` bytes, none at the end; None: `wake` will be called when there are some."""
        if not self._arrived and not self._ended:
            self.start()
            if not self._ended:
                self._wakes.add(wake)
                return None
        data, self._arrived = self._arrived[:count], self._arrived[count:]
        self.taken()
        return data

    def start(self) -> None:
        """Somebody wants to read."""

    def taken(self) -> None:
        """There is room for more."""

    def close(self) -> None:
        """Read no more."""


class StandardInput(Input):
    """This process's own, from the first call that reads it on. At its end where a chardev has it."""

    def __init__(self, post: Post) -> None:
        super().__init__()
        self._post = post
        self._stream: Stream | None = None

    def start(self) -> None:
        if self._stream is not None:
            return
        if Stdio.in_use:
            self._ended = True
            return
        self._stream = Stream(0, lambda data: self._post(lambda: self.put(data)), lambda: self._post(lambda: self.put(b"")), writes=False)
        self._stream.start()

    def taken(self) -> None:
        if self._stream is not None and not self._arrived:
            self._stream.more()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.stop()


class ChardevInput(Input):
    """What a character backend receives."""

    def __init__(self, chardev: Chardev) -> None:
        super().__init__()
        chardev.connect(self.put, lambda: CHUNK - len(self._arrived))
        self.taken = chardev.resume  # type: ignore[method-assign]


class Semihosting:
    """What calls of a guest reach. `console` is the chardev of the user's, without which it is standard error and standard input.

    arguments  the guest's command line, its own name first
    userspace  whether unprivileged code may call
    """

    def __init__(self, post: Post, console: Chardev | None, arguments: Sequence[str], userspace: bool) -> None:
        self.arguments = [os.fsencode(argument) for argument in arguments]
        self.userspace = userspace
        self.last_error = 0
        self._files = dict.fromkeys(range(FIRST), CONSOLE)  # descriptors by handle
        self._stdin: Input = StandardInput(post)
        self._chardev = console
        self._console = self._stdin if console is None else ChardevInput(console)

    def close_all(self) -> None:
        """At the machine's end."""
        self._stdin.close()
        for handle in list(self._files):
            self.close(handle)

    # -- the console
    def show(self, text: bytes) -> None:
        """To the console; what it does not take is lost."""
        if self._chardev is not None:
            self._chardev.write(text)
            return
        try:
            while text:
                text = text[os.write(2, text) :]
        except OSError:
            pass

    def type(self, count: int, wake: Wake) -> bytes | None:
        """What was typed at the console, as `Input.take`."""
        return self._console.take(count, wake)

    # -- files
    def open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        """A handle, never 0; `flags` are the host's."""
        handle = self._free()
        self._files[handle] = os.open(path, flags | NO_WAITING, mode & 0o777)
        return handle

    def standard(self, stream: int) -> int:
        """A further handle of a standard stream, by its usual number."""
        handle = self._free()
        self._files[handle] = stream
        return handle

    def _free(self) -> int:
        for handle in range(FIRST, FIRST + MOST_FILES):
            if handle not in self._files:
                return handle
        raise OSError(errno.EMFILE, "")

    def descriptor(self, handle: int) -> int:
        """The host's of a handle."""
        if handle not in self._files:
            raise OSError(errno.EBADF, "")
        return self._files[handle]

    def close(self, handle: int) -> None:
        """The standard streams stay open, and so does the console."""
        descriptor = self.descriptor(handle)
        if handle >= FIRST:
            del self._files[handle]
        if descriptor > STDERR:
            os.close(descriptor)

    def read(self, handle: int, count: int, wake: Wake, at: int | None = None) -> bytes | None:
        """As `Input.take`; `at`: from there, and the file's position stays."""
        descriptor = self.descriptor(handle)
        if STDIN < descriptor <= STDERR:  # it may be a terminal, which would keep the machine waiting
            raise OSError(errno.EBADF, "")
        if descriptor in (CONSOLE, STDIN) and at is None:
            return (self._console if descriptor == CONSOLE else self._stdin).take(count, wake)
        return os.read(descriptor, count) if at is None else os.pread(descriptor, count, at)

    def write(self, handle: int, data: bytes, at: int | None = None) -> int:
        """How many bytes were taken."""
        descriptor = self.descriptor(handle)
        if descriptor == CONSOLE and at is None:
            self.show(data)
            return len(data)
        return os.write(descriptor, data) if at is None else os.pwrite(descriptor, data, at)

    def seek(self, handle: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position."""
        return os.lseek(self.descriptor(handle), offset, whence)

    def status(self, handle: int) -> os.stat_result:
        """What the host says of an open file."""
        return os.fstat(self.descriptor(handle))

    def is_terminal(self, handle: int) -> bool:
        """A person may sit there."""
        return (descriptor := self.descriptor(handle)) == CONSOLE or os.isatty(descriptor)

    def remove(self, path: bytes) -> None:
        """A file or an empty directory."""
        try:
            os.unlink(path)
        except IsADirectoryError:
            os.rmdir(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """A file or directory."""
        os.rename(old, new)

    def link(self, old: bytes, new: bytes) -> None:
        """A further name of a file."""
        os.link(old, new)

    def time(self) -> int:
        """Seconds since 1970."""
        return int(time.time())
