"""cloop: images made here, which qemu-img reads too."""

import random
import zlib
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.cloop import SCRIPT
from exuvia.disk.graph import open_image
from tests.disk.formats.interchange import content, hostile, needs_qemu, qemu, same


def image(model: bytes, block: int) -> bytes:
    """Blocks deflated one by one."""
    packed = [zlib.compress(model[at : at + block].ljust(block, b"\0")) for at in range(0, len(model), block)]
    head = SCRIPT.ljust(128, b"\0") + block.to_bytes(4, "big") + len(packed).to_bytes(4, "big")
    place, offsets = len(head) + 8 * (len(packed) + 1), b""
    for each in [*packed, b""]:
        offsets += place.to_bytes(8, "big")
        place += len(each)
    return head + offsets + b"".join(packed)


@needs_qemu
@pytest.mark.parametrize("block", [512, 65536, 1 << 20])
def test_read(tmp_path: Path, block: int) -> None:
    rng = random.Random(block)
    model = bytes(content(rng, (2 << 20) + block))
    model += bytes(-len(model) % block)
    (tmp_path / "x").write_bytes(image(model, block))
    with open_image(str(tmp_path / "x")) as node:
        assert isinstance(node, Format)
        assert node.name == "cloop"
        same(node, model, rng)
    qemu("qemu-img", "convert", "-f", "cloop", "-O", "raw", tmp_path / "x", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == model


def test_hostile() -> None:
    hostile("cloop", image(bytes(content(random.Random(3), 1 << 19)), 4096), areas=[(128, 400), (2000, 20000)])
