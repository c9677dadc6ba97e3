"""Encrypted images in turns with qemu-img and qemu-io."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk import objects
from exuvia.disk.format import Format, Snapshot
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError
from exuvia.disk.options import values
from exuvia.disk.protocols.file import File
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import exercise, needs_qemu, qemu

pytest.importorskip("cryptography")

SECRET = ("--object", "secret,id=word,data=open sesame")
KINDS: list[dict[str, Any]] = [
    {"encrypt.format": "luks"},
    {"encrypt.format": "luks", "cluster_size": 512, "encrypt.cipher-mode": "cbc", "encrypt.ivgen-alg": "essiv"},
    {"encrypt.format": "luks", "extended_l2": True, "cluster_size": 16384},
    {"encrypt.format": "luks", "preallocation": "metadata"},
    {"encrypt.format": "aes"},
    {"encrypt.format": "aes", "cluster_size": 4096},
]


@pytest.fixture(autouse=True)
def word() -> Iterator[None]:
    objects.define("secret,id=word,data=open sesame")
    objects.define("secret,id=wrong,data=close sesame")
    yield
    objects.remove("word")
    objects.remove("wrong")


def described(path: Path, given: dict[str, Any], **more: Any) -> str:
    said = f"driver=qcow2,file.filename={path},encrypt.format={given['encrypt.format']},encrypt.key-secret=word"
    return ",".join([said, *(f"{key}={value}" for key, value in more.items())])


def opened(path: Path, writable: bool = False, secret: str = "word") -> Format:
    return open_image(
        {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, "encrypt.key-secret": secret}, writable=writable
    )


def approved(path: Path, given: dict[str, Any], model: bytes | bytearray) -> None:
    raw = path.with_suffix(".raw")
    qemu("qemu-img", "check", *SECRET, "--image-opts", described(path, given))
    qemu("qemu-img", "convert", *SECRET, "--image-opts", "-O", "raw", described(path, given), raw)
    assert raw.read_bytes() == model


@needs_qemu
@pytest.mark.parametrize("given", KINDS, ids=lambda given: ",".join(map(str, given.values())))
@pytest.mark.parametrize("maker", ["theirs", "ours"])
def test_in_turns(tmp_path: Path, given: dict[str, Any], maker: str) -> None:
    rng = random.Random(len(given))
    image, size = tmp_path / "disk.qcow2", (2 << 20) + 512
    given = {**given, "encrypt.key-secret": "word", **({"encrypt.iter-time": 10} if given["encrypt.format"] == "luks" else {})}
    if maker == "theirs":
        options = ",".join(f"{key}={'on' if value is True else value}" for key, value in given.items())
        qemu("qemu-img", "create", *SECRET, "-f", "qcow2", "-o", options, image, size)
        model = bytearray(size)
        if given.get("preallocation"):
            with opened(image, True) as node:  # QEMU's clusters decrypt to anything
                node.write(0, bytes(size))
    else:
        with File(str(image), writable=True, create=True) as file:
            FORMATS["qcow2"].create(file, size, values(FORMATS["qcow2"].CREATE, given, "qcow2"))
        model = bytearray(size)
        approved(image, given, model)
    for _ in range(2):
        with opened(image, True) as node:
            exercise(node, model, rng, 30)
        with opened(image) as node:
            assert node.read(0, size) == model
            assert node.encrypted
            assert node.info()["encrypt"]["format"] == given["encrypt.format"]
        approved(image, given, model)
        at = rng.randrange(0, size - 100_000, 512)
        qemu("qemu-io", *SECRET, "--image-opts", "-c", f"write -P 77 {at} 51200", described(image, given))
        model[at : at + 51200] = b"M" * 51200
    kept = bytes(model)
    with opened(image, True) as node:
        node.create_snapshot(Snapshot("", "kept", 0, 0, 0, 0))
        exercise(node, model, rng, 20)
        assert node.read(0, size) == model
    approved(image, given, model)
    with opened(image, True) as node:
        node.apply_snapshot(node.snapshots()[0])
        assert node.read(0, size) == kept
    assert kept[:4096] not in image.read_bytes() or not any(kept[:4096])


@needs_qemu
def test_secrets_that_are_wrong_or_missing(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    qemu(
        "qemu-img", "create", *SECRET, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=word,encrypt.iter-time=10", image, "1M"
    )
    with open_image(str(image), writable=True) as node:
        assert node.info()["encrypt"]["cipher-alg"] == "aes-256"
        with pytest.raises(ImageError, match=r"Parameter 'encrypt.key-secret' is required for cipher"):
            node.write(0, b"x")
    with pytest.raises(ImageError, match="Invalid password, cannot unlock any keyslot"):
        opened(image, secret="wrong")
    with pytest.raises(UserError, match="key-secret' is required"):
        FORMATS["qcow2"].create(
            File(str(image), writable=True), 1 << 20, values(FORMATS["qcow2"].CREATE, {"encrypt.format": "luks"}, "qcow2")
        )
