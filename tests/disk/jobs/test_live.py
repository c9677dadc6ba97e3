"""Jobs on a disk that is written meanwhile: four writers keep a model, and what a job leaves behind must be what the model says."""

import errno
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk.dirty import Dirty
from exuvia.disk.format import Format
from exuvia.disk.formats.raw import Raw
from exuvia.disk.graph import FORMATS, open_image, reopen_backing
from exuvia.disk.jobs.backup import Backup
from exuvia.disk.jobs.job import Cancelled, Job
from exuvia.disk.jobs.live_commit import LiveCommit
from exuvia.disk.jobs.mirror import ActiveCommit, Mirror
from exuvia.disk.jobs.stream import Stream
from exuvia.disk.node import Kind, Unsupported
from exuvia.disk.options import values
from exuvia.disk.queue import Queue
from exuvia.disk.vector import Vector
from tests.disk.powercut import PowerCut

pytestmark = pytest.mark.skipif("qcow2" not in FORMATS, reason="there is no qcow2 yet")
MIB = 1 << 20
SIZE = 8 * MIB
WRITERS = 4


def qcow2(size: int = SIZE, backing: Format | None = None, name: str = "image", cluster: int = 65536) -> Format:
    """A new image in memory."""
    kind = FORMATS["qcow2"]
    file = PowerCut(filename=name)
    kind.create(file, size, values(kind.CREATE, {"cluster_size": cluster}, "qcow2"))
    image = kind(file, writable=True)
    if backing is not None:
        image.set_backing(backing.filename, backing.name)
        image.backing = backing
    return image


def fill(image: Format, model: bytearray, seed: int, writes: int = 25) -> None:
    """Data, zeros and holes here and there."""
    rng = random.Random(seed)
    for _ in range(writes):
        length = rng.randrange(1, 200_000)
        at = rng.randrange(image.size - length)
        if rng.randrange(4):
            data = rng.randbytes(length)
            image.write(at, data)
            model[at : at + length] = data
        else:
            image.zero(at, length)
            model[at : at + length] = bytes(length)


def chain(*sizes: int) -> tuple[list[Format], bytearray]:
    """Images on one another, the lowest first, and what the top holds."""
    made: list[Format] = []
    model = bytearray()
    for number, size in enumerate(sizes):
        image = qcow2(size, made[-1] if made else None, f"image{number}")
        model = model[:size] + bytes(max(0, size - len(model)))
        fill(image, model, number)
        made.append(image)
    return made, model


class Guests:
    """Threads that write, zero and read what is theirs of a disk, through its queue."""

    def __init__(self, queue: Queue, model: bytearray, seed: int = 0) -> None:
        self.queue, self.model = queue, model
        self.stop = False
        self.failures: list[object] = []
        self.writes = 0
        self.threads = [threading.Thread(target=self._work, args=(number, seed)) for number in range(WRITERS)]

    def _work(self, number: int, seed: int) -> None:
        rng, part = random.Random(seed * 10 + number), len(self.model) // WRITERS
        try:
            while not self.stop:
                length = rng.choice((512, 4096, rng.randrange(1, 150_000)))
                at = number * part + rng.randrange(part - length)
                what = rng.randrange(5)
                if what < 2:
                    data = rng.randbytes(length)
                    self.queue.write(at, Vector((data,))).result(60)
                    self.model[at : at + length] = data
                    self.writes += 1
                elif what == 2:
                    self.queue.zero(at, length).result(60)
                    self.model[at : at + length] = bytes(length)
                else:
                    into = bytearray(length)
                    self.queue.read(at, Vector((into,))).result(60)
                    if into != self.model[at : at + length]:
                        self.failures.append((at, length))
                time.sleep(0.0005)
        except BaseException as error:
            self.failures.append(error)

    def pause(self) -> None:
        self.stop = True
        for thread in self.threads:
            thread.join()


@contextmanager
def guests(queue: Queue, model: bytearray) -> Iterator[Guests]:
    made = Guests(queue, model)
    for thread in made.threads:
        thread.start()
    try:
        yield made
    finally:
        made.pause()
        queue.close()
    assert not made.failures


def over(job: Job) -> None:
    """It ends, and well."""
    assert job.wait(120)
    if job.error is not None:
        raise job.error


def sound(image: Format) -> None:
    found = image.check()
    assert (found.corruptions, found.errors) == (0, 0)


@pytest.mark.parametrize("sizes", [(SIZE, SIZE, SIZE), (SIZE // 2, SIZE // 4, SIZE), (SIZE, 3 * MIB + 512, SIZE)])
@pytest.mark.parametrize("keep", [None, 0])
def test_stream(sizes: tuple[int, ...], keep: int | None) -> None:
    """All of the chain, or all above the lowest image, goes into the top."""
    images, model = chain(*sizes)
    top, base = images[-1], None if keep is None else images[keep]
    queue = Queue(top)
    with guests(queue, model) as writing:
        job = Stream(queue, base, named="below")
        job.speed = 40 * MIB
        job.start()
        over(job)
        assert writing.writes > 10
    assert queue.node is top and top.backing is base
    assert top.backing_file == (None if base is None else "below")
    assert top.read(0, SIZE) == model
    assert images[1].closed and images[0].closed is (base is None)
    sound(top)


def test_a_stream_that_is_cancelled_leaves_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = chain(SIZE, SIZE)
    queue = Queue(images[1])
    with guests(queue, model):
        job = Stream(queue)
        job.speed = 1 * MIB
        job.start()
        time.sleep(0.3)
        job.pause()
        assert job.state == "paused"
        time.sleep(0.1)
        done = job.done
        time.sleep(0.3)
        assert job.done - done <= MIB and 0 < job.done < job.total
        job.resume()
        job.cancel()
        assert job.wait(30) and isinstance(job.error, Cancelled)
    assert queue.node is images[1] and images[1].backing is images[0]
    assert images[1].read(0, SIZE) == model
    sound(images[1])


def test_live_commit_of_images_in_the_middle() -> None:
    images, model = chain(SIZE // 2, SIZE, SIZE, SIZE)
    queue = Queue(images[3])
    with guests(queue, model):
        job = LiveCommit(queue, images[2], images[0], named="lowest")
        job.speed = 40 * MIB
        job.start()
        over(job)
    assert images[3].backing is images[0] and images[3].backing_file == "lowest"
    assert images[1].closed and images[2].closed and not images[0].closed
    assert images[3].read(0, SIZE) == model
    sound(images[0])
    for top, base in ((images[0], images[2]), (images[3], images[0])):
        with pytest.raises(ValueError):
            LiveCommit(queue, top, base)


@pytest.mark.parametrize("blocking", [False, True])
def test_active_commit(blocking: bool) -> None:
    images, model = chain(SIZE // 2, SIZE, SIZE)
    queue = Queue(images[2])
    with guests(queue, model):
        job = ActiveCommit(queue, images[0], blocking=blocking)
        job.start()
        assert job.ready.wait(60)
        assert job.state == "ready" and job.error is None
        time.sleep(0.3)
        job.complete()
        over(job)
        assert queue.node is images[0]
        time.sleep(0.2)
    assert images[0].read(0, SIZE) == model
    assert images[1].closed and images[2].closed
    sound(images[0])


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("pivot", [False, True])
@pytest.mark.parametrize("sync", ["full", "top"])
def test_mirror(sync: str, pivot: bool, blocking: bool) -> None:
    images, model = chain(SIZE, SIZE)
    target = qcow2(SIZE, images[0] if sync == "top" else None, "target")
    queue = Queue(images[1])
    with guests(queue, model) as writing:
        job = Mirror(queue, target, sync=sync, zeroed=sync == "full", blocking=blocking)
        job.start()
        assert job.ready.wait(60) and job.error is None
        before = writing.writes
        while writing.writes < before + 50:
            time.sleep(0.01)
        job.complete(pivot)
        over(job)
        before = writing.writes
        while writing.writes < before + 10:
            time.sleep(0.01)
    assert queue.node is (target if pivot else images[1])
    here, there = (target, images[1]) if pivot else (images[1], target)
    assert here.read(0, SIZE) == model != there.read(0, SIZE)
    assert job.done >= job.total > 0
    sound(target)


def test_what_a_mirror_without_pivot_leaves_is_one_moment() -> None:
    """Both are alike when it ends: compared before anybody writes again."""
    images, model = chain(SIZE)
    target = Raw(PowerCut(bytes(SIZE)), writable=True)
    queue = Queue(images[0])
    with guests(queue, model) as writing:
        job = Mirror(queue, target)
        kept: list[bytes] = []
        finish = job._finish
        job._finish = lambda: (finish(), kept.append(images[0].read(0, SIZE)))[0]  # type: ignore[method-assign, func-returns-value]
        job.start()
        job.ready.wait(60)
        job.complete(False)
        over(job)
        writing.pause()
    assert target.read(0, SIZE) == kept[0]


def test_a_mirror_says_when_it_is_not_ready_and_can_be_cancelled() -> None:
    images, model = chain(SIZE)
    queue = Queue(images[0])
    with guests(queue, model):
        job = Mirror(queue, qcow2())
        with pytest.raises(ValueError, match="not ready"):
            job.complete()
        job.speed = MIB
        job.start()
        time.sleep(0.2)
        with pytest.raises(Unsupported, match="a job is at work"):
            queue.node.resize(2 * SIZE)
        job.cancel()
        assert job.wait(30) and isinstance(job.error, Cancelled) and queue.node is images[0]
        job = Mirror(queue, qcow2(), zeroed=True)
        job.start()
        job.ready.wait(60)
        job.cancel()
        assert job.wait(30) and isinstance(job.error, Cancelled) and queue.node is images[0]
    with pytest.raises(ValueError, match="the target has"):
        Mirror(queue, qcow2(MIB))


@pytest.mark.parametrize("cluster", [512, 65536, 2 << 20])
def test_a_backup_is_the_disk_at_one_moment(cluster: int) -> None:
    images, model = chain(SIZE, SIZE)
    target = qcow2(cluster=cluster)
    queue = Queue(images[1])
    moments: list[bytes] = []
    with guests(queue, model) as writing:
        job = Backup(queue, target, zeroed=True)
        begin = job._begin
        job._begin = lambda node: (moments.append(node.read(0, SIZE)), begin(node))[1]  # type: ignore[method-assign, func-returns-value]
        job.speed = 30 * MIB
        job.start()
        over(job)
        assert writing.writes > 5
    assert target.read(0, SIZE) == moments[0] != model
    assert images[1].read(0, SIZE) == model
    sound(target)


def test_an_incremental_backup_has_what_changed() -> None:
    images, model = chain(SIZE)
    full = Raw(PowerCut(bytes(SIZE)), writable=True)
    queue = Queue(images[0])
    Backup(queue, full).run()
    assert full.read(0, SIZE) == model
    changed = Dirty(SIZE)
    for at in (5, 3 * MIB - 1, SIZE - 1):
        images[0].write(at, b"x")
        model[at : at + 1] = b"x"
        changed.mark(at, 1)
    layer = qcow2()
    with guests(queue, bytearray(model)):
        job = Backup(queue, layer, sync="incremental", changed=changed)
        moments: list[bytes] = []
        begin = job._begin
        job._begin = lambda node: (moments.append(node.read(0, SIZE)), begin(node))[1]  # type: ignore[method-assign, func-returns-value]
        job.start()
        over(job)
    layer.backing = full
    stretches = [at for at, extent in _where(layer) if extent.kind is not Kind.ABSENT]
    assert stretches == [0, 2 * MIB + 15 * 65536, SIZE - 65536]
    for at in stretches:
        assert layer.read(at, 65536) == moments[0][at : at + 65536]
    with pytest.raises(ValueError):
        Backup(queue, layer, sync="incremental")


def _where(image: Format) -> Iterator[tuple[int, Any]]:
    at = 0
    for extent in image.extents(0, image.size):
        yield at, extent
        at += extent.length


class Full(PowerCut):
    """A target without room."""

    def writev(self, offset: int, data: Vector) -> None:
        if offset > 2 * MIB:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().writev(offset, data)


@pytest.mark.parametrize("kind", [Backup, Mirror])
def test_a_target_without_room_ends_the_job_and_not_the_guests(kind: Any) -> None:
    images, model = chain(SIZE)
    queue = Queue(images[0])
    with guests(queue, model):
        job = kind(queue, Raw(Full(bytes(SIZE)), writable=True))
        job.start()
        assert job.wait(60) and job.error.errno == errno.ENOSPC
        assert queue.node is images[0]
        time.sleep(0.1)
    assert images[0].read(0, SIZE) == model


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
@pytest.mark.parametrize("kind", ["stream", "stream above base", "commit", "active commit"])
def test_files_are_as_qemu_img_wants_them(kind: str, tmp_path: Path) -> None:
    """Chains made by qemu-img; afterwards it finds nothing wrong, the names of the chain, and what the model says."""
    names = [str(tmp_path / name) for name in ("base", "middle", "top")]
    for number, name in enumerate(names):
        below = ["-b", names[number - 1], "-F", "qcow2"] if number else []
        run("qemu-img", "create", "-q", "-f", "qcow2", *below, name, str(SIZE))
        run(
            "qemu-io",
            "-f",
            "qcow2",
            *(f"-cwrite -P {number * 8 + step + 1} {(number * 7 + step * 11) % 60 * 128}k 200k" for step in range(8)),
            name,
        )
    top: Any = open_image(names[2], "qcow2", writable=True)
    model = bytearray(top.read(0, SIZE))
    queue = Queue(top)

    def base_for_writing(node: Any) -> Any:
        reopen_backing(node, node.backing.backing)
        return node

    with guests(queue, model):
        if kind == "stream":
            job: Any = Stream(queue)
        elif kind == "stream above base":
            job = Stream(queue, top.backing.backing)
        else:
            with pytest.raises(ValueError, match="not open for writing"):
                LiveCommit(queue, top.backing, top.backing.backing)
            queue.exchange(base_for_writing)
            job = LiveCommit(queue, top.backing, top.backing.backing) if kind == "commit" else ActiveCommit(queue, top.backing.backing)
        job.start()
        if kind == "active commit":
            assert job.ready.wait(60)
            job.complete()
        over(job)
    node: Any = queue.node
    last = names[0] if kind == "active commit" else names[2]
    assert node.filename == last and node.read(0, SIZE) == model
    node.close()
    (tmp_path / "model").write_bytes(model)
    run("qemu-img", "check", "-q", last)
    run("qemu-img", "compare", "-q", "-F", "raw", last, str(tmp_path / "model"))
    said = json.loads(run("qemu-img", "info", "--output=json", last))
    assert said.get("backing-filename") == (names[0] if kind in ("stream above base", "commit") else None)
    run("qemu-img", "check", "-q", names[0])


def test_dirty_against_a_model() -> None:
    rng = random.Random(4)
    for granularity in (512, 4096, 65536):
        size = rng.randrange(1, 40 * granularity)
        dirty, model = Dirty(size, granularity), [False] * (-(-size // granularity))
        for _ in range(400):
            length = rng.randrange(size + 1)
            at = rng.randrange(size - length + 1)
            first, end = at // granularity, -(-(at + length) // granularity)
            what = rng.randrange(4)
            if what == 0:
                dirty.mark(at, length)
                model[first:end] = [True] * (end - first) if length else model[first:end]
            elif what == 1:
                dirty.clear(at, length)
                model[first:end] = [False] * (end - first) if length else model[first:end]
            elif what == 2:
                assert not length or dirty.touches(at, length) == any(model[first:end])
            elif (found := dirty.take(rng.randrange(1, 5 * granularity))) is not None:
                first, end = found[0] // granularity, -(-sum(found) // granularity)
                assert all(model[first:end]) and found[0] % granularity == 0
                model[first:end] = [False] * (end - first)
            else:
                assert not any(model)
            assert dirty.left() == min(sum(model) * granularity, size)
