"""Every format in the registry: images made with each of its options, written by several threads, reopened, resized, cut off anywhere."""

import errno
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk.elsewhere import Elsewhere
from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS, open_image, probe
from exuvia.disk.node import Kind, Node
from exuvia.disk.protocols.file import File
from exuvia.disk.queue import Completion, Queue
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import make, same
from tests.disk.powercut import PowerCut

SIZE = (5 << 20) + 1536
PROTOCOL = {"preallocation", "nocow", "extent_size_hint"}


def variants() -> list[tuple[str, dict[str, Any]]]:
    """Each format that can be created, with its defaults and with each value of each option that has few."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, kind in FORMATS.items():
        if not kind.can_create():
            continue
        found.append((name, {}))
        for option in kind.CREATE:
            if option.type is bool:
                found.append((name, {option.name: not option.default}))
            elif isinstance(option.type, tuple):
                found += [(name, {option.name: word}) for word in option.type if word != option.default]
    return found


VARIANTS = variants()


def title(variant: Any) -> str:
    return variant if isinstance(variant, str) else ",".join(f"{key}={value}" for key, value in variant.items())


def made(folder: Path, name: str, given: dict[str, Any], size: int = SIZE) -> Path:
    """A new image; skipped where options need others, or a secret."""
    path = folder / f"image.{name}"
    try:
        make(name, path, size, given)
    except UserError as error:
        if not given and not any(word in str(error) for word in ("secret", "key")):
            raise
        pytest.skip(str(error))
    return path


def opened(path: Path, name: str, writable: bool = False) -> Format:
    return open_image({"driver": name, "file": {"driver": "file", "filename": str(path)}}, writable=writable)


def storm(node: Format, model: bytearray, rng: random.Random, rounds: int = 6, ops: int = 40) -> None:
    """Requests that do not overlap, but meet within clusters, on several threads at once."""
    queue = Queue(node)
    try:
        for _ in range(rounds):
            cuts = sorted(
                {
                    0,
                    node.size,
                    *(rng.randrange(node.size) for _ in range(ops)),
                    *(rng.randrange(node.size // 512) * 512 for _ in range(ops)),
                }
            )
            pieces = list(itertools.pairwise(cuts))
            rng.shuffle(pieces)
            waiting: list[Completion] = []
            read, dropped = [], []
            for start, end in pieces:
                action = rng.randrange(8)
                if action < 3:
                    data = rng.randbytes(end - start) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * (end - start)
                    middle = rng.randrange(len(data) + 1)
                    waiting.append(queue.write(start, Vector((data[:middle], bytearray(data[middle:])))))
                    model[start:end] = data
                elif action == 3:
                    waiting.append(queue.zero(start, end - start, rng.random() < 0.5))
                    model[start:end] = bytes(end - start)
                elif action == 4:
                    waiting.append(queue.discard(start, end - start))
                    dropped.append((start, end))
                elif action == 5:
                    waiting.append(queue.flush())
                else:
                    buffer = bytearray(end - start)
                    waiting.append(queue.read(start, Vector((buffer,))))
                    read.append((start, end, buffer))
            for each in waiting:
                each.result(60)
            queue.drain()
            for start, end, buffer in read:
                assert buffer == model[start:end], f"bytes {start} to {end} were read wrong beside writes"
            for start, end in dropped:
                now = node.read(start, end - start)
                old = model[start:end]
                assert now == old or all(byte in (was, 0) for byte, was in zip(now, old)), "a discard made something up"
                model[start:end] = now
            now = node.read(0, node.size)
            assert now == model, f"byte {next(at for at in range(len(now)) if now[at] != model[at])} of {len(now)}"
    finally:
        queue.close()


@pytest.mark.parametrize("name", list(FORMATS))
def test_declared(name: str) -> None:
    kind = FORMATS[name]
    assert kind.__doc__
    assert all(option.text for option in (*kind.OPTIONS, *kind.CREATE) if option.name not in PROTOCOL)
    assert len({option.name for option in kind.CREATE}) == len(kind.CREATE)
    assert kind.__module__.rpartition(".")[2] == name.replace("-", "_").replace(".", "_")


@pytest.mark.parametrize(("name", "given"), VARIANTS, ids=title)
def test_written_by_several_threads(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    path = made(tmp_path, name, given)
    kind, rng = FORMATS[name], random.Random(f"{name}{given}")
    with opened(path, name) as node:
        assert node.size >= SIZE
        model = bytearray(node.size)
        same(node, model, rng)
        if not kind.can("writev"):
            return
    for _ in range(2):
        node = opened(path, name, writable=True)
        storm(node, model, rng)
        node.flush()
        killed(path, name, model)
        node.close()
        node.close()
        with opened(path, name) as node:
            same(node, model, rng)
            if type(node).check is not Format.check:
                found = node.check()
                assert not found.corruptions, found.messages
                assert not found.errors, found.messages


def killed(path: Path, name: str, model: bytearray) -> None:
    """What the next process finds when the writer ends now: everything, since it was flushed."""
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        for each in path.parent.iterdir():
            shutil.copy(each, folder)
        with opened(Path(folder, path.name), name, writable=True) as node:
            assert node.read(0, node.size) == model, "what was flushed is not in the file"


@pytest.mark.parametrize("name", [name for name, given in VARIANTS if not given and FORMATS[name].can("writev")])
def test_bytes_that_lie_in_another_file(tmp_path: Path, name: str) -> None:
    path, rng = made(tmp_path, name, {}), random.Random(name)
    content = rng.randbytes(500_000)
    (tmp_path / "other").write_bytes(content)
    with File(str(tmp_path / "other")) as other, opened(path, name, writable=True) as node:
        model = bytearray(node.size)
        for at, start, length in ((0, 0, 200_000), (1 << 20, 4096, 65536), (100_001, 3, 100_000), (3 << 20, 450_000, 100_000)):
            node.writev(at, Elsewhere(other, start, length))
            model[at : at + length] = content[start : start + length].ljust(length, b"\0")
        assert node.read(0, node.size) == model
    with opened(path, name) as node:
        same(node, model, rng)


@pytest.mark.parametrize("name", [name for name, given in VARIANTS if not given])
def test_what_cannot_be_is_an_error(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name, {})
    with opened(path, name) as node:
        queue = Queue(node)
        for future, number in (
            (queue.write(0, Vector((b"x",))), errno.EROFS),
            (queue.read(node.size, Vector((bytearray(1),))), errno.EIO),
            (queue.read(-1, Vector((bytearray(1),))), errno.EIO),
            (queue.zero(0, 512), errno.EROFS),
        ):
            error = future.exception(10)
            assert isinstance(error, OSError)
            assert error.errno == number
        queue.close()
        node.read(0, 0)
        assert list(node.extents(node.size, 0)) == []
    with pytest.raises(UserError):
        open_image({"driver": name, "file": {"driver": "file", "filename": str(path)}, "nonsense": 1})
    before = path.read_bytes()
    with opened(path, name) as node:
        node.read(0, node.size)
        node.info()
    assert path.read_bytes() == before, "a reader changed the image"


@pytest.mark.parametrize("name", [name for name, given in VARIANTS if not given])
def test_probed(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name, {})
    with File(str(path)) as file:
        assert probe(file).name == name


@pytest.mark.parametrize(("name", "given"), [each for each in VARIANTS if FORMATS[each[0]].can("resize")], ids=title)
def test_resized(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    path, rng = made(tmp_path, name, given), random.Random(name)
    with opened(path, name, writable=True) as node:
        model = bytearray(rng.randbytes(node.size))
        node.write(0, model)
        for change in (512, 3 << 20, -(1 << 20), 70 << 20, -(71 << 20)):
            try:
                node.resize(node.size + change)
            except (UserError, OSError):  # no shrinking, or not this variant
                continue
            grown = node.size - len(model)
            model = model[: node.size] + bytes(max(grown, 0))
            assert node.read(0, node.size) == model
            node.write(node.size - 700, b"end" * 233)
            model[-700:-1] = b"end" * 233
    with opened(path, name) as node:
        same(node, model, rng)
        if type(node).check is not Format.check:
            assert not node.check().corruptions


@pytest.mark.parametrize(
    "name", [name for name, given in VARIANTS if not given and any(o.name == "backing_file" for o in FORMATS[name].CREATE)]
)
def test_on_a_backing_image(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    base, top = tmp_path / "base.img", tmp_path / "top.img"
    make(name, base, 3 << 20)
    with opened(base, name, writable=True) as node:
        below = bytearray(rng.randbytes(1 << 20) + bytes(1 << 20) + rng.randbytes(1 << 20))
        node.write(0, below)
    for size in (SIZE, 3 << 20, 2 << 20):
        top.unlink(missing_ok=True)
        make(name, top, size, {"backing_file": base.name, "backing_fmt": name})
        model = (below + bytes(size))[:size]
        with opened(top, name, writable=True) as node:
            assert node.backing is not None
            assert [each.kind for each in node.extents(0, node.size)] == [Kind.ABSENT] or sum(
                e.length for e in node.extents(0, node.size)
            ) == size
            same(node, model, rng)
            node.zero(512, 1 << 20)
            model[512 : 512 + (1 << 20)] = bytes(1 << 20)
            same(node, model, rng)
            storm(node, model, rng, 3)
        with opened(top, name) as node:
            same(node, model, rng)
    with opened(base, name) as node:
        same(node, below, rng)


def survives(path: Path, name: str) -> bool:
    """Use an image that may be anything: one line or an answer, soon. Whether it opened."""
    done: list[bool] = []
    failed: list[BaseException] = []

    def use() -> None:
        try:
            with opened(path, name) as node:
                done.append(True)
                node.info()
                for extent, _ in zip(node.extents(0, node.size), range(1000)):
                    assert extent.length > 0
                for at in range(0, min(node.size, 16 << 20), 1 << 20):
                    try:
                        node.read(at, min(65536, node.size - at))
                    except (UserError, OSError):
                        pass
                node.check()
        except (UserError, OSError):
            pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
    if failed:
        raise failed[0]
    return bool(done)


@pytest.mark.parametrize(("name", "given"), VARIANTS, ids=title)
def test_cut_off(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    """Files of an image end too early: at each of its first sectors, at pages, before and behind powers of two."""
    path, rng = made(tmp_path, name, given), random.Random(name)
    if FORMATS[name].can("writev"):
        with opened(path, name, writable=True) as node:
            node.write(0, rng.randbytes(100_000))
            node.write(node.size - 100_000, rng.randbytes(100_000))
            node.zero(1 << 20, 1 << 20)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        places = {
            *range(0, 4096, 512),
            *(place + step for place in (1 << n for n in range(12, 24)) for step in (-1, 0, 1, 512)),
            len(whole) - 1,
            len(whole) - 512,
        }
        places |= {rng.randrange(len(whole)) for _ in range(10)}
        for place in sorted(each for each in places if 0 <= each < len(whole)):
            file.write_bytes(whole[:place])
            survives(path, name)
        file.write_bytes(whole)
    with opened(path, name) as node:
        node.read(0, node.size)


@pytest.mark.parametrize("name", list(FORMATS))
def test_nonsense(tmp_path: Path, name: str) -> None:
    path, rng = tmp_path / "nonsense", random.Random(name)
    for content in (b"", b"\0" * 512, b"\0" * 70_000, b"\xff" * 70_000, rng.randbytes(100), rng.randbytes(70_000)):
        path.write_bytes(content)
        assert survives(path, name) == (name == "raw")


@pytest.mark.parametrize("name", [name for name, given in VARIANTS if not given and FORMATS[name].can("writev")])
def test_a_full_disk(tmp_path: Path, name: str) -> None:
    """A write that finds no room fails with the system's word, and the image is as good as before it."""
    path = made(tmp_path, name, {})
    with File(str(path)) as file:
        disk: Node = Full(file.read(0, file.size))
    node = FORMATS[name](disk, writable=True)
    rng = random.Random(1)
    first = rng.randbytes(300_000)
    node.write(0, first)
    node.flush()
    assert isinstance(disk, Full)
    disk.full = True
    try:
        node.write(1 << 20, rng.randbytes(300_000))
        node.flush()
        refused = 0
    except OSError as error:
        refused = error.errno or -1
    assert refused in (0, errno.ENOSPC)
    disk.full = False
    second = rng.randbytes(300_000)
    node.write(1 << 20, second)
    node.write(2 << 20, second)
    node.close()
    again = FORMATS[name](PowerCut(bytes(disk.now)))
    assert again.read(0, 300_000) == first
    assert again.read(1 << 20, 300_000) == second
    assert again.read(2 << 20, 300_000) == second
    if type(again).check is not Format.check:
        assert not again.check().corruptions


class Full(PowerCut):
    """A file that cannot grow while `full`."""

    full = False

    def writev(self, offset: int, data: Vector) -> None:
        if self.full and offset + data.length > self.size:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().writev(offset, data)

    def resize(self, size: int, preallocation: str = "off") -> None:
        if self.full and size > self.size:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().resize(size, preallocation)


WRITER = """
import os, random, sys
from exuvia.disk.graph import open_image
node = open_image({"driver": sys.argv[1], "file": {"driver": "file", "filename": sys.argv[2]}}, writable=True)
rng, number = random.Random(int(sys.argv[3])), 0
while True:
    for _ in range(rng.randrange(1, 8)):
        number += 1
        start = rng.randrange(node.size // 512)
        count = min(node.size // 512 - start, rng.choice((1, 8, 100, 600)))
        os.write(1, f"{start} {count} {number}\\n".encode())
        node.write(start * 512, number.to_bytes(4, "little") * 128 * count)
    node.flush()
    os.write(1, b"flushed\\n")
"""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name, given in VARIANTS if not given and FORMATS[name].can("writev")])
def test_killed_while_writing(tmp_path: Path, name: str, seed: int) -> None:
    """SIGKILL at any moment: what was flushed is there, what was being written is there or not, and the image goes on."""
    path, rng = made(tmp_path, name, {}), random.Random(seed)
    with subprocess.Popen([sys.executable, "-c", WRITER, name, str(path), str(seed)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(rng.randrange(20, 300))]
        time.sleep(rng.random() / 100)
        writer.kill()
        said += writer.stdout.readlines()
    assert b"flushed\n" in said
    flushed = len(said) - said[::-1].index(b"flushed\n")
    with opened(path, name, writable=True) as node:
        safe, maybe = {}, dict[int, set[int]]()
        for at, words in enumerate(line.split() for line in said if line.endswith(b"\n")):
            if len(words) == 3:
                start, count, number = map(int, words)
                for sector in range(start, start + count):
                    if at < flushed:
                        safe[sector] = number
                    else:
                        maybe.setdefault(sector, {safe.get(sector, 0), 0 if sector not in safe else number}).add(number)
        content = node.read(0, node.size)
        for sector in range(node.size // 512):
            data = content[sector * 512 : sector * 512 + 512]
            number = int.from_bytes(data[:4], "little")
            assert number in maybe.get(sector, {safe.get(sector, 0)}), f"sector {sector} has {number}"
            assert data == data[:4] * 128
        if type(node).check is not Format.check:
            found = node.check()
            assert not found.corruptions or found.messages == ["ERROR image was not closed correctly"], found.messages
        model = bytearray(content)
        storm(node, model, rng, 2)
