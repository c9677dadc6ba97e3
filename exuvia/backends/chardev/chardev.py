"""What a character backend is: two byte streams between a device in the machine thread and the host.

The device's side, all of it in the machine thread:

    chardev.connect(receive, room, on_break)   # receive(data: bytes) takes at most room() bytes
    chardev.write(data)                        # output; it is never kept waiting for a reader that sleeps
    chardev.resume()                           # room() has grown: deliver what waits

The host's side reads in a thread of its own and hands what it has read to `post`, which runs it in the machine thread.
"""

from collections.abc import Callable
from typing import ClassVar

from exuvia.support.errors import UserError, unknown
from exuvia.support.registry import Registry

Post = Callable[[Callable[[], None]], object]
Receive = Callable[[bytes], object]

CHUNK = 4096  # bytes read ahead of the guest, at most


class Chardev:
    """The base of every backend. `name` is the kind after `-chardev`, `options` the keys that it takes with a line of help each."""

    name: ClassVar[str]
    options: ClassVar[dict[str, str]] = {}

    def __init__(self, id: str, options: dict[str, str] | None = None) -> None:
        """Take the user's `options`; raises UserError for an unknown key or a value that means nothing."""
        self.id = id
        self.given = dict(options or {})
        for key in self.given:
            if key not in self.options:
                raise unknown(f"option of chardev {self.name}", key, self.options)
        self.post: Post = lambda work: work()
        self._waiting = b""
        self._receive: Receive | None = None
        self._room: Callable[[], int] = lambda: CHUNK
        self._on_break: Callable[[], object] | None = None

    def switch(self, key: str, default: bool) -> bool:
        """The value of an on/off option; raises UserError when it is neither."""
        text = self.given.get(key, "on" if default else "off")
        if text not in ("on", "off", "yes", "no", "true", "false"):
            raise UserError(f"option '{key}' of chardev {self.name} is on or off, not '{text}'")
        return text in ("on", "yes", "true")

    def connect(self, receive: Receive, room: Callable[[], int] | None = None, on_break: Callable[[], object] | None = None) -> None:
        """Let a device take what arrives; `room()` is the number of bytes that it can take now (by default it is never full)."""
        self._receive = receive
        self._room = room or (lambda: CHUNK)
        self._on_break = on_break
        self.resume()

    def open(self, post: Post) -> None:
        """Begin: acquire what is needed and read; input reaches the device through `post`. Raises UserError when that is not possible."""
        self.post = post

    def close(self) -> None:
        """End: stop threads, release what `open` acquired. May be called twice, and without `open`."""

    def write(self, data: bytes) -> None:
        """Output from the device."""
        raise NotImplementedError

    def resume(self) -> None:
        """Deliver what waits, as far as the device has room."""
        while self._waiting and self._receive is not None:
            count = self._room()
            if count <= 0:
                return
            data, self._waiting = self._waiting[:count], self._waiting[count:]
            self._receive(data)
        if not self._waiting:
            self.emptied()

    def deliver(self, data: bytes) -> None:
        """Input for the device, in the machine thread."""
        self._waiting += data
        self.resume()

    def send_break(self) -> None:
        """A break condition for the device, in the machine thread."""
        if self._on_break is not None:
            self._on_break()

    def emptied(self) -> None:
        """Nothing waits any more: a backend that stopped reading goes on here."""


chardevs: Registry[Chardev] = Registry("exuvia.backends.chardev", Chardev, "chardev backend")
