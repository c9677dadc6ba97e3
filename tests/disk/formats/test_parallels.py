"""parallels against qemu-img, power cuts and lies."""

import random
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.parallels import OLD, Header
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError
from tests.disk.formats.interchange import approved, create, exercise, hostile, make, needs_qemu, ours, power_cuts, qemu, same, theirs
from tests.disk.powercut import PowerCut

SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", ["", "cluster_size=64k", "cluster_size=10000"])
def test_theirs(tmp_path: Path, size: int, given: str) -> None:
    theirs("parallels", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cluster", [1 << 20, 1 << 16, 10000])
def test_ours(tmp_path: Path, size: int, cluster: int) -> None:
    ours("parallels", tmp_path, size, {"cluster_size": cluster})


@needs_qemu
def test_headers_are_theirs(tmp_path: Path) -> None:
    for size in (512, 100 << 20, 1000000, 3 << 40):
        qemu("qemu-img", "create", "-q", "-f", "parallels", tmp_path / "theirs", size)
        (tmp_path / "ours").unlink(missing_ok=True)
        make("parallels", tmp_path / "ours", size)
        with open(tmp_path / "theirs", "rb") as a, open(tmp_path / "ours", "rb") as b:
            assert a.read(64) == b.read(64)
        assert (tmp_path / "theirs").stat().st_size == (tmp_path / "ours").stat().st_size


@needs_qemu
def test_old_kind(tmp_path: Path) -> None:
    """ "WithoutFreeSpace": entries count sectors, and data begins behind the table."""
    header = Header(magic=OLD, cylinders=10, tracks=63, nb_bat_entries=100, nb_sectors=6000, data_off=0)
    (tmp_path / "old").write_bytes(header.pack() + bytes(400))
    model, rng = bytearray(6000 * 512), random.Random(1)
    with open_image(str(tmp_path / "old"), writable=True) as node:
        exercise(node, model, rng, 60)
    with open_image(str(tmp_path / "old")) as node:
        assert isinstance(node, Format)
        same(node, model, rng)
    approved("parallels", tmp_path / "old", model, tmp_path)


def test_power_cuts() -> None:
    power_cuts("parallels", 7 << 20)


@needs_qemu
def test_check_and_repair(tmp_path: Path) -> None:
    """What is wrong is found as qemu-img finds it, and repaired."""
    make("parallels", tmp_path / "x", 10 << 20)
    with open_image(str(tmp_path / "x"), "parallels", writable=True) as node:
        node.write(5 << 20, b"x")
    image = bytearray((tmp_path / "x").read_bytes()) + bytes(2 << 20)
    image[44:48] = b"Ynot"
    image[64 + 8 : 64 + 12] = (1000).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(image)
    with open_image(str(tmp_path / "x")) as node:
        assert isinstance(node, Format)
        found = node.check()
    assert (found.corruptions, found.leaks, found.allocated, found.total) == (2, 0, 2, 10)
    qemu("qemu-img", "check", "-f", "parallels", tmp_path / "x", status=(2,))
    with open_image(str(tmp_path / "x"), writable=True) as node, pytest.raises(ImageError, match="not closed correctly"):
        node.write(0, b"x")
    qemu("qemu-img", "check", "-f", "parallels", "-r", "all", tmp_path / "x")
    disk = PowerCut(bytes(image))
    node = FORMATS["parallels"](disk, writable=True)
    found = node.check(True, True)
    assert (found.corruptions_fixed, found.leaks_fixed) == (2, 2)
    node.close()
    with open(tmp_path / "x", "rb") as file:  # which QEMU 7.2 leaves as long as the cluster that was outside said
        assert file.read(len(disk.now)) == disk.now
    (tmp_path / "x").write_bytes(disk.now)
    qemu("qemu-img", "check", "-f", "parallels", tmp_path / "x")


def test_hostile() -> None:
    disk = PowerCut()
    create("parallels", disk, 10 << 20, {"cluster_size": 65536})
    with FORMATS["parallels"](disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(1000))
    hostile("parallels", bytes(disk.now), areas=[(16, 64), (64, 72), (380, 400)])
