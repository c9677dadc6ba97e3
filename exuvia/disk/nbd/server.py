"""The server: accepts clients and serves each on a thread of its own."""

from __future__ import annotations

import socket
import threading

from exuvia.disk.nbd.address import Address, _port
from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.negotiation import Negotiation
from exuvia.disk.nbd.service import Service
from exuvia.disk.nbd.wire import Broken, Channel
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

PATIENCE = 10.0  # seconds that a client has for the handshake
SILENCE = None  # seconds between requests: a client may rest


def listen(address: Address) -> socket.socket:
    """A socket that clients can connect to; host "" is every interface. Raises UserError."""
    try:
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.bind(address.path)
                sock.listen()
            except BaseException:
                sock.close()
                raise
            return sock
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, _port(address.port)), family=family, reuse_port=False)
    except socket.gaierror as error:
        raise UserError(f"address resolution failed for {address}: {error.strerror}") from None
    except OSError as error:
        raise UserError(f"Failed to bind socket to {address}: {error.strerror or error}") from None


class Server:
    """Serves `exports` at a socket that listens. `shared` clients at once, 0 for any number: further ones wait to be accepted.

    `watch` is called with a line for whoever wants to know what happens. `close` ends all of it.
    """

    def __init__(
        self,
        sock: socket.socket,
        exports: Mapping[str, Export],
        *,
        shared: int = 0,
        persistent: bool = True,
        tls: ssl.SSLContext | None = None,
        permits: Callable[[str], bool] = lambda peer: True,
        watch: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.sock, self.exports, self.shared, self.persistent = sock, exports, shared, persistent
        self.tls, self.permits, self.watch = tls, permits, watch
        self._change = threading.Condition()
        self._clients: dict[Channel, threading.Thread] = {}
        self._ended = False

    def run(self) -> None:
        """Accept clients until `close`, or until the last one has left a server that is not persistent."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ended or not self.shared or len(self._clients) < self.shared)
                if self._ended:
                    break
            try:
                sock, _ = self.sock.accept()
            except OSError:
                break
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            channel = Channel(sock)
            thread = threading.Thread(target=self._serve, args=(channel,), name="nbd client", daemon=True)
            with self._change:
                self._clients[channel] = thread
            thread.start()
        self._finish()

    def _serve(self, channel: Channel) -> None:
        came_in = False
        limit = channel.limit(PATIENCE)
        try:
            channel.timeout = PATIENCE
            negotiation = Negotiation(channel, self.exports, self.tls, self.permits)
            export = negotiation.run()
            limit.cancel()
            if export is not None:
                came_in = True
                negotiation.channel.timeout = SILENCE
                Service(negotiation.channel, export, negotiation.structured, negotiation.contexts).run()
        except Broken as error:
            self.watch(f"a client left: {error.strerror}")
        finally:
            limit.cancel()
            channel.close()
            with self._change:
                del self._clients[channel]
                if came_in and not self._clients and not self.persistent:
                    self._ended = True
                self._change.notify_all()
                ended = self._ended
            if ended:
                self._wake()

    def _wake(self) -> None:
        """Make `accept` return."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Accept nobody any more and hang up on all clients; `run` returns when what is under way is done."""
        with self._change:
            self._ended = True
            channels = list(self._clients)
            self._change.notify_all()
        self._wake()
        for channel in channels:
            channel.hang_up()

    def _finish(self) -> None:
        with self._change:
            threads = list(self._clients.values())
            for channel in self._clients:
                channel.hang_up()
        for thread in threads:
            thread.join()
        self.sock.close()
