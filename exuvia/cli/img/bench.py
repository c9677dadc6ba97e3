"""bench: how fast an image is read or written.

usage: exuvia-img bench [-c COUNT] [-d DEPTH] [-f FMT] [--flush-interval=N] [-i AIO] [-n] [--no-drain] [-o OFFSET] [--pattern=BYTE] [-q]
           [-s SIZE] [-S STEP] [-t CACHE] [-w] [-U] FILENAME

-c: requests (75000)   -d: so many at once (64)   -o: where the first is   -s: bytes each (4096)   -S: from one to the next
-w: write; --flush-interval: a flush after so many, --no-drain: without waiting for those under way   -i, -n, -q: taken, and without effect

example: exuvia-img bench -c 10000 -s 64k disk.qcow2
"""

import time
from functools import partial
from threading import Event, RLock

from exuvia.cli.arguments import Arguments
from exuvia.cli.img.opening import MODES, open_named
from exuvia.cli.img.sizes import number
from exuvia.disk.node import Node
from exuvia.disk.queue import Completion, Queue
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

OPTIONS = "c= d= f= flush-interval= i= n no-drain o= pattern= q s= S= t= w force-share/U object= image-opts"


def whole_number(arguments: Arguments, option: str, default: int, what: str, most: int) -> int:
    """A count. Raises UserError."""
    text = arguments.value(option)
    if text is None:
        return default
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise UserError(f"Invalid {what} specified")
    return value


def run(arguments: Arguments) -> int:
    """Measure."""
    count = whole_number(arguments, "c", 75000, "request count", (1 << 31) - 1)
    depth = whole_number(arguments, "d", 64, "queue depth", (1 << 31) - 1)
    interval = whole_number(arguments, "flush-interval", 0, "flush interval", (1 << 31) - 1)
    pattern = whole_number(arguments, "pattern", 0, "pattern byte", 255)
    offset = number("offset", arguments.value("o") or "0")
    size = number("buffer size", arguments.value("s") or "4096", 0, (1 << 31) - 1)
    step = number("step_size", arguments.value("S") or "0", 0, (1 << 31) - 1) or size
    writes = arguments.has("w")
    if arguments.value("i") not in (None, "threads", "native", "io_uring"):
        raise UserError(f"Invalid aio option: {arguments.value('i')}")
    if (cache := arguments.value("t") or "writeback") not in MODES:
        raise UserError("Invalid cache mode")
    name = arguments.one()
    if interval and not writes:
        raise UserError("--flush-interval is only available in write tests")
    if interval and interval < depth:
        raise UserError("Flush interval can't be smaller than depth")
    image = open_named(
        name,
        arguments.value("f"),
        described=arguments.has("image-opts"),
        writable=writes,
        share=arguments.has("force-share"),
        cache=cache,
    )
    with image:
        what = "write" if writes else "read"
        print(
            f"Sending {count} {what} requests, {size} bytes each, {depth} in parallel (starting at offset {offset}, step size {step})",
            flush=True,
        )
        if interval:
            print(f"Sending flush every {interval} requests", flush=True)
        begin = time.monotonic()
        try:
            send(image, count, depth, offset, size, step, pattern if writes else None, interval, not arguments.has("no-drain"))
        except OSError as error:
            raise UserError(f"Failed request: {error.strerror}") from None
        seconds = time.monotonic() - begin
        print(f"Run completed in {seconds:.3f} seconds.")
    return 0


def send(node: Node, count: int, depth: int, offset: int, size: int, step: int, pattern: int | None, interval: int, drain: bool) -> None:
    """Keep `depth` requests under way until `count` are done; `pattern` None reads. Raises OSError."""
    run = _Run(Queue(node), count, max(depth, 1), offset, size, step, pattern, interval, drain)
    try:
        run.more()
        run.over.wait()
    finally:
        run.queue.close()
    if run.failure is not None:
        raise run.failure


class _Run:
    """Requests, each of which sends the next when it is done: on the thread that did it, so that none has to wake another."""

    def __init__(
        self, queue: Queue, count: int, depth: int, offset: int, size: int, step: int, pattern: int | None, interval: int, drain: bool
    ) -> None:
        self.queue, self.left, self.depth, self.offset, self.step = queue, count, depth, offset, step
        self.interval, self.drain, self.size = interval, drain, queue.node.size
        self.until_flush = interval  # requests
        self.send = queue.read if pattern is None else queue.write
        self.idle = [Vector((bytearray(bytes((pattern or 0,)) * size),)) for _ in range(max(1, min(depth, count)))]
        self.going = 0
        self.failure: BaseException | None = None
        self.over = Event()
        self.lock = RLock()

    def more(self) -> None:
        """Send what may be under way now."""
        with self.lock:
            while self.left and self.failure is None and self.going < self.depth:
                if self.interval and not self.until_flush:
                    if self.drain and self.going:
                        return
                    self.until_flush = self.interval
                    self.going += 1
                    self.queue.flush().add_done_callback(self.done)
                    continue
                buffer, offset = self.idle.pop(), self.offset
                self.offset = (offset + self.step) % self.size if self.size else 0
                self.left -= 1
                self.until_flush -= 1
                self.going += 1
                self.send(offset, buffer).add_done_callback(partial(self.done, buffer=buffer))
            if not self.going:
                self.over.set()

    def done(self, completion: Completion, buffer: Vector | None = None) -> None:
        """One is."""
        with self.lock:
            self.going -= 1
            self.failure = self.failure or completion.exception()
            if buffer is not None:
                self.idle.append(buffer)
            self.more()
