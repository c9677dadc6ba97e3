"""The copy loop against plain bytes: what is written, what is left out, what happens when something fails or is told to end."""

import errno
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.disk import elsewhere
from exuvia.disk.graph import open_image
from exuvia.disk.jobs import copy
from exuvia.disk.jobs.copy import LONG, Copy
from exuvia.disk.jobs.job import Cancelled, Job
from exuvia.disk.node import CHUNK, ImageError, Kind, Node
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import make


class Memory(Node):
    """A node in memory that counts what is done to it, and fails at `bad` offsets."""

    name = "memory"
    writable = True

    def __init__(self, content: bytes | bytearray, bad: range = range(0)) -> None:
        self.filename, self.content, self.bad = "memory", bytearray(content), bad
        self.size = len(content)
        self.written: list[tuple[int, int]] = []
        self.zeroed: list[tuple[int, int]] = []

    def _look(self, offset: int, length: int) -> None:
        if self.bad and offset < self.bad.stop and offset + length > self.bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def readv(self, offset: int, into: Vector) -> None:
        self._look(offset, into.length)
        into.scatter(self.content[offset : offset + into.length].ljust(into.length, b"\0"))

    def writev(self, offset: int, data: Vector) -> None:
        self._look(offset, data.length)
        self.written.append((offset, data.length))
        self.content[offset : offset + data.length] = data.gather()

    def zero(self, offset: int, length: int, unmap: bool = True) -> None:
        self.zeroed.append((offset, length))
        self.content[offset : offset + length] = bytes(length)


def sparse(seed: int, length: int) -> bytes:
    """Data in some of the 4 KiB blocks."""
    chance = random.Random(seed)
    return b"".join(chance.choice((bytes(4096), bytes(4096), chance.randbytes(4096))) for _ in range(length // 4096))


@pytest.mark.parametrize("unit", [0, 512, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("zeroed", [False, True])
def test_content(unit: int, zeroed: bool) -> None:
    content = sparse(unit, 5 << 20) + bytes(512)
    source, target = Memory(content), Memory(bytes(len(content)) if zeroed else b"\xff" * len(content))
    job = Copy([source], target, zeroed=zeroed, sparse=unit)
    seen: list[int] = []
    job.watch = lambda job: seen.append(job.done)
    job.run()
    assert target.content == content
    assert seen == sorted(seen) and seen[-1] == job.total == job.done == len(content)
    if zeroed:
        assert not target.zeroed
    if unit == 0:
        assert sum(length for _, length in target.written) == len(content)
    elif unit <= 4096:
        assert all(any(content[at : at + 4096]) for at, length in target.written)


def test_several_sources_of_odd_sizes_stand_at_whole_sectors(tmp_path: Path) -> None:
    pieces = [os.urandom(1000), bytes(512), os.urandom(CHUNK + 7), b"x"]
    for number, piece in enumerate(pieces):
        (tmp_path / f"{number}.raw").write_bytes(piece)
    sources = [open_image(str(tmp_path / f"{number}.raw"), "raw") for number in range(len(pieces))]
    expected = b"".join(piece + bytes(-len(piece) % 512) for piece in pieces)
    target = Memory(b"\xff" * len(expected))
    Copy(sources, target).run()
    assert target.content == expected
    for source in sources:
        source.close()


def test_holes_of_a_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "hole.raw"
    path.write_bytes(b"begin".ljust(4096, b"\0"))
    os.truncate(path, 1 << 40)
    target = Memory(b"")
    with open_image(str(path), "raw") as source:
        begin = time.monotonic()
        Copy([source], target, zeroed=True).run()
        assert time.monotonic() - begin < 5
    assert target.content.startswith(b"begin")
    assert len(target.content) <= 4096


def test_an_unreadable_place_ends_it_or_is_salvaged() -> None:
    content = os.urandom(3 << 20)
    source = Memory(content, range(1 << 20, (1 << 20) + 700))
    with pytest.raises(ImageError, match=r"memory: error while reading at byte \d+: Input/output error"):
        Copy([source], Memory(bytes(len(content)))).run()
    lost: list[int] = []
    target = Memory(b"\xff" * len(content))
    Copy([source], target, salvage=lambda at, _: lost.append(at)).run()
    assert lost == [1 << 20, (1 << 20) + 512]
    assert target.content == content[: 1 << 20] + bytes(1024) + content[(1 << 20) + 1024 :]


def test_a_place_that_cannot_be_written_ends_it() -> None:
    content = os.urandom(12 << 20)
    with pytest.raises(ImageError, match=r"memory: error while writing at byte \d+: Input/output error"):
        Copy([Memory(content)], Memory(bytes(len(content)), range(1 << 20, 1 << 21))).run()
    assert not [thread for thread in threading.enumerate() if thread.name == "copy"]


@pytest.mark.parametrize("writers", [1, 4])
def test_cancel_pause_and_speed(writers: int) -> None:
    content = os.urandom(20 << 20)
    job = Copy([Memory(content)], Memory(bytes(len(content))), writers=writers)

    def cancel_at_half(job: Job) -> None:
        if job.done >= job.total // 2:
            job.cancel()

    job.watch = cancel_at_half
    with pytest.raises(Cancelled):
        job.run()
    assert job.done < job.total

    target = Memory(bytes(len(content)))
    job = Copy([Memory(content)], target, writers=writers)
    job.speed = 100 << 20
    job.pause()
    thread = threading.Thread(target=job.run)
    begin = time.monotonic()
    thread.start()
    time.sleep(0.1)
    assert job.done <= CHUNK
    job.resume()
    thread.join(30)
    assert target.content == content
    assert time.monotonic() - begin > 0.2


def test_a_probed_raw_image_stays_raw(tmp_path: Path) -> None:
    """A guest could write another format's header into an image whose format nobody named, and have it name files of the host."""
    path = tmp_path / "guess.raw"
    path.write_bytes(bytes(1 << 20))
    header = b"<<< fake >>>\n".ljust(64, b"\0") + bytes.fromhex("7f10dabe") + bytes.fromhex("01000100")
    with open_image(str(path), writable=True) as image:
        image.write(0, b"harmless")
        with pytest.raises(PermissionError):
            image.write(0, header)
    with open_image(str(path), "raw", writable=True) as image:
        image.write(0, header)


def test_nothing_is_copied_to_a_format_without_compression(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"x" * 4096)
    (tmp_path / "y.raw").write_bytes(bytes(4096))
    with open_image(str(tmp_path / "x.raw"), "raw") as source, open_image(str(tmp_path / "y.raw"), "raw", writable=True) as target:
        with pytest.raises(UserError, match="Compression not supported"):
            Copy([source], target, compress=True).run()


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vdi", "vmdk", "vhdx"])
@pytest.mark.parametrize("into", ["raw", "qcow2", "vmdk", "vpc"])
@pytest.mark.parametrize("unit", [0, 4096, 65536])
def test_from_file_to_file(tmp_path: Path, kind: str, into: str, unit: int) -> None:
    """What lies in files goes the short way, whatever begins with zeros; clusters are written in no order, and not all."""
    chance, cluster = random.Random(unit), 1 << 16
    model = bytearray(70 * cluster)
    make(kind, tmp_path / "source", len(model))
    with open_image(str(tmp_path / "source"), kind, writable=True) as node:
        for number in chance.sample(range(70), 40):
            content = chance.choice((chance.randbytes(cluster), bytes(cluster - 512) + b"end".ljust(512), bytes(cluster), b"x" * 4096))
            node.write(number * cluster, content)
            model[number * cluster : number * cluster + len(content)] = content
    make(into, tmp_path / "target", len(model))
    with open_image(str(tmp_path / "source"), kind) as source, open_image(str(tmp_path / "target"), into, writable=True) as target:
        job = Copy([source], target, zeroed=True, sparse=unit)
        job.run()
        assert job.done == job.total
        assert target.read(0, len(model)) == model
        if unit and into == "qcow2":
            taken = sum(extent.length for extent in target.extents(0, target.size) if extent.kind is Kind.DATA)
            assert taken == sum(any(model[at : at + cluster]) for at in range(0, len(model), cluster)) * cluster


def test_two_files_that_begin_in_the_middle_of_clusters(tmp_path: Path) -> None:
    pieces = [os.urandom(100_000), os.urandom(300_032)]
    for number, piece in enumerate(pieces):
        (tmp_path / f"{number}.raw").write_bytes(piece)
    expected = b"".join(piece + bytes(-len(piece) % 512) for piece in pieces)
    make("qcow2", tmp_path / "target", len(expected))
    with open_image(str(tmp_path / "target"), "qcow2", writable=True) as target:
        sources = [open_image(str(tmp_path / f"{number}.raw"), "raw") for number in range(2)]
        Copy(sources, target, zeroed=True).run()
        assert target.read(0, len(expected)) == expected


def test_a_filter_sees_what_is_copied(tmp_path: Path) -> None:
    """Copy-on-read keeps what it passes on, so it must be asked."""
    (tmp_path / "base.raw").write_bytes(os.urandom(3 << 20))
    make("qcow2", tmp_path / "top.qcow2", 3 << 20, {"backing_file": "base.raw", "backing_fmt": "raw"})
    filtered = {"driver": "copy-on-read", "file": {"driver": "qcow2", "file": str(tmp_path / "top.qcow2")}}
    make("qcow2", tmp_path / "target", 3 << 20)
    with open_image(filtered, writable=True) as source, open_image(str(tmp_path / "target"), "qcow2", writable=True) as target:
        Copy([source], target, zeroed=True).run()
    with open_image(str(tmp_path / "top.qcow2"), chain=False) as top:
        assert [extent.kind for extent in top.extents(0, top.size)] == [Kind.DATA]


def test_a_parent_that_changed_is_not_copied(tmp_path: Path) -> None:
    make("vmdk", tmp_path / "base.vmdk", 1 << 20)
    make("vmdk", tmp_path / "top.vmdk", 1 << 20, {"backing_file": "base.vmdk", "backing_fmt": "vmdk"})
    with open_image(str(tmp_path / "base.vmdk"), writable=True) as base:
        base.write(0, b"changed")
    make("qcow2", tmp_path / "target", 1 << 20)
    with open_image(str(tmp_path / "top.vmdk")) as source, open_image(str(tmp_path / "target"), "qcow2", writable=True) as target:
        with pytest.raises(ImageError, match="was changed since"):
            Copy([source], target, zeroed=True).run()


def layout(rng: random.Random, size: int) -> Iterator[tuple[int, bytes]]:
    """Pieces that are written, with gaps: of zeros, of what begins, ends or is interrupted by zeros, at all kinds of places."""
    at = 0
    while at < size:
        at += rng.choice((0, 0, 1, 512, 4096, 65536, rng.randrange(1 << 18)))
        length = min(rng.choice((1, 31, 32, 33, 512, 4096, 65536, 1 << 18, rng.randrange(1, 1 << 20))), size - at)
        if length <= 0:
            return
        head = min(rng.choice((0, 1, 31, 32, 33, 511, 4095, 4096, 65535)), length)
        tail = rng.choice((bytes(length - head), rng.randbytes(length - head), bytes(max(length - head - 1, 0)) + b"\1" * (length > head)))
        yield at, bytes(head) + tail
        at += length


@pytest.mark.parametrize("seed", range(4))
def test_any_layout_from_file_to_file(tmp_path: Path, seed: int) -> None:
    """Whatever lies where, the host's copying and the looks for zeros leave every byte as it was."""
    rng = random.Random(seed)
    for number in range(12):
        kind, into = (
            rng.choice(("raw", "raw", "qcow2", "vdi", "vmdk", "vhdx", "qed")),
            rng.choice(("raw", "qcow2", "vdi", "vmdk", "vhdx", "vpc")),
        )
        cluster = {"cluster_size": rng.choice((512, 4096, 65536, 1 << 21))}
        first, last = tmp_path / f"source{number}", tmp_path / f"target{number}"
        size = rng.randrange(1, 48) * 65536 + rng.choice((0, 512, 4096, 51200))
        make(kind, first, size, cluster if kind == "qcow2" else None)
        model = bytearray(size)
        with open_image(str(first), kind, writable=True) as node:
            for at, piece in layout(rng, size):
                node.write(at, piece)
                model[at : at + len(piece)] = piece
        make(into, last, size, cluster if into == "qcow2" else None)
        zeroed, sparse, offload = rng.random() < 0.7, rng.choice((0, 512, 4096, 65536, 1 << 20)), rng.random() < 0.2
        with open_image(str(last), into, writable=True) as target:
            if not zeroed:
                target.write(0, b"\xff" * size)
            with open_image(str(first), kind) as source:
                Copy([source], target, zeroed=zeroed, sparse=sparse, offload=offload, writers=rng.choice((1, 4))).run()
        with open_image(str(last), into) as target:
            same = target.read(0, size) == model
            assert same, (kind, into, size, cluster, zeroed, sparse, offload)
            found = target.check() if into not in ("raw", "vpc") else None
            assert found is None or not (found.corruptions or found.leaks or found.errors)


@pytest.fixture(params=[False, True])
def idle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether other processors are there to help: both ways are tried on any host."""
    for module in (copy, elsewhere):
        monkeypatch.setattr(module, "idle", lambda: request.param)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_a_source_that_becomes_shorter_reads_as_zeros(tmp_path: Path, kind: str) -> None:
    """Somebody cuts the file while it is copied: no crash, and behind its end there is nothing."""
    content = os.urandom(LONG + (8 << 20))
    (tmp_path / "source").write_bytes(content)
    make(kind, tmp_path / "target", len(content))
    left = LONG + (5 << 20)
    with open_image(str(tmp_path / "source"), "raw") as source, open_image(str(tmp_path / "target"), kind, writable=True) as target:
        job = Copy([source], target, zeroed=True)
        job.watch = lambda job: os.truncate(tmp_path / "source", left) if job.done == LONG else None
        job.run()
        assert target.read(0, len(content)) == content[:left].ljust(len(content), b"\0")


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_a_file_that_fails_on_any_thread_says_where(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading fails at one place for good: the error names it, and a salvaged copy lacks no more than that."""
    content, bad = os.urandom(LONG + (4 << 20)), LONG + (3 << 20) + 4096
    (tmp_path / "source").write_bytes(content)
    real, lost = os.preadv, []

    def fails(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.path.samestat(os.fstat(fd), status) and offset <= bad < offset + sum(map(len, buffers)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    def salvaged(at: int, _: OSError) -> None:
        lost.append(at)

    status = os.stat(tmp_path / "source")

    def never(*_: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fails)
    monkeypatch.setattr(os, "copy_file_range", never)
    make(kind, tmp_path / "target", len(content))
    with open_image(str(tmp_path / "source"), "raw") as source:
        with open_image(str(tmp_path / "target"), kind, writable=True) as target:
            with pytest.raises(ImageError, match=rf"source: error while reading at byte {bad >> 21 << 21}: Input/output error"):
                Copy([source], target, zeroed=True).run()
            Copy([source], target, salvage=salvaged).run()
            assert lost == [bad]
            assert target.read(0, len(content)) == content[:bad] + bytes(512) + content[bad + 512 :]
