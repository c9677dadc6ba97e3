"""The client's side of transmission: requests of many threads over one connection, answers in any order.

There is no thread of its own: whoever waits for an answer and finds nobody receiving does it, for the others too.
"""

from __future__ import annotations

import itertools
import threading

from exuvia.disk.nbd import wire
from exuvia.disk.nbd.handshake import Export
from exuvia.disk.nbd.wire import Broken, Channel, Cmd
from exuvia.disk.vector import Vector
from exuvia.support.record import Record

SILENCE = 300.0  # seconds without a byte, while an answer is due, after which the connection counts as dead


class Pending(Record):
    """A request that waits for its answer."""

    command: Cmd
    offset: int
    length: int
    into: Vector | None = None
    context: int = 0
    got: int = 0
    error: OSError | None = None
    extents: list[tuple[int, int]] = []
    done: bool = False


class Connection:
    """A channel after the handshake. `ask` raises Broken when the connection is of no more use, other OSErrors for the server's errors."""

    def __init__(self, channel: Channel, export: Export) -> None:
        self.channel, self.export = channel, export
        channel.timeout = SILENCE
        self.broken: Broken | None = None
        self._cookies = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._turn = threading.Condition()
        self._receiving = False

    def ask(self, command: Cmd, offset: int = 0, length: int = 0, flags: int = 0, data: Vector | None = None, context: int = 0) -> Pending:
        """Send a request (`data`: what is written, or where what is read goes) and wait for its answer."""
        mine = Pending(command, offset, length, data if command is Cmd.READ else None, context)
        with self._turn:
            if self.broken:
                raise Broken(self.broken.text)
            cookie = next(self._cookies)
            self._pending[cookie] = mine
        try:
            head = wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset, length)
            self.channel.send(head, *(data.parts if data is not None and command is Cmd.WRITE else ()))
        except Broken as error:
            self._break(error)
        self._wait(mine)
        if mine.error is not None:
            raise mine.error
        return mine

    def _wait(self, mine: Pending) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: mine.done or self.broken or not self._receiving)
                if mine.done:
                    return
                if self.broken:
                    raise Broken(self.broken.text)
                self._receiving = True
            try:
                while not mine.done:
                    self._receive()
            except Broken as error:
                self._break(error)
            finally:
                with self._turn:
                    self._receiving = False
                    self._turn.notify_all()
                if self.broken:
                    self.channel.close()

    def _break(self, error: Broken) -> None:
        with self._turn:
            self.broken = self.broken or error
            self._pending.clear()
            self._turn.notify_all()
            alone = not self._receiving
        self.channel.hang_up()
        if alone:
            self.channel.close()

    def _receive(self) -> None:
        """One message of the server."""
        head = self.channel.receive(wire.SIMPLE.size)
        magic, code, cookie = wire.SIMPLE.unpack(head)
        if magic == wire.SIMPLE_MAGIC:
            request = self._request(cookie)
            if code:
                request.error = wire.failure(code)
            elif request.command is Cmd.READ:
                if self.export.structured:
                    raise Broken("a simple reply to a read came, where structured ones were agreed on")
                assert request.into is not None
                for part in request.into.parts:
                    self.channel.fill(part)
                request.got = request.length
            self._finish(cookie, request)
        elif magic == wire.CHUNK_MAGIC and self.export.structured:
            _, flags, kind, cookie, length = wire.CHUNK.unpack(head + self.channel.receive(wire.CHUNK.size - wire.SIMPLE.size))
            request = self._request(cookie)
            self._chunk(request, kind, length)
            if flags & wire.DONE:
                self._finish(cookie, request)
        else:
            raise Broken(f"a message with magic {magic:#x} came")

    def _request(self, cookie: int) -> Pending:
        request = self._pending.get(cookie)
        if request is None:
            raise Broken("an answer to nothing came")
        return request

    def _chunk(self, request: Pending, kind: int, length: int) -> None:
        if kind == wire.NONE:
            if length:
                raise Broken("an empty chunk with content came")
        elif kind == wire.DATA and request.into is not None and length > 8:
            start = self._place(request, length - 8)
            for part in request.into.slice(start, length - 8).parts:
                self.channel.fill(part)
        elif kind == wire.HOLE and request.into is not None and length == 12:
            at, count = int.from_bytes(self.channel.receive(8), "big"), int.from_bytes(self.channel.receive(4), "big")
            request.into.slice(self._inside(request, at, count), count).clear()
        elif kind == wire.STATUS and request.command is Cmd.STATUS and length >= 12 and length % 8 == 4 and length <= wire.LARGEST:
            context = int.from_bytes(self.channel.receive(4), "big")
            if context != request.context:
                raise Broken("the status of a context came that was not asked for")
            self._status(request, self.channel.receive(length - 4))
        elif kind & 1 << 15 and 6 <= length <= wire.LONGEST + 14:
            data = self.channel.receive(length)
            if request.error is None:
                request.error = wire.failure(int.from_bytes(data[:4], "big"))
        else:
            raise Broken(f"a chunk of type {kind} with {length} bytes came")

    def _place(self, request: Pending, count: int) -> int:
        return self._inside(request, int.from_bytes(self.channel.receive(8), "big"), count)

    @staticmethod
    def _inside(request: Pending, at: int, count: int) -> int:
        """Where in the request's memory [at, at+count) is."""
        start = at - request.offset
        if start < 0 or not count or start + count > request.length:
            raise Broken("content came that was not asked for")
        request.got += count
        return start

    @staticmethod
    def _status(request: Pending, data: bytes) -> None:
        for length, flags in wire.EXTENT.iter_unpack(data):
            if not length:
                raise Broken("a status of no bytes came")
            if request.got >= request.length:
                break
            request.extents.append((min(length, request.length - request.got), flags))
            request.got += length

    def _finish(self, cookie: int, request: Pending) -> None:
        if request.error is None:
            if request.into is not None and request.got != request.length:
                raise Broken(f"{request.got} of {request.length} bytes came")
            if request.command is Cmd.STATUS and not request.extents:
                raise Broken("no status came")
        with self._turn:
            self._pending.pop(cookie, None)
            request.done = True
            if self._pending:
                self._turn.notify_all()

    def close(self) -> None:
        """Say good-bye and close; harmless twice."""
        if self.broken is None:
            try:
                self.channel.timeout = 1.0
                self.channel.send(wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, Cmd.DISC, 0, 0, 0))
            except OSError:
                pass
            self._break(Broken("closed"))
