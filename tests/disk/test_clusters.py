"""Compressed clusters are unpacked into place on every processor: any stretch reads as what was written."""

import random
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError
from exuvia.disk.protocols.file import File
from exuvia.disk.vector import Vector

SIZE = (3 << 20) + 512


@pytest.fixture(params=[9, 16, 18])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Format, bytes]:
    """A qcow2 image of compressed clusters, 512 bytes to 256 KiB each, and its content."""
    rng, size = random.Random(3), 1 << request.param
    content = b"".join(rng.randbytes(16) * 32 for _ in range(SIZE // 512))
    kind = FORMATS["qcow2"]
    defaults = {option.name: option.default for option in kind.CREATE}
    with File(str(tmp_path / "image"), writable=True, create=True) as file:
        kind.create(file, SIZE, {**defaults, "cluster_size": size}, None)
    with open_image(str(tmp_path / "image"), "qcow2", writable=True) as image:
        assert image.cluster == size
        for at in range(0, SIZE, size):
            image.write_compressed(at, content[at : at + size])
    return open_image(str(tmp_path / "image"), "qcow2"), content


def test_any_stretch(packed: tuple[Format, bytes]) -> None:
    image, content = packed
    rng = random.Random(4)
    with image:
        for length in (1, 511, 4096, 65536, 70001, 524287, 524288, 524289, 2 << 20, SIZE):
            for at in {0, SIZE - length, rng.randrange(SIZE - length + 1), rng.randrange(SIZE - length + 1) // 65536 * 65536}:
                found, cut = bytearray(length), rng.randrange(length)
                image.readv(at, Vector((memoryview(found)[:cut], memoryview(found)[cut:])))
                assert found == content[at : at + length], (at, length)
        assert image.read(SIZE, 0) == b""


def test_a_broken_cluster_is_an_error_whoever_unpacks_it(packed: tuple[Format, bytes]) -> None:
    image, _ = packed
    assert image.cluster is not None
    for cluster in (0, SIZE // image.cluster // 2, SIZE // image.cluster - 1):
        with File(image.filename, writable=True, locking="off") as file:
            host, most = image.map.compressed(image.map.entries(cluster, 1)[0])  # type: ignore[attr-defined]
            before = file.read(host, most)
            file.write(host, b"\xff" * most)
            with pytest.raises(ImageError, match="does not unpack"):
                image.read(cluster * image.cluster, image.cluster)
            file.write(host, before)
    host, most = image.map.compressed(image.map.entries(0, 1)[0])  # type: ignore[attr-defined]
    with File(image.filename, writable=True, locking="off") as file:
        file.write(host, b"\xff" * most)
    with pytest.raises(ImageError, match="does not unpack"):
        image.read(0, SIZE)
    image.close()
