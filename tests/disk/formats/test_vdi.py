"""vdi against qemu-img, power cuts and lies."""

import random
from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError, Kind
from tests.disk.formats.interchange import create, hostile, make, needs_qemu, ours, power_cuts, theirs
from tests.disk.powercut import PowerCut

SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", ["", "static=on"])
def test_theirs(tmp_path: Path, size: int, given: str) -> None:
    theirs("vdi", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("static", [False, True])
def test_ours(tmp_path: Path, size: int, static: bool) -> None:
    ours("vdi", tmp_path, size, {"static": static})


def test_power_cuts() -> None:
    power_cuts("vdi", (7 << 20) + 512)


def test_discarded_blocks_read_as_zeros() -> None:
    disk = PowerCut()
    create("vdi", disk, 3 << 20)
    with FORMATS["vdi"](disk, writable=True) as node:
        node.write(0, b"a" * (3 << 20))
    disk.write(512 + 4, (0xFFFFFFFE).to_bytes(4, "little"))
    node = FORMATS["vdi"](disk)
    assert [(each.kind, each.length) for each in node.extents(0, node.size)] == [
        (Kind.DATA, 1 << 20),
        (Kind.ZERO, 1 << 20),
        (Kind.DATA, 1 << 20),
    ]
    assert node.read(0, node.size) == b"a" * (1 << 20) + bytes(1 << 20) + b"a" * (1 << 20)


def test_a_parent_is_refused(tmp_path: Path) -> None:
    make("vdi", tmp_path / "child.vdi", 1 << 20)
    with open(tmp_path / "child.vdi", "r+b") as file:
        file.seek(0x1B8)
        file.write(b"parent")
    with pytest.raises(ImageError, match=r"child.vdi: unsupported VDI image \(non-NULL parent UUID\)"):
        open_image(str(tmp_path / "child.vdi"))


def test_check_tells_leaks_from_corruption() -> None:
    disk = PowerCut()
    create("vdi", disk, 4 << 20)
    with FORMATS["vdi"](disk, writable=True) as node:
        node.write(0, b"a")
    for counter, leaks, corruptions in ((1, 0, 0), (3, 2, 0), (0, 0, 1)):
        disk.write(0x184, counter.to_bytes(4, "little"))
        found = FORMATS["vdi"](disk).check()
        assert (found.leaks, found.corruptions) == (leaks, corruptions)


def test_hostile() -> None:
    disk = PowerCut()
    create("vdi", disk, 10 << 20)
    with FORMATS["vdi"](disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(1000))
    hostile("vdi", bytes(disk.now), areas=[(64, 72), (0x150, 0x1D0), (512, 560)])
