"""luks against qemu-img (version 1) and cryptsetup (version 2)."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk import objects
from exuvia.disk.format import Format
from exuvia.disk.formats.luks import keys
from exuvia.disk.formats.luks.version2 import Header
from exuvia.disk.graph import FORMATS, open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import content, create, exercise, hostile, make, needs_qemu, qemu, same
from tests.disk.powercut import PowerCut

pytest.importorskip("cryptography")
SECRET = "secret,id=key,data=open sesame"
CIPHERS: list[dict[str, str]] = [
    {},
    {"cipher-alg": "aes-128", "cipher-mode": "cbc", "ivgen-alg": "essiv", "ivgen-hash-alg": "sha256", "hash-alg": "sha1"},
    {"cipher-mode": "ctr", "ivgen-alg": "plain", "hash-alg": "sha512"},
    {"cipher-mode": "ecb"},
]


@pytest.fixture(autouse=True)
def secret() -> Iterator[None]:
    objects.define(SECRET)
    objects.define("secret,id=wrong,data=close sesame")
    yield
    objects.remove("key")
    objects.remove("wrong")


def described(path: Path, key: str = "key") -> dict[str, object]:
    return {"driver": "luks", "key-secret": key, "file": str(path)}


def theirs_reads(path: Path, model: bytes | bytearray, folder: Path) -> None:
    opts = f"driver=luks,key-secret=key,file.filename={path}"
    qemu("qemu-img", "convert", "--object", SECRET, "--image-opts", opts, "-O", "raw", folder / "back")
    assert (folder / "back").read_bytes() == model


@needs_qemu
@pytest.mark.parametrize("given", CIPHERS)
def test_interchange(tmp_path: Path, given: dict[str, str]) -> None:
    """Theirs read and written here, ours read there, and what `info` says of them."""
    rng = random.Random(len(given))
    model = content(rng, (1 << 20) + 512)
    (tmp_path / "raw").write_bytes(model)
    opts = ",".join(f"{key}={value}" for key, value in {"key-secret": "key", "iter-time": "10", **given}.items())
    if given.get("cipher-mode") != "ecb":  # which QEMU 7.2 refuses, since it wants a vector
        qemu("qemu-img", "convert", "--object", SECRET, "-f", "raw", "-O", "luks", "-o", opts, tmp_path / "raw", tmp_path / "theirs")
        with open_image(described(tmp_path / "theirs"), writable=True) as node:
            assert isinstance(node, Format)
            same(node, model, rng)
            exercise(node, model, rng, 30)
            said = json.loads(qemu("qemu-img", "info", "-U", "--output=json", tmp_path / "theirs"))
            assert node.info() == said["format-specific"]["data"]
        theirs_reads(tmp_path / "theirs", model, tmp_path)
    make("luks", tmp_path / "ours", 1 << 20, {"key-secret": "key", "iter-time": 10, **given})
    with open_image(described(tmp_path / "ours"), writable=True) as node:
        assert isinstance(node, Format)
        node.zero(0, node.size)
        model = bytearray(node.size)
        exercise(node, model, rng, 30)
        same(node, model, rng)
        node.resize(node.size + 1024)
        node.write(node.size - 1024, b"e" * 1024)
    if given.get("cipher-mode") != "ecb":
        theirs_reads(tmp_path / "ours", model + b"e" * 1024, tmp_path)
        theirs, mine = (
            json.loads(qemu("qemu-img", "info", "--output=json", tmp_path / name))["format-specific"]["data"] for name in ("theirs", "ours")
        )
        for each in ("cipher-alg", "cipher-mode", "ivgen-alg", "hash-alg", "payload-offset"):
            assert theirs[each] == mine[each]


@needs_qemu
def test_measure(tmp_path: Path) -> None:
    found = FORMATS["luks"].measure(10 << 20, dict.fromkeys(("cipher-alg", "cipher-mode")), None)
    said = json.loads(
        qemu(
            "qemu-img",
            "measure",
            "--output=json",
            "--object",
            SECRET,
            "-O",
            "luks",
            "-o",
            "key-secret=key,iter-time=50",
            "--size",
            10 << 20,
        )
    )
    assert (found.required, found.fully_allocated) == (said["required"], said["fully-allocated"])


def test_wrong_and_missing_secrets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Parameter 'key-secret' is required for cipher"):
        make("luks", tmp_path / "x", 1 << 20)
    make("luks", tmp_path / "x", 1 << 20, {"key-secret": "key", "iter-time": 10})
    with pytest.raises(UserError, match="x: Invalid password, cannot unlock any keyslot"):
        open_image(described(tmp_path / "x", "wrong"))
    with open_image(str(tmp_path / "x")) as node:
        assert node.size == 1 << 20
        with pytest.raises(UserError, match="x: Parameter 'key-secret' is required for cipher"):
            node.read(0, 1)


def test_splitter() -> None:
    for hash_name in ("sha1", "sha256", "sha512"):
        for length in (16, 32, 64, 50):
            key = bytes(range(length))
            assert keys.merge(keys.split(key, 50, hash_name), length, 50, hash_name) == key


@pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="cryptsetup (Debian: cryptsetup-bin) is not installed")
@pytest.mark.parametrize(
    "given",
    [
        ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"],
        ["--type", "luks2", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "1024", "--pbkdf-parallel", "1"],
        ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", "4096"],
    ],
)
def test_cryptsetup(tmp_path: Path, given: list[str]) -> None:
    """An image that cryptsetup encrypted, and its key as cryptsetup tells it."""
    cryptsetup = ["cryptsetup", "--batch-mode", "--disable-locks", "--key-file", str(tmp_path / "pass")]
    (tmp_path / "pass").write_bytes(b"open sesame")
    model = content(random.Random(1), 1 << 20)
    (tmp_path / "x").write_bytes(model + bytes(32 << 20))
    command = [
        *cryptsetup,
        "reencrypt",
        "--encrypt",
        "--force-offline-reencrypt",
        "--reduce-device-size",
        "32M",
        *given,
        str(tmp_path / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"cryptsetup cannot encrypt a file here: {done.stderr}")
    with open_image(described(tmp_path / "x")) as node:
        assert node.read(0, 1 << 20) == model
    with pytest.raises(UserError, match="Invalid password"):
        open_image(described(tmp_path / "x", "wrong"))


def test_hostile() -> None:
    disk = PowerCut()
    create("luks", disk, 1 << 20, {"key-secret": "key", "iter-time": 1})
    image = bytes(disk.now[: (4040 + 8) * 512])
    hostile("luks", image, areas=[(6, 112), (208, 304), (208, 592)], rounds=300)
    hostile("luks", image, areas=[(100, 112), (160, 168), (208, 256)], rounds=30, options={"key-secret": "key"})


@pytest.mark.parametrize("sector", [512, 4096])
def test_hostile_version_2(sector: int) -> None:
    """A header of version 2 whose numbers lie, with the checksum that belongs to it."""
    said: dict[str, Any] = {
        "keyslots": {
            "0": {
                "type": "luks2",
                "key_size": 64,
                "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
                "area": {"type": "raw", "offset": "32768", "size": "258048", "encryption": "aes-xts-plain64", "key_size": 64},
                "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": "AAAA"},
            }
        },
        "segments": {
            "0": {
                "type": "crypt",
                "offset": "294912",
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": "aes-xts-plain64",
                "sector_size": sector,
            }
        },
        "digests": {
            "0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": 1000,
                "salt": "AA==",
                "digest": "AA==",
            }
        },
        "config": {"json_size": "12288", "keyslots_size": "262144"},
    }
    rng = random.Random(sector)
    opened = 0
    for round_ in range(150):
        lying = json.loads(json.dumps(said))
        if round_:
            place = lying
            while isinstance(place, dict) and place:
                parent, key = place, rng.choice(list(place))
                place = place[key]
            parent[key] = rng.choice(
                ["", "x", "-1", -1, 0, 1, 1 << 64, str(1 << 64), [], {}, None, "aes-xts-essiv:nothing", 4096, True, 1.5]
            )
        text = json.dumps(lying).encode().ljust(12288, b"\0")
        header = Header(b"LUKS\xba\xbe", 2, 16384, 1, b"", b"sha256", bytes(64), b"uuid", b"", 0, b"", b"").pack().ljust(4096, b"\0")
        digest = hashlib.sha256(header + text).digest()
        image = header[:448] + digest.ljust(64, b"\0") + header[512:] + text
        options: dict[str, Any] = {"key-secret": "key"}
        try:
            node = FORMATS["luks"](PowerCut(image + bytes(294912 + 65536 - len(image))), **options)
        except UserError as error:
            opened += "Invalid password" in str(error)
            continue
        node.read(0, node.size)
    assert opened
