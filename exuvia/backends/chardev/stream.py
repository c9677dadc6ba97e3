"""A thread that reads and writes one file descriptor: the engine of the backends with a peer (stdio, pty, socket)."""

import os
import select
import threading
from collections.abc import Callable

from exuvia.backends.chardev.chardev import CHUNK

BACKLOG = 1 << 20  # bytes kept for a peer that does not read; then output is lost, the guest is never stopped by its reader


class Stream:
    """Reads `fd` a chunk at a time: after `on_data(chunk)` it waits for `more()`. Writes what `send` queued. Callbacks run in the thread.

    The thread begins with `start`, so that whoever keeps the stream has it before the first callback comes. The descriptor is made
    non-blocking and stays the caller's: close it after `stop`.
    """

    def __init__(self, fd: int, on_data: Callable[[bytes], object], on_end: Callable[[], object], *, writes: bool = True) -> None:
        self.fd, self._on_data, self._on_end = fd, on_data, on_end
        self._lock = threading.Lock()
        self._output = bytearray()
        self._reading, self._stopped = True, False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        if writes:
            os.set_blocking(fd, False)
        self._thread = threading.Thread(target=self._run, name="chardev", daemon=True)

    def start(self) -> None:
        """Begin, once; nothing happens after `stop`."""
        with self._lock:
            if not self._stopped:
                self._thread.start()

    def send(self, data: bytes) -> None:
        """Write `data`, now if the peer takes it, else from the thread."""
        with self._lock:
            if self._stopped:
                return
            if not self._output:
                try:
                    data = data[os.write(self.fd, data) :]
                except BlockingIOError:
                    pass
                except OSError:
                    return
            if not data:
                return
            self._output += data[: BACKLOG - len(self._output)]
        self._wake()

    def more(self) -> None:
        """Read the next chunk."""
        with self._lock:
            if self._reading or self._stopped:
                return
            self._reading = True
        self._wake()

    def stop(self) -> None:
        """End the thread; what the peer has not taken yet is lost. Not for the callbacks."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            started = self._thread.ident is not None
        self._wake()
        if not started:
            os.close(self._wake_read)
        elif threading.current_thread() is not self._thread:
            self._thread.join(2)
        os.close(self._wake_write)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"w")
        except OSError:  # full, so it wakes anyway; or closed, so it has ended
            pass

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        try:
            while not self._stopped:
                with self._lock:
                    events = (select.POLLIN if self._reading else 0) | (select.POLLOUT if self._output else 0)
                if events:
                    poll.register(self.fd, events)
                ready = dict(poll.poll())
                if events:
                    poll.unregister(self.fd)
                if self._wake_read in ready:
                    os.read(self._wake_read, CHUNK)
                state = ready.get(self.fd, 0)
                if state & select.POLLOUT:
                    self._flush()
                if state & (select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL) and not self._read():
                    return
        finally:
            os.close(self._wake_read)

    def _flush(self) -> None:
        with self._lock:
            try:
                del self._output[: os.write(self.fd, self._output)]
            except BlockingIOError:
                pass
            except OSError:
                self._output.clear()

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if self._stopped:
            return False
        if not data:
            self._on_end()
            return False
        with self._lock:
            self._reading = False
        self._on_data(data)
        return True
