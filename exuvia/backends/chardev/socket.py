"""`-chardev socket`: a TCP or Unix connection, as client or server."""

import contextlib
import os
import socket
import sys
import threading

from exuvia.backends.chardev.chardev import Chardev, Post
from exuvia.backends.chardev.stream import Stream
from exuvia.support.errors import UserError


class Socket(Chardev):
    """One connection at a time. A server takes the next client when one has gone; output without a peer is lost."""

    name = "socket"
    options = {
        "path": "Unix socket",
        "host": "TCP host (default every address for a server, localhost for a client)",
        "port": "TCP port",
        "server": "on: listen and accept (default off: connect)",
        "wait": "server: on: begin only when a client is there (default on)",
        "nodelay": "on: send small packets at once (TCP_NODELAY, default off)",
        "mux": "on: several devices and the monitor share it (default off)",
    }

    def __init__(self, id: str, options: dict[str, str] | None = None) -> None:
        super().__init__(id, options)
        self.server, self.wait = self.switch("server", False), self.switch("wait", True)
        if not self.server and "wait" in self.given and self.wait:
            raise UserError("option 'wait' of chardev socket is for a server")
        path, port = self.given.get("path"), self.given.get("port")
        if bool(path) == bool(port):
            raise UserError("chardev socket needs either path=FILE or port=NUMBER")
        if port and not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise UserError(f"port of chardev socket is a number below 65536, not '{port}'")
        self.path = path or ""
        self.address = (self.given.get("host") or ("" if self.server else "localhost"), int(port or 0))
        self.where = f"unix:{self.path}" if path else f"tcp:{self.address[0]}:{port}"
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._stream: Stream | None = None
        self._closed = threading.Event()
        self._ended = threading.Event()

    def open(self, post: Post) -> None:
        """Connect, or listen and perhaps wait for the first client; raises UserError when that fails."""
        super().open(post)
        try:
            if self.server:
                self._listen()
            else:
                self._attach(self._connect())
        except OSError as error:
            verb = "listen on" if self.server else "connect to"
            raise UserError(f"cannot {verb} {self.where}: {error.strerror or error}") from None

    def _connect(self) -> socket.socket:
        if not self.path:
            return socket.create_connection(self.address, 10)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(self.path)
        except OSError:
            made.close()
            raise
        return made

    def _listen(self) -> None:
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen(1)
        else:
            self._listener = socket.create_server(self.address, backlog=1)
        if self.wait:
            print(f"waiting for connection on: {self.where},server=on", file=sys.stderr, flush=True)
            self._attach(self._listener.accept()[0])
        threading.Thread(target=self._serve, name="chardev-accept", daemon=True).start()

    @property
    def port(self) -> int:
        """The TCP port that a server listens on (port=0 lets the host choose)."""
        return int(self._listener.getsockname()[1]) if self._listener is not None and not self.path else self.address[1]

    def _attach(self, peer: socket.socket) -> None:
        if not self.path and self.switch("nodelay", False):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(None)
        self._ended.clear()
        self._peer = peer
        self._stream = Stream(peer.fileno(), lambda data: self.post(lambda: self.deliver(data)), self._ended.set)
        self._stream.start()

    def _detach(self) -> None:
        stream, peer, self._stream, self._peer = self._stream, self._peer, None, None
        if stream is not None:
            stream.stop()
        if peer is not None:
            peer.close()

    def _serve(self) -> None:
        listener = self._listener
        while not self._closed.is_set() and listener is not None:
            if self._stream is not None:
                self._ended.wait()
                self._detach()
                continue
            try:
                peer = listener.accept()[0]
            except OSError:  # closed
                return
            self._attach(peer)
        self._detach()  # what came while it was being closed

    def write(self, data: bytes) -> None:
        """Output for the peer, if there is one."""
        stream = self._stream
        if stream is not None:
            stream.send(data)

    def emptied(self) -> None:
        """Read on."""
        stream = self._stream
        if stream is not None:
            stream.more()

    def close(self) -> None:
        """Hang up and stop listening."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._ended.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
            self._listener.close()
            if self.path:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
        self._detach()
