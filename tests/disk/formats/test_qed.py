"""qed against qemu-img, with backing images, power cuts and lies."""

import json
import random
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS, open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import (
    approved,
    content,
    create,
    exercise,
    hostile,
    make,
    needs_qemu,
    ours,
    power_cuts,
    qemu,
    same,
    theirs,
)
from tests.disk.powercut import PowerCut

# Tables of one cluster are in the specification, but QEMU 7.2 refuses to open them.
SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)
OPTIONS = [{}, {"cluster_size": 4096, "table_size": 2}, {"cluster_size": 1 << 20, "table_size": 16}]


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", OPTIONS)
def test_theirs(tmp_path: Path, size: int, given: dict[str, int]) -> None:
    theirs("qed", tmp_path, size, ",".join(f"{key}={value}" for key, value in given.items()))


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", OPTIONS)
def test_ours(tmp_path: Path, size: int, given: dict[str, int]) -> None:
    ours("qed", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("of", [3 << 20, (9 << 20) + 512])
@pytest.mark.parametrize("format", ["raw", None])
def test_backing(tmp_path: Path, of: int, format: str | None) -> None:
    """An overlay that is longer or shorter than what it stands on; zeros there hide what is below."""
    rng = random.Random(of)
    below = content(rng, of)
    (tmp_path / "base").write_bytes(below)
    if format is None:
        qemu("qemu-img", "convert", "-f", "raw", "-O", "qed", tmp_path / "base", tmp_path / "base.qed")
        (tmp_path / "base.qed").rename(tmp_path / "base")
    size = 6 << 20
    make("qed", tmp_path / "top.qed", size, {"backing_file": "base", "backing_fmt": format or "qed", "cluster_size": 4096})
    model = bytearray(below[:size] + bytes(max(size - of, 0)))
    with open_image(str(tmp_path / "top.qed"), writable=True) as node:
        exercise(node, model, rng, 80)
    with open_image(str(tmp_path / "top.qed")) as node:
        assert isinstance(node, Format)
        same(node, model, rng)
    approved("qed", tmp_path / "top.qed", model, tmp_path)
    said = json.loads(qemu("qemu-img", "info", "--output=json", tmp_path / "top.qed"))
    assert (said["backing-filename"], said.get("backing-filename-format")) == ("base", format)


@needs_qemu
def test_resize_and_new_backing(tmp_path: Path) -> None:
    make("qed", tmp_path / "x", 1 << 20)
    (tmp_path / "base").write_bytes(b"b" * 4096)
    with open_image(str(tmp_path / "x"), writable=True) as node:
        assert isinstance(node, Format)
        node.resize(3 << 20)
        node.write((3 << 20) - 5, b"hello")
        with pytest.raises(UserError, match="Shrinking"):
            node.resize(1 << 20)
        node.set_backing("base", "raw")
    approved("qed", tmp_path / "x", b"b" * 4096 + bytes((3 << 20) - 5 - 4096) + b"hello", tmp_path)
    with open_image(str(tmp_path / "x"), writable=True) as node:
        assert isinstance(node, Format)
        node.set_backing(None, None)
    approved("qed", tmp_path / "x", bytes((3 << 20) - 5) + b"hello", tmp_path)


@pytest.mark.parametrize(
    ("message", "given", "size"),
    [
        ("cluster size must be within range", {"cluster_size": 1000}, 512),
        ("table size must be within range", {"table_size": 3}, 512),
        ("less than 1073741824 bytes", {"cluster_size": 4096, "table_size": 1}, 2 << 30),
    ],
)
def test_refusals(message: str, given: dict[str, int], size: int) -> None:
    with pytest.raises(UserError, match=message):
        create("qed", PowerCut(), size, given)


def test_power_cuts() -> None:
    power_cuts("qed", 7 << 20, {"cluster_size": 4096, "table_size": 1})


@needs_qemu
def test_check_and_repair(tmp_path: Path) -> None:
    """As many leaks and corruptions as qemu-img counts; after our repair qemu-img finds no corruption, and the mark is gone."""
    make("qed", tmp_path / "x", 10 << 20)
    with open_image(str(tmp_path / "x"), writable=True) as node:
        node.write(0, b"x" * (1 << 20))
    image = bytearray((tmp_path / "x").read_bytes())
    table = int.from_bytes(image[65536:65544], "little")
    image[16] |= 2
    image[table + 8 : table + 16] = image[table : table + 8]
    image[table + 16 : table + 24] = (1 << 40).to_bytes(8, "little")
    (tmp_path / "x").write_bytes(image)
    with open_image(str(tmp_path / "x")) as node:
        assert isinstance(node, Format)
        found = node.check()
        assert node.dirty
    said = json.loads(qemu("qemu-img", "check", "-f", "qed", "--output=json", tmp_path / "x", status=(2,)))
    assert (found.corruptions, found.leaks, found.allocated, found.total) == (
        said["corruptions"],
        said["leaks"],
        said["allocated-clusters"],
        said["total-clusters"],
    )
    with open_image(str(tmp_path / "x"), writable=True) as node:
        assert isinstance(node, Format)
        assert node.check(True, True).corruptions_fixed == 2
        assert not node.dirty
    qemu("qemu-img", "check", "-f", "qed", tmp_path / "x", status=(3,))


def test_hostile() -> None:
    disk = PowerCut()
    create("qed", disk, 10 << 20, {"cluster_size": 4096, "table_size": 1, "backing_file": "x"})
    with FORMATS["qed"](disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(1000))
    hostile("qed", bytes(disk.now), areas=[(4, 72), (4096, 4160), (12288, 12288 + 4096)])
