"""qcow (version 1) against qemu-img, with backing images, compressed clusters, encryption, power cuts and lies."""

import json
import random
from pathlib import Path

import pytest

from exuvia.disk import objects
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

SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
def test_theirs(tmp_path: Path, size: int) -> None:
    theirs("qcow", tmp_path, size)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
def test_ours(tmp_path: Path, size: int) -> None:
    ours("qcow", tmp_path, size)


@needs_qemu
@pytest.mark.parametrize("of", [3 << 20, (9 << 20) + 512])
def test_backing(tmp_path: Path, of: int) -> None:
    """Clusters of 512 bytes, and no way to say "zeros"."""
    rng = random.Random(of)
    below = content(rng, of)
    (tmp_path / "base").write_bytes(below)
    size = 6 << 20
    make("qcow", tmp_path / "top", size, {"backing_file": "base", "backing_fmt": "raw"})
    model = bytearray(below[:size] + bytes(max(size - of, 0)))
    described = {"driver": "qcow", "file": {"driver": "file", "filename": str(tmp_path / "top")}}
    with open_image({**described, "backing": {"driver": "raw", "file": str(tmp_path / "base")}}, writable=True) as node:
        exercise(node, model, rng, 80)
        assert isinstance(node, Format)
        same(node, model, rng)
    said = {
        "driver": "qcow",
        "file.filename": str(tmp_path / "top"),
        "backing.driver": "raw",
        "backing.file.filename": str(tmp_path / "base"),
    }
    qemu("qemu-img", "convert", "-O", "raw", "json:" + json.dumps(said), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == model


@needs_qemu
def test_compressed(tmp_path: Path) -> None:
    """Theirs read and written into, and ours read by them."""
    rng = random.Random(5)
    model = bytearray(each & 15 for each in content(rng, 4 << 20))
    (tmp_path / "raw").write_bytes(model)
    status = (0, 1)  # QEMU 7.2 always ends with 1 here, whatever comes of it
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow", tmp_path / "raw", tmp_path / "theirs", status=status)
    with open_image(str(tmp_path / "theirs"), writable=True) as node:
        assert isinstance(node, Format)
        same(node, model, rng)
        exercise(node, model, rng, 40)
        same(node, model, rng)
    approved("qcow", tmp_path / "theirs", model, tmp_path)
    model = content(rng, (4 << 20) + 512)
    make("qcow", tmp_path / "ours", len(model))
    with open_image(str(tmp_path / "ours"), writable=True) as node:
        assert isinstance(node, Format)
        for at in range(0, len(model), 4096):
            if any(model[at : at + 4096]):
                node.write_compressed(at, model[at : at + 4096])
        same(node, model, rng)
    assert (tmp_path / "ours").stat().st_size < len(model)
    approved("qcow", tmp_path / "ours", model, tmp_path)
    with open_image(str(tmp_path / "ours"), writable=True) as node:
        assert isinstance(node, Format)
        node.empty()
        same(node, bytes(len(model)), rng)
    approved("qcow", tmp_path / "ours", bytes(len(model)), tmp_path)


@needs_qemu
def test_encrypted(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    secret = "secret,id=key,data=open sesame"
    opts = "driver=qcow,encrypt.format=aes,encrypt.key-secret=key,file.filename=" + str(tmp_path / "x")
    qemu(
        "qemu-img",
        "create",
        "-q",
        "--object",
        secret,
        "-f",
        "qcow",
        "-o",
        "encrypt.format=aes,encrypt.key-secret=key",
        tmp_path / "x",
        "1M",
    )
    qemu("qemu-io", "--object", secret, "--image-opts", "-c", "write -P 7 5000 100000", opts)
    with open_image(str(tmp_path / "x")) as node:
        for look in (node.unlock, lambda: node.read(0, 65536)):
            with pytest.raises(UserError, match="x: Parameter 'encrypt.key-secret' is required for cipher"):
                look()
    objects.define(secret)
    try:
        with open_image({"driver": "qcow", "encrypt": {"format": "aes", "key-secret": "key"}, "file": str(tmp_path / "x")}) as node:
            assert node.read(0, node.size) == bytes(5000) + b"\7" * 100000 + bytes((1 << 20) - 105000)
    finally:
        objects.remove("key")


def test_power_cuts() -> None:
    power_cuts("qcow", 7 << 20)


def test_hostile() -> None:
    disk = PowerCut()
    create("qcow", disk, 10 << 20)
    with FORMATS["qcow"](disk, writable=True) as node:
        assert isinstance(node, Format)
        node.write(5 << 20, random.Random(1).randbytes(1000))
        node.write_compressed((5 << 20) + 8192, b"x" * 4096)
    image = bytes(disk.now)
    table = int.from_bytes(image[64:72], "big")
    hostile("qcow", image, areas=[(4, 48), (48, 88), (table + 2048, table + 2088)])
