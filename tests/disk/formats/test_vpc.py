"""vpc (VHD) against qemu-img, power cuts and lies; differencing images, which qemu-img cannot make, by hand."""

import random
import subprocess
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.vpc import DIFFERENCING, DynamicHeader, Footer, Locator, covering, signed
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import create, hostile, make, needs_qemu, ours, power_cuts, qemu, theirs
from tests.disk.powercut import PowerCut

SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)


def rounded(size: int) -> int:
    cylinders, heads, track = covering(-(-size // 512))
    return cylinders * heads * track * 512


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("force", [False, True])
def test_theirs(tmp_path: Path, size: int, force: bool) -> None:
    theirs("vpc", tmp_path, size, f"force_size={'on' if force else 'off'}", None if force else rounded(size))


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("force", [False, True])
def test_ours(tmp_path: Path, size: int, subformat: str, force: bool) -> None:
    ours("vpc", tmp_path, size, {"subformat": subformat, "force_size": force}, None if force else rounded(size))


@needs_qemu
@pytest.mark.parametrize("size", [512, 1 << 20, 3 << 30, 127 << 30, 128 << 30, 130 << 30, 2040 << 30])
def test_sizes(tmp_path: Path, size: int) -> None:
    """The rounded size is qemu-img's, up to the limit."""
    qemu("qemu-img", "create", "-q", "-f", "vpc", tmp_path / "theirs.vpc", size)
    make("vpc", tmp_path / "ours.vpc", size)
    with open_image(str(tmp_path / "theirs.vpc")) as a, open_image(str(tmp_path / "ours.vpc")) as b:
        assert a.size == b.size
    assert (tmp_path / "ours.vpc").stat().st_size == (tmp_path / "theirs.vpc").stat().st_size


def test_too_large(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too large for file format 'vpc'"):
        make("vpc", tmp_path / "x.vpc", (2040 << 30) + 1)


def test_power_cuts() -> None:
    power_cuts("vpc", 9 << 20, {"force_size": True})


def test_a_damaged_copy_of_the_footer() -> None:
    disk = PowerCut()
    create("vpc", disk, 1 << 20)
    disk.write(48, b"\1")
    assert FORMATS["vpc"](disk).size == 1079296
    disk.write(len(disk.now) - 512 + 48, b"\1")
    with pytest.raises(ImageError, match="Incorrect header checksum"):
        FORMATS["vpc"](disk)


def differencing(folder: Path, name: str) -> bytes:
    """A parent of "p", and a child whose second block has "c" in every third sector; the child's content."""
    make("vpc", folder / name, 6 << 20, {"force_size": True})
    with open_image(str(folder / name), "vpc", writable=True) as node:
        node.write(0, b"p" * (6 << 20))
    make("vpc", folder / "child.vhd", 6 << 20, {"force_size": True})
    image = bytearray((folder / "child.vhd").read_bytes())
    footer, header = Footer.unpack(image), DynamicHeader.unpack(image, 512)
    footer.kind = DIFFERENCING
    text = f".\\{name}".encode("utf-16-le")
    header.locators = Locator(b"W2ru", 512, len(text), 0, 2048).pack()
    del image[2048:]
    image[:1536] = signed(footer) + signed(header)
    image[1536 + 4 : 1536 + 8] = (5).to_bytes(4, "big")
    image += text.ljust(512, b"\0")
    bits = "100" * 1366
    image += int(bits[:4096], 2).to_bytes(512, "big") + b"c" * (2 << 20) + signed(footer)
    (folder / "child.vhd").write_bytes(image)
    model = bytearray(b"p" * (6 << 20))
    for sector in range(0, 4096, 3):
        model[(2 << 20) + sector * 512 : (2 << 20) + sector * 512 + 512] = b"c" * 512
    return bytes(model)


def test_differencing(tmp_path: Path) -> None:
    model = differencing(tmp_path, "parent disk.vhd")
    with open_image(str(tmp_path / "child.vhd")) as node:
        assert isinstance(node, Format)
        assert node.backing_file == "parent disk.vhd"
        assert node.read(0, node.size) == model
        assert node.read((2 << 20) + 500, 1600) == model[(2 << 20) + 500 : (2 << 20) + 2100]
    with pytest.raises(UserError, match="differencing VHD images can only be read"):
        open_image(str(tmp_path / "child.vhd"), writable=True)
    (tmp_path / "parent disk.vhd").unlink()
    with pytest.raises(UserError, match="child.vhd: Could not open backing file"):
        open_image(str(tmp_path / "child.vhd"))


@needs_qemu
def test_gaps_in_a_bitmap_are_closed(tmp_path: Path) -> None:
    """A block whose bitmap another program left half set: what we write there must count for that program."""
    image = tmp_path / "gaps.vhd"
    make("vpc", image, 4 << 20)
    with open_image(str(image), "vpc", writable=True) as node:
        node.write(0, b"x")
    content = bytearray(image.read_bytes())
    at = int.from_bytes(content[1536:1540], "big") * 512
    content[at : at + 512] = b"\x80" + bytes(511)
    image.write_bytes(content)
    with open_image(str(image), "vpc", writable=True) as node:
        node.write(1 << 20, b"y")
    assert image.read_bytes()[at : at + 512] == b"\xff" * 512
    assert subprocess.run(["qemu-io", "-r", "-f", "vpc", "-c", "read -P 0x79 1M 1", str(image)], capture_output=True).returncode == 0


def repair(image: bytearray) -> None:
    """Checksums that are right, so that lies reach the tables."""
    for structure, at in ((Footer.unpack(image), 0), (DynamicHeader.unpack(image, 512), 512)):
        image[at : at + structure.SIZE] = signed(structure)


@pytest.mark.parametrize("mend", [True, False])
def test_hostile(mend: bool) -> None:
    disk = PowerCut()
    create("vpc", disk, 10 << 20)
    with FORMATS["vpc"](disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(1000))
    hostile("vpc", bytes(disk.now), areas=[(0, 64), (512, 576), (1536, 1560)], repair=repair if mend else None)


def test_hostile_parents(tmp_path: Path) -> None:
    differencing(tmp_path, "parent.vhd")
    hostile(
        "vpc", (tmp_path / "child.vhd").read_bytes(), areas=[(512, 576), (512 + 576, 512 + 608), (1536, 3072)], repair=repair, rounds=150
    )
