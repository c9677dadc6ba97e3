"""nbd: bytes that a server of the NBD protocol has.

Names are nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds://… with TLS, and QEMU's nbd:HOST:PORT:exportname=NAME.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping

from exuvia.disk.nbd import wire
from exuvia.disk.nbd.address import PATIENCE, Address, parse
from exuvia.disk.nbd.connection import Connection, Pending
from exuvia.disk.nbd.handshake import Export, Haggler
from exuvia.disk.nbd.wire import Broken, Cmd, Flag
from exuvia.disk.node import Extent, ImageError, Kind, Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")

LONGEST = 0xFFFF0000  # bytes of a request that carries no data
PAUSE = 0.1  # seconds between attempts to connect, at first


class Nbd(Node):
    """One connection. When it breaks, a request waits up to `reconnect-delay` seconds for another one, and fails after that."""

    name = "nbd"
    schemes = ("nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+tcp", "nbds+unix")
    OPTIONS = (
        Option("server", object, None, "type=inet with host and port, or type=unix with path"),
        Option("host", str, None, "the server's host"),
        Option("port", str, None, "the server's port"),
        Option("path", str, None, "the path of the server's Unix socket"),
        Option("export", str, "", "the export's name"),
        Option("tls-creds", str, None, "the id of TLS credentials"),
        Option("tls-hostname", str, None, "the name in the server's certificate, where it is not the host's"),
        Option("x-dirty-bitmap", str, None, "a metadata context, such as qemu:dirty-bitmap:NAME, that takes block status's place"),
        Option("reconnect-delay", int, 0, "seconds to wait for a server that went away"),
        Option("open-timeout", int, 0, "seconds to wait for a server that is not there yet"),
    )

    @classmethod
    def describe(cls, name: str) -> dict[str, Any]:
        """What a name says."""
        address, export, secure = parse(name)
        if secure:
            raise UserError(f"'{name}': TLS needs credentials, give driver=nbd,server.host=…,tls-creds=ID")
        server = {"type": "unix", "path": address.path} if address.path else {"type": "inet", "host": address.host, "port": address.port}
        return {"driver": cls.name, "server": server, **({"export": export} if export else {})}

    def __init__(self, *, writable: bool = False, share: bool = False, export: str = "", **said: Any) -> None:
        self.address = _address(said)
        self.export = export
        self.filename = _uri(self.address, export)
        self.tls = None
        if creds := said.get("tls-creds"):
            from exuvia.disk.nbd.tls import context

            self.tls = context(creds, server=False)
        self.host = said.get("tls-hostname") or self.address.host or None
        self.patience = said.get("reconnect-delay", 0)
        self.context = said.get("x-dirty-bitmap") or "base:allocation"
        self._connecting = threading.Lock()
        self._rewriting = threading.Lock()
        self.closed = False
        self.connection = self._within(said.get("open-timeout", 0), self._connect)
        self.told: Export = self.connection.export
        if "x-dirty-bitmap" in said and self.context not in self.told.contexts:
            self.close()
            raise ImageError(f"{self.filename}: requested x-dirty-bitmap {self.context} not found")
        if writable and self.told.flags & Flag.READ_ONLY:
            self.close()
            raise ImageError(f"{self.filename}: request on write denied without write permission (the export is read-only)")
        self.writable = writable
        self.size = self.told.size

    def _connect(self) -> Connection:
        """Raises UserError."""
        haggler = Haggler(self.address, self.tls, self.host, PATIENCE)
        try:
            return Connection(haggler.channel, haggler.go(self.export, (self.context,)))
        except BaseException:
            haggler.close()
            raise

    @staticmethod
    def _within(seconds: float, attempt: Callable[[], T]) -> T:
        """Try, again and again for some seconds. Raises the last UserError."""
        end, pause = time.monotonic() + seconds, PAUSE
        while True:
            try:
                return attempt()
            except UserError:
                left = end - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(pause, left))
                pause = min(pause * 2, 2.0)

    def _again(self, broken: Connection, until: float) -> None:
        """Another connection in the place of a broken one. Raises OSError."""
        with self._connecting:
            if self.closed:
                raise OSError(errno.EIO, "closed")
            if self.connection is not broken:
                return
            try:
                made = self._within(max(0.0, until - time.monotonic()), self._connect)
            except UserError as error:
                raise OSError(errno.EIO, f"{self.filename}: {error}") from None
            if made.export.size < self.size or (self.writable and made.export.flags & Flag.READ_ONLY):
                made.close()
                raise OSError(errno.EIO, f"{self.filename}: the server came back with another export")
            self.connection, self.told = made, made.export

    def _ask(self, command: Cmd, offset: int = 0, length: int = 0, flags: int = 0, data: Vector | None = None) -> Pending:
        """A request, which outlives a broken connection where that is wanted. Raises OSError."""
        until, fresh = time.monotonic() + self.patience, False
        while True:
            connection = self.connection
            if connection.broken:
                self._again(connection, until)
                fresh = True
                continue
            try:
                return connection.ask(command, offset, length, flags, data, self.told.contexts.get(self.context, 0))
            except Broken as error:
                if self.closed or (fresh and time.monotonic() >= until) or not self.patience:
                    raise OSError(errno.EIO, f"{self.filename}: {error.strerror}") from None

    def _steps(self, offset: int, length: int, most: int) -> Iterator[tuple[int, int]]:
        """Pieces no longer than `most`, at multiples of the server's smallest block."""
        most -= most % self.told.least
        while length:
            count = min(length, most)
            yield offset, count
            offset, length = offset + count, length - count

    def _aligned(self, offset: int, length: int) -> bool:
        return not (offset | length) % self.told.least

    def _around(self, offset: int, length: int) -> tuple[int, bytearray]:
        """The blocks around [offset, offset+length), and memory for them."""
        first = offset - offset % self.told.least
        end = offset + length
        return first, bytearray(min(end + -end % self.told.least, max(self.size, end)) - first)

    @property
    def _most(self) -> int:
        return min(self.told.most, wire.LARGEST)

    def readv(self, offset: int, into: Vector) -> None:
        there = max(0, min(into.length, self.size - offset))
        if there < into.length:
            into.slice(there, into.length - there).clear()
            into = into.slice(0, there)
        if not self._aligned(offset, into.length):
            first, buffer = self._around(offset, into.length)
            self.readv(first, Vector((buffer,)))
            into.scatter(memoryview(buffer)[offset - first : offset - first + into.length])
            return
        for at, count in self._steps(offset, into.length, self._most):
            self._ask(Cmd.READ, at, count, data=into.slice(at - offset, count))

    def writev(self, offset: int, data: Vector) -> None:
        if offset + data.length > self.size:
            raise OSError(errno.ENOSPC, f"{self.filename}: the export ends at byte {self.size}")
        if not self._aligned(offset, data.length):
            with self._rewriting:
                first, buffer = self._around(offset, data.length)
                self.readv(first, Vector((buffer,)))
                memoryview(buffer)[offset - first : offset - first + data.length] = data.gather()
                self._write(first, Vector((buffer,)))
            return
        self._write(offset, data)

    def _write(self, offset: int, data: Vector) -> None:
        for at, count in self._steps(offset, data.length, self._most):
            self._ask(Cmd.WRITE, at, count, data=data.slice(at - offset, count))

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        if not self.told.flags & Flag.ZEROES or not self._aligned(offset, length):
            Node.zero(self, offset, length, unmap)
            return
        for at, count in self._steps(offset, length, LONGEST):
            self._ask(Cmd.ZEROES, at, count, 0 if unmap else wire.NO_HOLE)

    def discard(self, offset: int, length: int) -> None:
        if self.told.flags & Flag.TRIM and self._aligned(offset, length):
            for at, count in self._steps(offset, length, LONGEST):
                self._ask(Cmd.TRIM, at, count)

    def flush(self) -> None:
        if self.writable and self.told.flags & Flag.FLUSH:
            self._ask(Cmd.FLUSH)

    def resize(self, size: int, preallocation: str = "off") -> None:
        """Servers with the experimental extension only. Less than there is needs no server: the rest is left alone."""
        if not self.told.flags & Flag.RESIZE:
            raise Unsupported(f"{self.filename}: Cannot resize NBD nodes")
        self._ask(Cmd.RESIZE, size)
        self.size = size

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            if self.context not in self.told.contexts:
                yield Extent(Kind.DATA, end - offset, offset, self)
                return
            first = offset - offset % self.told.least
            count = min(end + -end % self.told.least, self.size) - first
            for size, flags in self._ask(Cmd.STATUS, first, min(count, LONGEST)).extents:
                stop = min(first + size, end)
                if stop > offset:
                    kind = Kind.ZERO if flags & wire.STATE_ZERO else Kind.ABSENT if flags & wire.STATE_HOLE else Kind.DATA
                    if kind is Kind.ABSENT and self.context == "base:allocation":
                        kind = Kind.DATA  # no room of its own, but nobody says what it reads as
                    yield Extent(kind, stop - offset, offset, self)
                    offset = stop
                first += size

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if hasattr(self, "connection"):
                self.connection.close()


def _address(said: Mapping[str, Any]) -> Address:
    """Raises UserError."""
    server = said.get("server")
    if server is None:
        if ("path" in said) == ("host" in said):
            raise UserError(
                "nbd: path and host may not be used at the same time" if "path" in said else "nbd: give server, or host, or path"
            )
        server = {key: said[key] for key in ("host", "port", "path") if key in said}
    if not isinstance(server, Mapping):
        raise UserError("nbd: server is server.type=inet|unix with server.host and server.port, or server.path")
    given = {str(key): str(value) for key, value in server.items()}
    kind = given.pop("type", "unix" if "path" in given else "inet")
    known = {"inet": {"host", "port", "ipv4", "ipv6", "numeric", "keep-alive", "to", "mptcp"}, "unix": {"path", "abstract", "tight"}}
    if kind not in known or not given.keys() <= known[kind]:
        raise UserError(f"nbd: server.type={kind} with {', '.join(sorted(given)) or 'nothing'} is no address")
    needed = "path" if kind == "unix" else "host"
    if not given.get(needed):
        raise UserError(f"nbd: Parameter 'server.{needed}' is missing")
    if kind == "unix":
        return Address(path=("\0" if given.get("abstract") in ("on", "True") else "") + given["path"])
    return Address(given["host"], given.get("port") or str(wire.PORT))


def _uri(address: Address, export: str) -> str:
    """How messages call it."""
    name = f"/{export}" if export else ""
    return f"nbd+unix://{name}?socket={address.path}" if address.path else f"nbd://{address.host}:{address.port}{name}"
