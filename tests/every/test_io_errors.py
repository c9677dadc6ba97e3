"""Every format on a file whose reads, writes and flushes fail now and then: what worked is there, the image is sound afterwards."""

import errno
import random
import threading
from typing import Any

import pytest

from exuvia.disk.filters.blkdebug import BlkDebug
from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS
from exuvia.disk.node import Unsupported
from exuvia.disk.options import values
from exuvia.support.errors import UserError
from tests.disk.powercut import PowerCut

SIZE = (3 << 20) + 1024
ERRORS = (errno.EIO, errno.ENOSPC)


def create(name: str) -> tuple[PowerCut, int]:
    """A new image in memory, and its size."""
    kind, file = FORMATS[name], PowerCut(filename=f"disk.{name}")
    try:
        kind.create(file, SIZE, values(kind.CREATE, {}, name))
    except UserError as error:
        pytest.skip(str(error))
    file.flush()
    with kind(file) as image:
        return file, image.size


class Keeping(BlkDebug):
    """The file under it stays open."""

    def close(self) -> None:
        self.closed = True


def trouble(debug: BlkDebug, rng: random.Random) -> None:
    """One request of a kind fails from now on, or all of them, or none."""
    debug.active = [
        {"iotype": kind, "errno": rng.choice(ERRORS), "sector": -1, "once": rng.random() < 0.7}
        for kind in ("read", "write", "write-zeroes", "flush", "discard")
        if rng.random() < 0.25
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.can_create()])
def test_errors_cost_what_they_hit_and_no_more(name: str, seed: int) -> None:
    file, size = create(name)
    rng, model = random.Random(f"{name} {seed}"), bytearray(size)
    known = bytearray(b"\1" * size)  # whether the model says what a byte is
    debug = Keeping(file, writable=True)
    image: Format = FORMATS[name](debug, writable=True)
    if image.size != size:
        pytest.skip("it needs several files")
    for step in range(150):
        if step % 3 == 0:
            trouble(debug, rng)
        length = rng.choice((512, 4096, 65536, rng.randrange(1, 400_000)))
        at, what = rng.randrange(size - length + 1), rng.randrange(6)
        span = slice(at, at + length)
        try:
            if what < 3:
                data = rng.randbytes(length)
                known[span] = bytes(length)
                image.write(at, data)
                model[span], known[span] = data, b"\1" * length
            elif what == 3:
                known[span] = bytes(length)
                image.zero(at, length)
                model[span], known[span] = bytes(length), b"\1" * length
            elif what == 4:
                image.flush()
            else:
                same(image.read(at, length), model[span], known[span], at)
        except OSError:
            pass  # what it hit is not known
    debug.active = []
    same(image.read(0, size), model, known, 0)
    close(image)
    kind = FORMATS[name]
    with kind(file) as again:
        same(again.read(0, size), model, known, 0)
        try:
            found = again.check()
        except Unsupported:
            return
        assert (found.corruptions, found.errors) == (0, 0), found.messages[:5]


def close(image: Format) -> None:
    """Without trouble now; a format that gave the image up after an error may say so."""
    image.flush()
    image.close()


def same(got: bytes, want: bytes | bytearray, known: bytes | bytearray, at: int) -> None:
    """Where it is known."""
    if got == want:
        return
    wrong = [index for index in range(len(got)) if known[index] and got[index] != want[index]]
    assert not wrong, f"{len(wrong)} bytes differ, the first at {at + wrong[0]}"


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.can_create()])
def test_a_disk_that_is_full_says_so_to_all_writers(name: str) -> None:
    """Four threads write until there is no room; then room comes, and all goes on."""
    file, size = create(name)
    image: Any = FORMATS[name](file, writable=True)
    if image.size != size:
        pytest.skip("it needs several files")
    file.largest = len(file.now) + 400_000
    part, results = size // 4, [bytearray() for _ in range(4)]
    full: list[int] = []

    def work(number: int) -> None:
        for at in range(0, part - 4096, 4096):
            data = bytes([number + 1]) * 4096
            try:
                image.write(number * part + at, data)
                results[number] += data
            except OSError as error:
                full.append(error.errno or 0)
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert set(full) <= {errno.EFBIG, errno.ENOSPC}
    for number, content in enumerate(results):
        assert image.read(number * part, len(content)) == content
    file.largest = 256 << 20
    image.write(0, b"there is room")
    image.close()
    with FORMATS[name](file) as again:
        assert again.read(0, 13) == b"there is room"
