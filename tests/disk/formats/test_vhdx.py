"""vhdx against qemu-img, power cuts (which its log must survive), lies, and differencing images made by hand."""

import random
import uuid
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.vhdx.checksum import TABLE, crc32c, seal
from exuvia.disk.formats.vhdx.header import HEADER_ROOM, HEADERS, REGION_ROOM, REGIONS
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import ImageError
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import create, hostile, make, needs_qemu, ours, power_cuts, qemu, theirs
from tests.disk.powercut import PowerCut

SIZES = (512, 1 << 20, (5 << 20) + 1536, 20 << 20)
MIB = 1 << 20


def test_checksum() -> None:
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    crc = 0xFFFFFFFF
    for byte in (data := b"ab" + bytes(999) + b"c" + bytes(64)):
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    assert crc32c(data) == crc ^ 0xFFFFFFFF


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", ["", "subformat=fixed", "block_size=1M", "block_state_zero=off,subformat=fixed"])
def test_theirs(tmp_path: Path, size: int, given: str) -> None:
    theirs("vhdx", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", [{}, {"subformat": "fixed"}, {"block_size": MIB, "log_size": 2 * MIB}, {"block_state_zero": False}])
def test_ours(tmp_path: Path, size: int, given: dict[str, object]) -> None:
    ours("vhdx", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("size", [1 << 30, 33 << 30, 1 << 40, 63 << 40])
def test_sizes(tmp_path: Path, size: int) -> None:
    """The block size is qemu-img's, and tables of many chunks are where it looks for them."""
    qemu("qemu-img", "create", "-q", "-f", "vhdx", tmp_path / "theirs.vhdx", size)
    make("vhdx", tmp_path / "ours.vhdx", size)
    for name in ("theirs.vhdx", "ours.vhdx"):
        qemu("qemu-img", "check", "-q", "-f", "vhdx", tmp_path / name)
    with open_image(str(tmp_path / "theirs.vhdx")) as a, open_image(str(tmp_path / "ours.vhdx"), "vhdx", writable=True) as b:
        assert isinstance(a, Format)
        assert isinstance(b, Format)
        assert (a.size, a.cluster) == (b.size, b.cluster)
        b.write(size - 1000, b"end")
        b.write(size // 2, b"middle")
    qemu("qemu-io", "-f", "vhdx", "-c", f"read -P 0x65 {size - 1000} 1", "-c", f"read -P 0x6d {size // 2} 1", tmp_path / "ours.vhdx")


def test_power_cuts() -> None:
    power_cuts("vhdx", 7 << 20, {"block_size": MIB}, rounds=15)


@needs_qemu
def test_their_log_and_ours(tmp_path: Path) -> None:
    """An image whose power was cut after the log was written: qemu-img refuses to read it before a repair, and repairs it; so do we."""
    disk = PowerCut()
    create("vhdx", disk, 20 << 20)
    disk.flush()
    node = FORMATS["vhdx"](disk, writable=True)
    node.write(9 << 20, b"x" * 512)
    left: list[bytes] = []
    table = node.table.offset  # type: ignore[attr-defined]

    def look() -> None:
        if int.from_bytes(disk.safe[HEADERS[0] + 48 :][:8], "little") or int.from_bytes(disk.safe[HEADERS[1] + 48 :][:8], "little"):
            left.append(bytes(disk.safe))

    disk.before = look
    node.flush()
    cut = next(each for each in left if not any(each[table + 8 + 1 : table + 16]))  # the table is not written yet
    (tmp_path / "a.vhdx").write_bytes(cut)
    (tmp_path / "b.vhdx").write_bytes(cut)
    qemu("qemu-img", "check", "-f", "vhdx", tmp_path / "a.vhdx", status=(1,))
    qemu("qemu-img", "check", "-f", "vhdx", "-r", "all", tmp_path / "a.vhdx")
    with pytest.raises(ImageError, match="contains a log that needs to be replayed"):
        open_image(str(tmp_path / "b.vhdx"))
    open_image(str(tmp_path / "b.vhdx"), writable=True).close()
    for name in ("a.vhdx", "b.vhdx"):
        with open_image(str(tmp_path / name)) as found:
            assert found.read(9 << 20, 513) == b"x" * 512 + b"\0"
        qemu("qemu-io", "-r", "-f", "vhdx", "-c", "read -P 0x78 9M 512", tmp_path / name)


def differencing(folder: Path) -> bytes:
    """A parent of "p", and a child with every third sector of block 1 in "c"; the child's content."""
    make("vhdx", folder / "parent.vhdx", 3 * MIB, {"block_size": MIB})
    with open_image(str(folder / "parent.vhdx"), "vhdx", writable=True) as node:
        node.write(0, b"p" * 3 * MIB)
    disk = PowerCut()
    create("vhdx", disk, 3 * MIB, {"block_size": MIB, "block_state_zero": False})
    image = disk.now
    bat, meta = 2 * MIB, 3 * MIB
    assert image[meta : meta + 8] == b"metadata"
    image[meta + 0x10004] = 2
    count = int.from_bytes(image[meta + 10 : meta + 12], "little")
    pairs = [("parent_linkage", "{}"), ("relative_path", ".\\parent.vhdx")]
    texts = [each.encode("utf-16-le") for pair in pairs for each in pair]
    at, entries = 20 + 12 * len(pairs), b""
    for key, value in zip(texts[::2], texts[1::2]):
        entries += at.to_bytes(4, "little") + (at + len(key)).to_bytes(4, "little")
        entries += len(key).to_bytes(2, "little") + len(value).to_bytes(2, "little")
        at += len(key) + len(value)
    locator = bytes(18) + len(pairs).to_bytes(2, "little") + entries + b"".join(texts)
    item = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le + (0x11000).to_bytes(4, "little")
    image[meta + 32 + 32 * count : meta + 64 + 32 * count] = item + len(locator).to_bytes(4, "little") + (4).to_bytes(8, "little")
    image[meta + 10 : meta + 12] = (count + 1).to_bytes(2, "little")
    image[meta + 0x11000 : meta + 0x11000 + len(locator)] = locator
    ratio = 4096
    image[bat + 8 : bat + 16] = (4 * MIB | 7).to_bytes(8, "little")
    image[bat + 16 : bat + 24] = (2).to_bytes(8, "little")
    image[bat + 8 * ratio : bat + 8 * ratio + 8] = (5 * MIB | 6).to_bytes(8, "little")
    bitmap = bytearray(MIB)
    model = bytearray(b"p" * 2 * MIB + bytes(MIB))
    for sector in range(0, 2048, 3):
        bitmap[256 + sector // 8] |= 1 << sector % 8
        model[MIB + sector * 512 : MIB + sector * 512 + 512] = b"c" * 512
    image += b"c" * MIB + bitmap
    (folder / "child.vhdx").write_bytes(image)
    return bytes(model)


def test_differencing(tmp_path: Path) -> None:
    model = differencing(tmp_path)
    with open_image(str(tmp_path / "child.vhdx")) as node:
        assert node.read(0, node.size) == model
        assert node.read(MIB + 500, 1600) == model[MIB + 500 : MIB + 2100]
    with pytest.raises(UserError, match="differencing VHDX images can only be read"):
        open_image(str(tmp_path / "child.vhdx"), writable=True)


def mend(image: bytearray) -> None:
    """Checksums that are right, so that lies reach what is behind them."""
    for room, places in ((HEADER_ROOM, HEADERS), (REGION_ROOM, REGIONS)):
        for at in places[:1]:
            if len(image) >= at + room:
                image[at : at + room] = seal(image[at : at + room])


@pytest.mark.parametrize("areas", [[(65536, 65536 + 80)], [(196608, 196608 + 80)], [(2 * MIB, 2 * MIB + 64)], [(3 * MIB, 3 * MIB + 200)]])
def test_hostile(areas: list[tuple[int, int]]) -> None:
    disk = PowerCut()
    create("vhdx", disk, 10 << 20)
    with FORMATS["vhdx"](disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(1000))
    disk.now[HEADERS[1] : HEADERS[1] + HEADER_ROOM] = bytes(HEADER_ROOM)
    if areas[0][0] < MIB:
        hostile("vhdx", bytes(disk.now), areas=areas, repair=mend, rounds=100)
    else:
        hostile("vhdx", bytes(disk.now), areas=areas, rounds=100)


def test_hostile_log() -> None:
    disk = PowerCut()
    create("vhdx", disk, 10 << 20)
    node = FORMATS["vhdx"](disk, writable=True)
    node.write(5 << 20, b"x")
    node.flush()
    hostile("vhdx", bytes(disk.now), areas=[(MIB, MIB + 160), (2 * MIB - 16, 2 * MIB)], rounds=100)


def test_hostile_parents(tmp_path: Path) -> None:
    differencing(tmp_path)
    image = (tmp_path / "child.vhdx").read_bytes()
    hostile(
        "vhdx",
        image,
        areas=[(3 * MIB + 0x11000, 3 * MIB + 0x11080), (2 * MIB, 2 * MIB + 24), (2 * MIB + 32768, 2 * MIB + 32776)],
        rounds=100,
    )
