"""Queue: who carries requests out, what becomes of them, and that slow ones do not keep others waiting."""

import errno
import threading
import time
from collections.abc import Iterator

import pytest

from exuvia.disk.node import Node
from exuvia.disk.queue import THREADS, Completion, Queue
from exuvia.disk.vector import Vector


class Slow(Node):
    """1 MiB; reading from `gate` on waits until the gate opens, each byte says who read it."""

    name = "slow"

    def __init__(self) -> None:
        self.filename, self.size = "slow", 1 << 20
        self.open, self.inside, self.most = threading.Event(), 0, 0
        self.lock = threading.Lock()
        self.readers: list[str] = []

    def readv(self, offset: int, into: Vector) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.readers.append(threading.current_thread().name)
        try:
            if offset >= 512 << 10:
                assert self.open.wait(20)
            if offset == 7:
                raise OSError(errno.EIO, "seven")
            into.scatter(bytes((offset & 0xFF,)) * into.length)
        finally:
            with self.lock:
                self.inside -= 1


@pytest.fixture
def node() -> Slow:
    return Slow()


@pytest.fixture
def queue(node: Slow) -> Iterator[Queue]:
    queue = Queue(node)
    yield queue
    node.open.set()
    queue.close()
    assert not any(thread.is_alive() for thread in queue._threads)


def read(queue: Queue, offset: int) -> tuple[Completion, bytearray]:
    buffer = bytearray(4)
    return queue.read(offset, Vector((buffer,))), buffer


def test_quick_requests_pass_slow_ones(node: Slow, queue: Queue) -> None:
    slow = [read(queue, 512 << 10 | number) for number in range(THREADS - 1)]
    quick = [read(queue, number) for number in range(8, 200)]
    for number, (completion, buffer) in enumerate(quick, 8):
        completion.result(20)
        assert buffer == bytes((number,)) * 4
    assert not any(completion.done() for completion, _ in slow)
    with pytest.raises(TimeoutError):
        slow[0][0].result(0.01)
    node.open.set()
    for completion, _ in slow:
        completion.result(20)
    assert node.most == THREADS


def test_no_more_threads_than_told(node: Slow, queue: Queue) -> None:
    all_of_them = [read(queue, 512 << 10) for _ in range(3 * THREADS)]
    deadline = time.monotonic() + 20
    while node.inside < THREADS:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)
    assert node.inside == THREADS
    node.open.set()
    queue.drain()
    assert all(completion.done() for completion, _ in all_of_them)
    assert node.most == THREADS


def test_errors_and_callbacks(queue: Queue) -> None:
    called: list[tuple[str, BaseException | None]] = []
    over = threading.Event()

    def note(completion: Completion) -> None:
        called.append((threading.current_thread().name, completion.exception()))
        over.set()

    completion, _ = read(queue, 7)
    with pytest.raises(OSError, match="seven"):
        completion.result(20)
    completion.add_done_callback(note)
    assert called[0][0] == threading.current_thread().name
    assert str(called[0][1]) == "[Errno 5] seven"
    over.clear()
    later, _ = read(queue, 512 << 10)
    later.add_done_callback(note)
    assert not over.wait(0.01)
    queue.node.open.set()  # type: ignore[attr-defined]
    assert over.wait(20)
    assert called[1][0].startswith("disk slow")
    assert called[1][1] is None
    for offset, error in ((1 << 20, errno.EIO), (-1, errno.EIO)):
        failed = read(queue, offset)[0].exception(0)
        assert isinstance(failed, OSError)
        assert failed.errno == error
    written = queue.write(0, Vector((b"x",))).exception(0)
    assert isinstance(written, OSError)
    assert written.errno == errno.EROFS


def test_callbacks_send_the_next(node: Slow, queue: Queue) -> None:
    """All on one thread where nothing waits: what a chain of requests costs is not a thread's waking."""
    left, over = 2000, threading.Event()

    def more(completion: Completion) -> None:
        nonlocal left
        left -= 1
        if left:
            read(queue, left & 0xFF | 0x100)[0].add_done_callback(more)
        else:
            over.set()

    read(queue, 0)[0].add_done_callback(more)
    assert over.wait(30)
    queue.drain()
    assert len(node.readers) == 2000
    assert len(set(node.readers)) == 1


def test_drain_waits_for_callbacks(queue: Queue) -> None:
    said: list[int] = []

    def slowly(completion: Completion) -> None:
        time.sleep(0.02)
        said.append(1)

    for number in range(8, 12):
        read(queue, number)[0].add_done_callback(slowly)
    queue.drain()
    assert len(said) == 4


def test_exchange_waits_and_holds_back(node: Slow, queue: Queue) -> None:
    other = Slow()
    other.open.set()
    first, _ = read(queue, 512 << 10)
    deadline = time.monotonic() + 20
    while not node.inside:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    seen: list[int] = []

    def change(old: Node) -> Node:
        seen.append(node.inside)
        return other

    thread = threading.Thread(target=queue.exchange, args=(change,))
    thread.start()
    while not queue._changing:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    later = [read(queue, number)[0] for number in range(8, 20)]
    time.sleep(0.02)
    assert not any(each.done() for each in later)
    assert seen == []
    node.open.set()
    thread.join(20)
    for each in later:
        each.result(20)
    assert first.done()
    assert seen == [0]
    assert len(node.readers) == 1
    assert len(other.readers) == 12


def test_closed(queue: Queue) -> None:
    completion, _ = read(queue, 9)
    queue.close()
    assert completion.done()
    with pytest.raises(RuntimeError, match="closed"):
        read(queue, 9)
