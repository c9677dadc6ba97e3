"""What every format's test does: images go to qemu-img and come from it, writers lose power, headers lie."""

import random
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS, beside, open_image
from exuvia.disk.node import ImageError, Kind, Node
from exuvia.disk.options import values
from exuvia.disk.protocols.file import File
from exuvia.support.errors import UserError
from tests.disk.powercut import PowerCut

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img (Debian: qemu-utils) is not installed")


def qemu(tool: str, *arguments: object, status: Iterable[int] = (0,)) -> str:
    """Run `qemu-img` or `qemu-io`; what it printed. Another exit status fails the test."""
    for _ in range(40):
        done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        if "accurate CPU usage" not in done.stderr:  # by which LUKS counts its iterations, and often cannot
            break
        time.sleep(0.05)
    assert done.returncode in status, f"{tool} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def content(rng: random.Random, size: int) -> bytearray:
    """Runs of random bytes, of one byte and of zeros, from 1 byte to 1/4 of the whole."""
    data = bytearray()
    while len(data) < size:
        length = int(size ** rng.uniform(0.1, 0.95) / 4) + 1
        kind = rng.randrange(4)
        data += rng.randbytes(length) if kind == 0 else bytes([kind * 50 * (kind > 1)]) * length
    del data[size:]
    return data


def create(kind: str, file: Node, size: int, given: dict[str, Any] | None = None) -> None:
    """`exuvia-img create`, without the command."""

    def opener(name: str, writable: bool) -> Node:
        return File(beside(file.filename, name), writable=writable, create=writable)

    FORMATS[kind].create(file, size, values(FORMATS[kind].CREATE, given or {}, kind), opener)


def make(kind: str, path: Path, size: int, given: dict[str, Any] | None = None) -> None:
    """An empty image in a file."""
    with File(str(path), writable=True, create=True) as file:
        create(kind, file, size, given)


def same(node: Format, model: bytes | bytearray, rng: random.Random) -> None:
    """The node reads as `model`, whole and in pieces, and its extents cover it exactly and tell the truth."""
    assert node.size == len(model)
    assert node.read(0, node.size) == model
    for _ in range(20):
        offset = rng.randrange(node.size)
        length = rng.randint(1, min(node.size - offset, 1 << rng.randrange(1, 22)))
        assert node.read(offset, length) == model[offset : offset + length]
    at = 0
    for extent in node.extents(0, node.size):
        assert extent.length > 0
        if extent.kind is Kind.DATA:
            assert extent.host is not None
            assert (extent.file or node.file).read(extent.host, extent.length) == model[at : at + extent.length]
        elif extent.kind is Kind.ZERO or (extent.kind is Kind.ABSENT and node.backing is None):
            assert not any(model[at : at + extent.length])
        at += extent.length
    assert at == node.size


def exercise(node: Node, model: bytearray, rng: random.Random, steps: int) -> None:
    """Random writes, zeroing, discards and reads, on the node and on the model."""
    for _ in range(steps):
        offset = rng.randrange(node.size)
        length = rng.randint(1, min(node.size - offset, 1 << rng.randrange(1, 22)))
        action = rng.randrange(8)
        if action < 4:
            data = rng.randbytes(length)
            node.write(offset, data)
            model[offset : offset + length] = data
        elif action < 5:
            node.zero(offset, length)
            model[offset : offset + length] = bytes(length)
        elif action < 6:
            node.discard(offset, length)
            now = node.read(offset, length)
            assert all(new in (old, 0) for new, old in zip(now, model[offset : offset + length]))
            model[offset : offset + length] = now
        elif action < 7:
            node.flush()
        else:
            assert node.read(offset, length) == model[offset : offset + length]


def theirs(kind: str, folder: Path, size: int, given: str = "", rounded: int | None = None, write: bool = True) -> None:
    """qemu-img makes an image with content, we read it, and write into it; qemu-img finds nothing wrong and reads what we wrote."""
    rng = random.Random(size)
    model = content(rng, size)
    raw, image = folder / "model.raw", folder / f"theirs.{kind}"
    raw.write_bytes(model)
    qemu("qemu-img", "convert", "-f", "raw", "-O", kind, *(["-o", given] if given else []), raw, image)
    if rounded:
        model += bytes(rounded - len(model))
    with open_image(str(image)) as node:
        assert node.name == kind
        assert isinstance(node, Format)
        same(node, model, rng)
    if write:
        with open_image(str(image), kind, writable=True) as node:
            exercise(node, model, rng, 40)
        approved(kind, image, model, folder)


def approved(kind: str, image: Path, model: bytes | bytearray, folder: Path) -> None:
    """qemu-img's check is content (63: there is no check for the format) and it reads what the model says."""
    qemu("qemu-img", "check", "-f", kind, image, status=(0, 63))
    raw = folder / "back.raw"
    qemu("qemu-img", "convert", "-f", kind, "-O", "raw", image, raw)
    assert raw.read_bytes() == model


def ours(kind: str, folder: Path, size: int, given: dict[str, Any] | None = None, rounded: int | None = None, write: bool = True) -> None:
    """We make an image and write into it, qemu-img reads it; with `write`, qemu-io writes into it, we read that."""
    rng = random.Random(size + 1)
    image = folder / f"ours.{kind}"
    make(kind, image, size, given)
    model = bytearray(rounded or size + -size % 512)
    approved(kind, image, model, folder)
    for _ in range(2):
        with open_image(str(image), kind, writable=True) as node:
            assert node.size == len(model)
            exercise(node, model, rng, 40)
        with open_image(str(image), kind) as node:
            assert isinstance(node, Format)
            same(node, model, rng)
        approved(kind, image, model, folder)
    commands = []
    for _ in range(10 if write else 0):
        offset = rng.randrange(0, len(model), 512)
        length = rng.randrange(512, max(min(len(model) - offset, 1 << 20), 513), 512)
        pattern = rng.randrange(1, 256)
        commands += ["-c", f"write -P {pattern} {offset} {length}"]
        model[offset : offset + length] = bytes([pattern]) * length
    qemu("qemu-io", "-f", kind, *commands, image)
    with open_image(str(image), kind) as node:
        assert isinstance(node, Format)
        same(node, model, rng)


def power_cuts(kind: str, size: int, given: dict[str, Any] | None = None, rounds: int = 25, seed: int = 0, unit: int = 512) -> None:
    """Writers lose power at random points, in the middle of a flush too: the image opens, what was flushed is there, check finds at
    worst leaks. Bytes that were written since the last flush may be old or new, in units of `unit` bytes.
    """
    rng = random.Random(seed)
    for _ in range(rounds):
        disk = PowerCut()
        create(kind, disk, size, given)
        disk.flush()
        node: Format = FORMATS[kind](disk, writable=True)
        model, recent = bytearray(node.size), Recent(unit)
        node.flush()
        left: list[tuple[bytes, bytes, Recent]] = []

        def look(disk: PowerCut = disk, model: bytearray = model, recent: Recent = recent, left: list[Any] = left) -> None:
            if rng.randrange(4) == 0 and len(left) < 6:
                left.append((disk.disk(rng), bytes(model), recent.copy()))

        for _ in range(rng.randrange(1, 4)):
            for _ in range(rng.randrange(12)):
                offset = rng.randrange(0, node.size // unit) * unit
                length = min(node.size - offset, unit * rng.choice((1, 1, 2, 8, 64, 300, 4097)))
                zero = rng.randrange(6) == 0
                data = bytes(length) if zero else rng.randbytes(length)
                recent.write(offset, data, model)
                disk.before = look
                if zero:
                    node.zero(offset, length)
                else:
                    node.write(offset, data)
            node.flush()
            disk.before = lambda: None
            recent.settle(model)
        left.append((disk.disk(rng), bytes(model), recent.copy()))
        for image, flushed, unflushed in left:
            _after(kind, image, flushed, unflushed)
        # A second life: opened again for writing, the image goes on and is sound at the end.
        again = PowerCut(left[0][0])
        node = FORMATS[kind](again, writable=True)
        now = bytearray(node.read(0, node.size))
        exercise(node, now, rng, 10)
        node.close()
        _after(kind, bytes(again.now), now, Recent(unit))


class Recent:
    """What was written since the last flush: for each unit what it may hold now."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.allowed: dict[int, list[bytes]] = {}

    def copy(self) -> "Recent":
        other = Recent(self.unit)
        other.allowed = {place: list(each) for place, each in self.allowed.items()}
        return other

    def write(self, offset: int, data: bytes, model: bytearray) -> None:
        """Old, zeros (of a place that was made for it) or new."""
        for at in range(offset, offset + len(data), self.unit):
            piece = data[at - offset : at - offset + self.unit]
            self.allowed.setdefault(at, [bytes(model[at : at + len(piece)]), bytes(len(piece))]).append(piece)

    def settle(self, model: bytearray) -> None:
        """Everything was flushed."""
        for at, pieces in self.allowed.items():
            model[at : at + len(pieces[-1])] = pieces[-1]
        self.allowed.clear()


def _after(kind: str, left: bytes, flushed: bytes | bytearray, recent: Recent) -> None:
    """What a power cut left is an image that holds what was flushed, and of the rest nothing that was never written."""
    try:
        node: Format = FORMATS[kind](PowerCut(left))
    except ImageError:  # a format with a log may want to write it down first
        node = FORMATS[kind](PowerCut(left), writable=True)
    if type(node).check is not Format.check:
        found = node.check()
        assert found.corruptions <= sum("not closed correctly" in each for each in found.messages), found.messages
        assert not found.errors, found.messages
    node = FORMATS[kind](PowerCut(left), writable=True)
    now = node.read(0, node.size)
    at = 0
    for place in sorted(recent.allowed):
        assert now[at:place] == flushed[at:place], f"flushed bytes between {at} and {place} were lost"
        at = place + len(recent.allowed[place][0])
        assert now[place:at] in recent.allowed[place], f"bytes at {place} were never written"
    assert now[at:] == flushed[at:], f"flushed bytes from {at} on were lost"


def hostile(
    kind: str,
    image: bytes,
    rounds: int = 400,
    seed: int = 0,
    areas: Iterable[tuple[int, int]] = ((0, 4096),),
    repair: Callable[[bytearray], None] | None = None,
    limit: int = 64 << 20,
    options: dict[str, Any] | None = None,
) -> None:
    """Headers and tables (`areas`: from, to) that lie raise one line, in bounded time and memory. `repair` makes checksums right again."""
    rng = random.Random(seed)
    places = list(areas)
    opened = 0
    for _ in range(rounds):
        bad = bytearray(image)
        for _ in range(rng.randrange(1, 4)):
            first, last = rng.choice(places)
            at = rng.randrange(first, min(last, len(bad)))
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(
                (
                    0,
                    1,
                    2,
                    0x7F,
                    0x80,
                    0xFF,
                    rng.getrandbits(64),
                    (1 << 64) - 1,
                    1 << 63,
                    1 << 31,
                    0xFFFFFFFF,
                    0xFFFFFFFE,
                    1 << rng.randrange(64),
                )
            )
            order = rng.choice(("little", "big"))
            bad[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)  # type: ignore[arg-type]
        if rng.randrange(10) == 0:
            del bad[rng.randrange(len(bad)) :]
        if repair:
            repair(bad)
        began = time.monotonic()
        tracemalloc.start()
        try:
            opened += _use(kind, bad, rng, options or {})
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert time.monotonic() - began < 20
        assert peak < limit + 8 * len(bad), f"{peak} bytes of memory were taken"
    assert opened, "nothing that was changed opened: the fuzzing reaches no table"


def _use(kind: str, bad: bytearray, rng: random.Random, options: dict[str, Any]) -> bool:
    """Open, look at everything, write a little. Whether it opened."""
    opened = False
    for writable in (False, True):
        try:
            node: Format = FORMATS[kind](
                PowerCut(bytes(bad), largest=len(bad) + (8 << 20)), writable=writable and FORMATS[kind].can("writev")
            )
            opened = True
            node.info()
            for _ in range(8):
                offset = rng.randrange(node.size + 1)
                length = min(node.size - offset, 1 << rng.randrange(18))
                try:
                    node.read(offset, length)
                    if node.writable:
                        node.write(offset, rng.randbytes(length))
                except (UserError, OSError):
                    pass
            for _, _extent in zip(range(1000), node.extents(0, node.size)):
                pass
            node.check()
        except (UserError, OSError):
            pass
        if opened and node.writable:
            try:
                node.close()
            except (UserError, OSError):
                pass
    return opened
