"""The server's side of transmission: one client's requests, several at once, answered as they become ready."""

from __future__ import annotations

import errno
import os
import threading

from exuvia.disk.nbd import wire
from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.wire import Broken, Channel, Cmd
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 16  # requests of one client that are under way; more wait in the socket
THREADS = 4
SPARSE = 64 << 10  # bytes; reads from that length on leave out holes
MOST_EXTENTS = 64 << 10 // 8  # in one answer
ALLOWED = {
    Cmd.READ: wire.DONT_FRAGMENT,
    Cmd.WRITE: wire.FUA,
    Cmd.TRIM: wire.FUA,
    Cmd.ZEROES: wire.FUA | wire.NO_HOLE,
    Cmd.STATUS: wire.REQ_ONE,
    Cmd.RESIZE: wire.FUA,
}  # flags; FUA is borne with everywhere
CHANGES = (Cmd.WRITE, Cmd.TRIM, Cmd.ZEROES, Cmd.RESIZE)


class Service:
    """`run` serves until the client leaves. A request that comes alone is carried out at once, others on a few threads."""

    def __init__(self, channel: Channel, export: Export, structured: bool, contexts: list[str]) -> None:
        self.channel, self.export, self.structured, self.contexts = channel, export, structured, contexts
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._pool: ThreadPoolExecutor | None = None

    def run(self) -> None:
        """Raises Broken for a client that breaks the protocol or vanishes."""
        try:
            while True:
                magic, flags, code, cookie, offset, length = wire.REQUEST.unpack(self.channel.receive(wire.REQUEST.size))
                if magic != wire.REQUEST_MAGIC:
                    raise Broken(f"a request with magic {magic:#x}")
                if code == Cmd.DISC:
                    return
                data = b""
                if code == Cmd.WRITE:
                    if length > wire.LARGEST:
                        raise Broken(f"a write of {length} bytes")
                    data = self.channel.receive(length)
                self._room.acquire()
                if code in (Cmd.FLUSH, Cmd.RESIZE) or flags & wire.FUA or self.channel.waiting():
                    self._later(flags, code, cookie, offset, length, data)
                else:
                    self._carry_out(flags, code, cookie, offset, length, data)
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def _later(self, *request: object) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(THREADS, "nbd")
        self._pool.submit(self._carry_out, *request)  # type: ignore[arg-type]

    def _carry_out(self, flags: int, code: int, cookie: int, offset: int, length: int, data: bytes) -> None:
        try:
            try:
                self._check(flags, code, offset, length)
                if code == Cmd.READ:
                    self._read(flags, cookie, offset, length)
                elif code == Cmd.STATUS:
                    self._status(flags, cookie, offset, length)
                else:
                    self._change(flags, code, offset, length, data)
                    self._simple(cookie)
            except Broken:
                raise
            except (OSError, UserError) as error:
                self._failed(code, cookie, wire.number(error), str(getattr(error, "strerror", None) or error))
        except Broken:
            self.channel.hang_up()  # the thread that receives finds out
        finally:
            self._room.release()

    def _check(self, flags: int, code: int, offset: int, length: int) -> None:
        """Raises the OSError that a request deserves."""
        number = 0
        if code not in Cmd._value2member_map_ or flags & ~(ALLOWED.get(Cmd(code), 0) | wire.FUA):
            number = errno.EINVAL
        elif code in CHANGES and not self.export.writable:
            number = errno.EPERM
        elif code not in (Cmd.FLUSH, Cmd.RESIZE) and offset + length > self.export.size:
            number = errno.ENOSPC if code in (Cmd.WRITE, Cmd.ZEROES) else errno.EINVAL
        elif (code == Cmd.READ and length > wire.LARGEST) or (code == Cmd.STATUS and not (self.contexts and length)):
            number = errno.EINVAL
        elif code == Cmd.RESIZE and not self.export.flags & wire.Flag.RESIZE:
            number = errno.ENOTSUP
        if number:
            raise OSError(number, os.strerror(number))

    def _simple(self, cookie: int, error: int = 0) -> None:
        self.channel.send(wire.SIMPLE.pack(wire.SIMPLE_MAGIC, error, cookie))

    def _failed(self, code: int, cookie: int, error: int, text: str) -> None:
        if self.structured and code in (Cmd.READ, Cmd.STATUS):
            said = text.encode()[: wire.LONGEST]
            self._chunk(cookie, wire.DONE, wire.ERROR, error.to_bytes(4, "big") + len(said).to_bytes(2, "big") + said)
        else:
            self._simple(cookie, error)

    def _chunk(self, cookie: int, flags: int, kind: int, *content: bytes | bytearray | memoryview) -> None:
        self.channel.send(wire.CHUNK.pack(wire.CHUNK_MAGIC, flags, kind, cookie, sum(map(len, content))), *content)

    def _read(self, flags: int, cookie: int, offset: int, length: int) -> None:
        if not self.structured:
            buffer = self._content(offset, length)
            self.channel.send(wire.SIMPLE.pack(wire.SIMPLE_MAGIC, 0, cookie), buffer)
            return
        if not length:
            self._chunk(cookie, wire.DONE, wire.NONE)
            return
        end = offset + length
        parts = iter([(length, False)]) if flags & wire.DONT_FRAGMENT or length < SPARSE else _merged(self.export.zeros(offset, length))
        for count, zero in parts:
            last = wire.DONE if offset + count == end else 0
            if zero:
                self._chunk(cookie, last, wire.HOLE, offset.to_bytes(8, "big") + count.to_bytes(4, "big"))
            else:
                self._chunk(cookie, last, wire.DATA, offset.to_bytes(8, "big"), self._content(offset, count))
            offset += count

    def _content(self, offset: int, length: int) -> bytearray:
        buffer = bytearray(length)
        self.export.readv(offset, Vector((buffer,)))
        return buffer

    def _status(self, flags: int, cookie: int, offset: int, length: int) -> None:
        for number, context in enumerate(self.contexts, 1):
            extents = []
            for count, state in _merged(self.export.status(context, offset, length)):
                extents.append(wire.EXTENT.pack(count, state))
                if flags & wire.REQ_ONE or len(extents) == MOST_EXTENTS:
                    break
            done = wire.DONE if number == len(self.contexts) else 0
            self._chunk(cookie, done, wire.STATUS, self.export.contexts.index(context).to_bytes(4, "big"), *extents)

    def _change(self, flags: int, code: int, offset: int, length: int, data: bytes) -> None:
        export = self.export
        if code == Cmd.WRITE:
            export.write(offset, data)
        elif code == Cmd.ZEROES:
            export.zero(offset, length, not flags & wire.NO_HOLE)
        elif code == Cmd.TRIM:
            export.discard(offset, length)
        elif code == Cmd.RESIZE:
            export.node.resize(offset)
        if code == Cmd.FLUSH or flags & wire.FUA and code in CHANGES:
            export.node.flush()


def _merged(extents: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Neighbours that are alike as one."""
    length, last = 0, 0
    for count, state in extents:
        if state != last and length:
            yield length, last
            length = 0
        length, last = length + count, state
    if length:
        yield length, last
