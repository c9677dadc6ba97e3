"""Where a server is: a host and a port, or the path of a Unix socket; URIs of NBD (doc/uri.md of NetworkBlockDevice/nbd)."""

from __future__ import annotations

import socket

from exuvia.disk.nbd.wire import PORT
from exuvia.support.errors import UserError
from exuvia.support.record import NamedTuple

PATIENCE = 30.0  # seconds for a connection and a handshake


class Address(NamedTuple):
    """`path` when it is a Unix socket."""

    host: str = ""
    port: str = str(PORT)
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """A connected socket. Raises UserError."""
        try:
            if self.path:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    sock.settimeout(timeout)
                    sock.connect(self.path)
                except BaseException:
                    sock.close()
                    raise
                return sock
            sock = socket.create_connection((self.host, _port(self.port)), timeout)
        except socket.gaierror as error:
            raise UserError(f"address resolution failed for {self}: {error.strerror}") from None
        except TimeoutError:
            raise UserError(f"Failed to connect to '{self}': Connection timed out") from None
        except OSError as error:
            raise UserError(f"Failed to connect to '{self}': {error.strerror or error}") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock


def _port(text: str) -> int:
    if text.isdigit() and int(text) < 1 << 16:
        return int(text)
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise UserError(f"'{text}' is no port (a number below 65536, or the name of a service)") from None


def parse(name: str) -> tuple[Address, str, bool]:
    """Address, export, and whether TLS is asked for, of nbd[s][+unix]://… or nbd:HOST:PORT[:exportname=NAME]. Raises UserError."""
    scheme, _, rest = name.partition(":")
    if not rest.startswith("//"):
        return *_old(name, rest), False
    from urllib.parse import parse_qs, unquote, urlsplit

    try:
        parts = urlsplit(name)
        port = parts.port
    except ValueError as error:
        raise UserError(f"'{name}' is no URI of NBD: {error}") from None
    export = unquote(parts.path).removeprefix("/")
    asked = parse_qs(parts.query, keep_blank_values=True)
    secure = scheme.startswith("nbds")
    if scheme.endswith("+unix"):
        if set(asked) != {"socket"} or len(asked["socket"]) != 1 or parts.netloc:
            raise UserError(f"'{name}': a URI of a Unix socket is {scheme}:///EXPORT?socket=PATH")
        return Address(path=asked["socket"][0]), export, secure
    if asked or not parts.hostname:
        raise UserError(f"'{name}': a URI of a server is {scheme}://HOST[:PORT]/EXPORT")
    return Address(parts.hostname, str(port or PORT)), export, secure


def _old(name: str, rest: str) -> tuple[Address, str]:
    """The form without slashes."""
    where, _, export = rest.partition(":exportname=")
    if where.startswith("unix:"):
        return Address(path=where[5:]), export
    host, colon, port = where.rpartition(":")
    if not colon or not host:
        raise UserError(f"'{name}' is neither nbd:HOST:PORT[:exportname=NAME] nor nbd:unix:PATH[:exportname=NAME]")
    return Address(host.removeprefix("[").removesuffix("]"), port), export
