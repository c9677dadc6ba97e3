"""The asynchronous edge of a node: requests go in, completions come out; machines and `exuvia-io` stand on this side.

One thread carries requests out, one after the other, and another joins when it got nowhere for a while: it waits for a disk then. What is
in the host's cache takes microseconds, in which threads would only take the interpreter's lock away from each other.
"""

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from exuvia.disk.node import Node
from exuvia.disk.vector import Vector

THREADS = 4
SHORT, LONG = 0.0005, 0.02  # seconds of patience with a thread that gets nowhere
QUICK = 0.00005  # seconds that a request takes at most where there is nothing to wait for


class Completion:
    """What becomes of a request: as `concurrent.futures.Future`, with None as the result. Callbacks run on the thread that did the work."""

    __slots__ = ("_callbacks", "_done", "_error", "_queue", "_work")

    def __init__(self, queue: "Queue", work: Callable[[], None]) -> None:
        self._queue, self._work = queue, work
        self._done = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Completion], object]] = []

    def done(self) -> bool:
        """Whether it is over."""
        return self._done

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What went wrong, or None. Waits; raises TimeoutError after `timeout` seconds."""
        if not self._done:
            self._queue.wait_for(self.done, timeout)
        return self._error

    def result(self, timeout: float | None = None) -> None:
        """Return when it is over. Raises what went wrong, and TimeoutError."""
        error = self.exception(timeout)
        if error is not None:
            raise error

    def add_done_callback(self, function: "Callable[[Completion], object]") -> None:
        """Call `function` with this when it is over, at once where it is."""
        with self._queue.lock:
            if not self._done:
                self._callbacks.append(function)
                return
        function(self)


class Queue:
    """Requests to one node, carried out by a few threads in any order. A flush covers what was completed before it was asked for.

    Every method returns a Completion, whose error is an OSError: EIO for what lies outside the node, EROFS where it is read-only.
    """

    def __init__(self, node: Node, threads: int = THREADS) -> None:
        self.node = node
        self.lock = threading.RLock()  # guards all that follows
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Completion] = deque()
        self._roles: deque[Callable[[], None]] = deque()  # for idle threads
        self._called = threading.Condition(self.lock)  # where those wait
        self._idle = 0
        self._watch = threading.Condition(self.lock)  # where the one waits that joins when nothing comes forward
        self._watching = False
        self._busy = 0  # threads that take requests, or were called to
        self._taken = 0  # requests
        self._running = 0  # requests that are not complete
        self._active = 0  # those of them that the node works on
        self._changing = False
        self._closed = False
        self._news = threading.Condition(self.lock)  # of all that somebody waits for
        self._listeners = 0

    def read(self, offset: int, into: Vector) -> Completion:
        """Fill `into`, which must stay until completion."""
        return self._submit(offset, into.length, False, lambda: self.node.readv(offset, into))

    def write(self, offset: int, data: Vector, through: bool = False) -> Completion:
        """Write `data`, which must stay as it is until completion; `through`: it is safe then."""

        def work() -> None:
            self.node.writev(offset, data)
            if through:
                self.node.flush()

        return self._submit(offset, data.length, True, work)

    def zero(self, offset: int, length: int, unmap: bool = True, through: bool = False) -> Completion:
        """Make bytes read as zeros; `through`: that is safe at completion."""

        def work() -> None:
            self.node.zero(offset, length, unmap)
            if through:
                self.node.flush()

        return self._submit(offset, length, True, work)

    def discard(self, offset: int, length: int) -> Completion:
        """Give bytes up."""
        return self._submit(offset, length, True, lambda: self.node.discard(offset, length))

    def flush(self) -> Completion:
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
        self.wait_for(lambda: not self._running)

    def exchange(self, change: Callable[[Node], Node]) -> None:
        """Put what `change` makes of the node in its place. Requests under way end before, new ones wait meanwhile.

        What `change` raises passes through, and the node stays.
        """
        with self.lock:
            self.wait_for(lambda: not self._changing)
            self._changing = True
            self.wait_for(lambda: not self._active)
        try:
            self.node = change(self.node)
        finally:
            with self.lock:
                self._changing = False
                self._news.notify_all()

    def close(self) -> None:
        """Finish what is under way and end the threads; the node stays open."""
        with self.lock:
            self._closed = True
            self.drain()
            self._called.notify_all()
            self._watch.notify_all()
        for thread in self._threads:
            thread.join()

    def wait_for(self, there: Callable[[], bool], timeout: float | None = None) -> None:
        """Return when `there` is true, which is asked when something ended. Raises TimeoutError."""
        with self.lock:
            self._listeners += 1
            try:
                if not self._news.wait_for(there, timeout):
                    raise TimeoutError
            finally:
                self._listeners -= 1

    def _submit(self, offset: int, length: int, writes: bool, work: Callable[[], None]) -> Completion:
        completion = Completion(self, work)
        try:
            self.check(offset, length, writes)
        except OSError as error:
            completion._done, completion._error = True, error
            return completion
        with self.lock:
            if self._closed:
                raise RuntimeError("the queue is closed")
            self._running += 1
            self._waiting.append(completion)
            if not self._busy:
                self._busy = 1
                self._call(self._serve)
            elif not self._watching:
                self._call_watcher()
        return completion

    def _call(self, role: Callable[[], None]) -> None:
        """Have an idle thread, or a new one, do something. All that follows is called with `lock` held."""
        self._roles.append(role)
        if self._idle:
            self._idle -= 1
            self._called.notify()
        else:
            thread = threading.Thread(target=self._live, name=f"disk {self.node.filename} {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _call_watcher(self) -> None:
        if self._idle or len(self._threads) < self._most:
            self._watching = True
            self._call(self._watch_over)

    def _live(self) -> None:
        """A thread's life."""
        with self.lock:
            while True:
                while self._roles:
                    self._roles.popleft()()
                if self._closed:
                    return
                self._idle += 1
                self._called.wait()

    def _watch_over(self) -> None:
        """Join when requests wait and those who carry them out got nowhere; look less often while they do, it costs them 0.2 ms."""
        patience = SHORT
        while self._waiting:
            taken = self._taken
            self._watch.wait(patience)
            patience = min(2 * patience, LONG)
            if self._waiting and taken == self._taken and not self._changing:
                self._watching = False
                self._busy += 1
                if len(self._waiting) > 1:
                    self._call_watcher()
                self._serve(QUICK)
                if self._watching:
                    return
                self._watching, patience = True, SHORT
        self._watching = False

    def _serve(self, quick: float = 0) -> None:
        """Carry out what waits, until nothing does, or one took less than `quick` seconds."""
        lock, waiting = self.lock, self._waiting
        while waiting:
            if self._changing:
                self.wait_for(lambda: not self._changing)
                continue
            completion = waiting.popleft()
            self._taken += 1
            self._active += 1
            lock.release()
            began = monotonic()
            try:
                completion._work()
            except BaseException as error:
                completion._error = error
            took = monotonic() - began
            lock.acquire()
            self._active -= 1
            completion._done = True
            if self._listeners:
                self._news.notify_all()
            if completion._callbacks:
                lock.release()
                for function in completion._callbacks:
                    try:
                        function(completion)
                    except BaseException:
                        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
                lock.acquire()
            self._running -= 1
            if self._listeners:
                self._news.notify_all()
            if took < quick:
                break
        self._busy -= 1
