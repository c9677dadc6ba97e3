"""Persistent dirty bitmaps in turns with qemu-img and qemu-io."""

import random
from pathlib import Path

import pytest

from exuvia.disk.format import Bitmap
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from exuvia.disk.graph import open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import create, hostile, make, needs_qemu, qemu
from tests.disk.powercut import PowerCut

GRAIN = 4096


def bits_of(writes: list[tuple[int, int]], size: int, grain: int = GRAIN) -> bytes:
    """What a bitmap says after writes of (offset, length)."""
    bits = bytearray((-(-size // grain) + 7) // 8)
    for offset, length in writes:
        for bit in range(offset // grain, (offset + length - 1) // grain + 1):
            bits[bit // 8] |= 1 << bit % 8
    return bytes(bits)


def some(rng: random.Random, size: int, count: int) -> list[tuple[int, int]]:
    found = []
    for _ in range(count):
        offset = rng.randrange(0, size, 512)
        found.append((offset, min(512 * rng.randrange(1, 400), size - offset)))
    return found


@needs_qemu
@pytest.mark.parametrize("cluster", [512, 65536])
def test_recording_in_turns(tmp_path: Path, cluster: int) -> None:
    rng = random.Random(cluster)
    image, size = tmp_path / "disk.qcow2", (9 << 20) + 512
    make("qcow2", image, size, {"cluster_size": cluster})
    qemu("qemu-img", "bitmap", "--add", "-g", GRAIN, image, "theirs")
    with open_image(str(image), writable=True) as node:
        node.add_bitmap(Bitmap("ours", GRAIN))
        node.add_bitmap(Bitmap("asleep", 65536, enabled=False))
    writes: list[tuple[int, int]] = []
    for _ in range(3):
        batch = some(rng, size, 6)
        qemu("qemu-io", *(word for at, count in batch for word in ("-c", f"write {at} {count}")), image)
        writes += batch
        with open_image(str(image)) as node:
            assert [each.name for each in node.bitmaps()] == ["theirs", "ours", "asleep"]
            assert node.read_bitmap("theirs") == node.read_bitmap("ours") == bits_of(writes, size)
            assert not node.check().messages
        batch = some(rng, size, 6)
        with open_image(str(image), writable=True) as node:
            for at, count in batch:
                rng.choice((node.zero, lambda at, count: node.write(at, bytes(count))))(at, count)
            assert not any(each.in_use for each in node.bitmaps())
        writes += batch
        with open_image(str(image)) as node:
            assert node.read_bitmap("theirs") == node.read_bitmap("ours") == bits_of(writes, size)
            assert not any(node.read_bitmap("asleep"))
            assert not any(each.in_use for each in node.bitmaps())
        qemu("qemu-img", "check", image)
    qemu("qemu-img", "bitmap", "--merge", "ours", image, "asleep")  # qemu-img reads what we stored
    with open_image(str(image), writable=True) as node:
        assert node.read_bitmap("asleep") == bits_of(writes, size, 65536)
        node.resize(4 << 20)
        assert node.read_bitmap("ours") == bits_of([(at, min(count, (4 << 20) - at)) for at, count in writes if at < 4 << 20], 4 << 20)
        node.write_bitmap("ours", bytes(len(node.read_bitmap("ours"))), False)
        node.remove_bitmap("theirs")
    qemu("qemu-img", "check", image)
    with open_image(str(image), writable=True) as node:
        node.write(0, b"x")
        assert not any(node.read_bitmap("ours"))
        node.remove_bitmap("ours")
        node.remove_bitmap("asleep")
    qemu("qemu-img", "check", image)
    assert "bitmaps" not in qemu("qemu-img", "info", image)


def test_a_killed_writer_leaves_its_bitmaps_in_use() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20)
    with Qcow2(disk, writable=True) as node:
        node.add_bitmap(Bitmap("a", GRAIN))
        node.add_bitmap(Bitmap("b", GRAIN, enabled=False))
    node = Qcow2(disk, writable=True)
    node.write(0, b"x")
    node.flush()
    node = Qcow2(PowerCut(bytes(disk.safe)), writable=True)
    assert [each.in_use for each in node.bitmaps()] == [True, False]
    with pytest.raises(UserError, match="Bitmap 'a' is inconsistent"):
        node.read_bitmap("a")
    node.remove_bitmap("a")
    assert not node.check().messages


def test_a_writer_without_bitmaps_makes_them_nothing() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20)
    with Qcow2(disk, writable=True) as node:
        node.add_bitmap(Bitmap("a", GRAIN))
    disk.write(88, bytes(8))  # what a program does that does not know the autoclear bits
    node = Qcow2(disk, writable=True)
    assert node.bitmaps() == []
    node.add_bitmap(Bitmap("b", GRAIN))
    assert [each.name for each in Qcow2(disk).bitmaps()] == ["b"]
    found = node.check(fix_leaks=True)
    assert (found.corruptions, found.leaks_fixed) == (0, found.leaks)


@pytest.mark.parametrize(
    ("bitmap", "text"),
    [
        (Bitmap("a", GRAIN), "Bitmap already exists: a"),
        (Bitmap("", GRAIN), "cannot be empty"),
        (Bitmap("b", 256), "Granularity must be power of 2 and at least 512"),
        (Bitmap("b", 3 * 512), "Granularity must be power of 2"),
        (Bitmap("b" * 1024, GRAIN), "too long"),
    ],
)
def test_what_cannot_be_added(bitmap: Bitmap, text: str) -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20)
    with Qcow2(disk, writable=True) as node:
        node.add_bitmap(Bitmap("a", GRAIN))
        with pytest.raises(UserError, match=text):
            node.add_bitmap(bitmap)


def test_directories_that_lie() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20, {"cluster_size": 512})
    with Qcow2(disk, writable=True) as node:
        for name in "abc":
            node.add_bitmap(Bitmap(name, 512))
        node.write(5000, b"x" * 10_000)
    node = Qcow2(disk)
    areas = [(88, 96), (104, 512), *((at, at + min(size, 200)) for at, size in node.records.directory())]
    areas += [(each.entry.table_offset, each.entry.table_offset + 8) for each in node.records.records]
    hostile("qcow2", bytes(disk.now), rounds=60, areas=areas)
