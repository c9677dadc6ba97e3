"""bochs: growing images of both versions, made here, which qemu-img reads too."""

import random
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.bochs import V1, Header
from exuvia.disk.graph import open_image
from tests.disk.formats.interchange import content, hostile, needs_qemu, qemu, same


def image(model: bytes, extent: int, version: int, rng: random.Random) -> bytes:
    """Extents in random order; sectors of zeros are not there, and what stands in their place is never read."""
    extents = [model[at : at + extent] for at in range(0, len(model), extent)]
    order = [index for index, data in enumerate(extents) if any(data)]
    rng.shuffle(order)
    catalog = [0xFFFFFFFF] * (len(extents) + 3)
    size = max(extent // 512 // 8, 1)
    body = b""
    for number, index in enumerate(order):
        catalog[index] = number
        bits, data = bytearray(size + -size % 512), b""
        for sector in range(extent // 512):
            content_ = extents[index][sector * 512 : sector * 512 + 512].ljust(512, b"\0")
            if any(content_):
                bits[sector // 8] |= 1 << sector % 8
            data += content_ if any(content_) else b"?" * 512
        body += bytes(bits) + data
    header = Header(version=version, catalog=len(catalog), bitmap=size, extent=extent, disk=len(model))
    head = header.pack()
    if version == V1:
        head = head[:84] + head[88:]
    return head.ljust(512, b"\0") + b"".join(each.to_bytes(4, "little") for each in catalog) + body


@needs_qemu
@pytest.mark.parametrize("version", [0x10000, 0x20000])
@pytest.mark.parametrize("extent", [512, 4096, 65536])
def test_read(tmp_path: Path, version: int, extent: int) -> None:
    rng = random.Random(extent)
    model = bytes(content(rng, 1 << 20))
    (tmp_path / "x").write_bytes(image(model, extent, version, rng))
    with open_image(str(tmp_path / "x")) as node:
        assert isinstance(node, Format)
        assert node.name == "bochs"
        same(node, model, rng)
    qemu("qemu-img", "convert", "-f", "bochs", "-O", "raw", tmp_path / "x", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == model


def test_hostile() -> None:
    rng = random.Random(3)
    hostile("bochs", image(bytes(content(rng, 1 << 18)), 4096, 0x20000, rng), areas=[(0, 100), (512, 800)])
