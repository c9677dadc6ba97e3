"""The asynchronous edge of a node: requests go in, completions come out; machines and `exuvia-io` stand on this side."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from exuvia.disk.node import Node
from exuvia.disk.vector import Vector

THREADS = 4


class Queue:
    """Requests to one node, carried out by a few threads in any order. A flush covers what was completed before it was asked for.

    Every method returns a Future whose result is None, or an OSError: EIO for what lies outside the node, EROFS where it is read-only.
    """

    def __init__(self, node: Node, threads: int = THREADS) -> None:
        self.node = node
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"disk {node.filename}")
        self._idle = threading.Condition()
        self._running = 0  # requests that are not complete
        self._active = 0  # those of them that the node works on
        self._changing = False

    def read(self, offset: int, into: Vector) -> "Future[None]":
        """Fill `into`, which must stay until completion."""
        return self._submit(offset, into.length, False, lambda: self.node.readv(offset, into))

    def write(self, offset: int, data: Vector) -> "Future[None]":
        """Write `data`, which must stay as it is until completion."""
        return self._submit(offset, data.length, True, lambda: self.node.writev(offset, data))

    def zero(self, offset: int, length: int, unmap: bool = True) -> "Future[None]":
        """Make bytes read as zeros."""
        return self._submit(offset, length, True, lambda: self.node.zero(offset, length, unmap))

    def discard(self, offset: int, length: int) -> "Future[None]":
        """Give bytes up."""
        return self._submit(offset, length, True, lambda: self.node.discard(offset, length))

    def flush(self) -> "Future[None]":
        """Make completed writes safe."""
        return self._submit(0, 0, False, self.node.flush)

    def check(self, offset: int, length: int, writes: bool) -> None:
        """Raises the OSError that such a request would complete with at once."""
        number = errno.EROFS if writes and not self.node.writable else 0
        if offset < 0 or length < 0 or offset + length > self.node.size:
            number = errno.EIO
        if number:
            raise OSError(number, os.strerror(number))

    def drain(self) -> None:
        """Return when nothing is under way."""
        with self._idle:
            self._idle.wait_for(lambda: not self._running)

    def exchange(self, change: Callable[[Node], Node]) -> None:
        """Put what `change` makes of the node in its place. Requests under way end before, new ones wait meanwhile.

        What `change` raises passes through, and the node stays.
        """
        with self._idle:
            self._idle.wait_for(lambda: not self._changing)
            self._changing = True
            self._idle.wait_for(lambda: not self._active)
        try:
            self.node = change(self.node)
        finally:
            with self._idle:
                self._changing = False
                self._idle.notify_all()

    def close(self) -> None:
        """Finish what is under way and end the threads; the node stays open."""
        self._pool.shutdown()

    def _submit(self, offset: int, length: int, writes: bool, work: Callable[[], None]) -> "Future[None]":
        try:
            self.check(offset, length, writes)
        except OSError as error:
            failed: Future[None] = Future()
            failed.set_exception(error)
            return failed
        with self._idle:
            self._running += 1
        future = self._pool.submit(self._carry_out, work)
        future.add_done_callback(self._done)
        return future

    def _carry_out(self, work: Callable[[], None]) -> None:
        with self._idle:
            if self._changing:
                self._idle.wait_for(lambda: not self._changing)
            self._active += 1
        try:
            work()
        finally:
            with self._idle:
                self._active -= 1
                if self._changing:
                    self._idle.notify_all()

    def _done(self, _: "Future[None]") -> None:
        with self._idle:
            self._running -= 1
            self._idle.notify_all()
