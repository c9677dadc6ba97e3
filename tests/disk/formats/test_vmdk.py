"""vmdk against qemu-img, power cuts and lies."""

import random
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest

from exuvia.cli.img.main import run
from exuvia.disk.formats.vmdk import header
from exuvia.disk.formats.vmdk.header import CowdHeader, Marker, SparseHeader
from exuvia.disk.formats.vmdk.sesparse import TABLE_THERE, ConstHeader
from exuvia.disk.formats.vmdk.vmdk import Vmdk
from exuvia.disk.graph import open_image
from exuvia.disk.node import ImageError, Kind, Unsupported
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import content, create, exercise, hostile, make, needs_qemu, ours, power_cuts, qemu, same, theirs
from tests.disk.powercut import PowerCut

SIZES = (512, 1 << 20, (5 << 20) + 1536, 34 << 20)
SUBFORMATS = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")
SINGLE: tuple[dict[str, object], ...] = (
    {},
    {"zeroed_grain": True},
    {"subformat": "streamOptimized"},
    {"subformat": "streamOptimized", "zeroed_grain": True},
)
GIB = 1 << 30


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", [*(f"subformat={each}" for each in SUBFORMATS), "zeroed_grain=on"])
def test_theirs(tmp_path: Path, size: int, given: str) -> None:
    theirs("vmdk", tmp_path, size, given)


@needs_qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", [*({"subformat": each} for each in SUBFORMATS), {"zeroed_grain": True}], ids=str)
def test_ours(tmp_path: Path, size: int, given: dict[str, object]) -> None:
    ours("vmdk", tmp_path, size, given, write=given.get("subformat") != "streamOptimized")


@needs_qemu
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_several_extents(tmp_path: Path, subformat: str) -> None:
    """5 GiB: a write over the end of the first two."""
    image, data = tmp_path / "big.vmdk", random.Random(0).randbytes(300_000)
    make("vmdk", image, 5 * GIB, {"subformat": subformat})
    with open_image(str(image), writable=True) as node:
        for at in (2 * GIB - 100_000, 4 * GIB - 65536 - 512):
            node.write(at, data)
        node.zero(2 * GIB - 512, 1024)
    if subformat != "streamOptimized":
        qemu("qemu-io", "-f", "vmdk", "-c", f"write -P 7 {4 * GIB - 512} 1k", image)
    with open_image(str(image)) as node:
        assert sum(each.length for each in node.extents(0, node.size)) == 5 * GIB
        zeroed = bytearray(data)
        zeroed[100_000 - 512 : 100_000 + 512] = bytes(1024)
        assert node.read(2 * GIB - 100_000, len(data)) == zeroed
        if subformat != "streamOptimized":
            assert node.read(4 * GIB - 1024, 2048).count(7) >= 1024
    raw = tmp_path / "back.raw"
    qemu("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw)
    with raw.open("rb") as file:
        file.seek(2 * GIB - 100_000)
        assert file.read(len(data)) == zeroed


@needs_qemu
@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("size", [0, 1000, 100 << 20, 5 * GIB])
def test_created_alike(tmp_path: Path, subformat: str, size: int) -> None:
    """Every file is the one that qemu-img makes, content IDs aside."""
    given = {"subformat": subformat, "adapter_type": "lsilogic", "hwversion": "9", "toolsversion": "77"}
    make("vmdk", tmp_path / "a.vmdk", size, given)
    mine = {path.name: path for path in tmp_path.iterdir()}
    (tmp_path / "qemu").mkdir()
    qemu("qemu-img", "create", "-f", "vmdk", "-o", ",".join(f"{k}={v}" for k, v in given.items()), tmp_path / "qemu" / "a.vmdk", size)
    for path in (tmp_path / "qemu").iterdir():
        with path.open("rb") as theirs, mine.pop(path.name).open("rb") as ours:
            pair = theirs.read(1 << 20), ours.read(1 << 20)
            if len(pair[0]) > 1000:
                assert theirs.seek(0, 2) == ours.seek(0, 2)
        a, b = (re.sub(rb"\nCID=[0-9a-f]+", b"", each).replace(b"\0", b"") for each in pair)
        assert a == b
    assert not mine


@needs_qemu
def test_info(tmp_path: Path) -> None:
    import json

    for subformat in SUBFORMATS:
        image = tmp_path / f"{subformat}.vmdk"
        make("vmdk", image, 3 * GIB, {"subformat": subformat})
        said = json.loads(qemu("qemu-img", "info", "--output=json", image))
        with open_image(str(image)) as node:
            assert isinstance(node, Vmdk)
            assert node.info() == said["format-specific"]["data"]
            assert node.cluster == said.get("cluster-size")


@pytest.mark.parametrize("given", SINGLE, ids=str)
def test_power_cuts(given: dict[str, object]) -> None:
    power_cuts("vmdk", ((5 if "subformat" in given else 33) << 20) + 512, given, rounds=5)


@pytest.mark.parametrize("given", SINGLE, ids=str)
def test_hostile(given: dict[str, object]) -> None:
    disk = PowerCut()
    create("vmdk", disk, 70 << 20, given)
    with Vmdk(disk, writable=True) as node:
        node.write(5 << 20, random.Random(1).randbytes(100_000))
        node.write(40 << 20, b"a" * 100_000)
    head = SparseHeader.unpack(disk.now)
    tables = [(place * 512, place * 512 + 1100) for place in (head.copy, head.directory)]
    hostile("vmdk", bytes(disk.now), areas=[(4, 80), (512, 900), *tables, (head.overhead * 512, head.overhead * 512 + 64)], rounds=100)


@needs_qemu
def test_parents(tmp_path: Path) -> None:
    rng = random.Random(4)
    for number, subformat in enumerate(("monolithicSparse", "twoGbMaxExtentSparse", "streamOptimized")):
        base, child = tmp_path / f"base{number}.vmdk", tmp_path / f"child{number}.vmdk"
        model = content(rng, 9 << 20)
        raw = tmp_path / "model.raw"
        raw.write_bytes(model)
        qemu("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, base)
        make("vmdk", child, 9 << 20, {"subformat": subformat, "backing_file": base.name, "zeroed_grain": bool(number % 2)})
        with open_image(str(child), writable=True) as node:
            same(node, model, rng)
            exercise(node, model, rng, 30)
        with open_image(str(child)) as node:
            same(node, model, rng)
            assert (node.backing_file, node.backing_format) == (base.name, "vmdk")
        qemu("qemu-img", "check", child)
        qemu("qemu-img", "convert", "-O", "raw", child, raw)
        assert raw.read_bytes() == model


def test_a_parent_that_changed_is_refused(tmp_path: Path) -> None:
    make("vmdk", tmp_path / "base.vmdk", 1 << 20)
    make("vmdk", tmp_path / "child.vmdk", 1 << 20, {"backing_file": "base.vmdk"})
    with open_image(str(tmp_path / "child.vmdk")) as node:
        assert node.read(0, 512) == bytes(512)
    with open_image(str(tmp_path / "base.vmdk"), writable=True) as node:
        node.write(0, b"new")
    with open_image(str(tmp_path / "child.vmdk")) as node, pytest.raises(ImageError, match=r"child.vmdk: .*base.vmdk was changed since"):
        node.read(0, 512)


def test_a_missing_extent_is_named(tmp_path: Path) -> None:
    make("vmdk", tmp_path / "disk.vmdk", 5 * GIB, {"subformat": "twoGbMaxExtentSparse"})
    (tmp_path / "disk-s002.vmdk").unlink()
    with pytest.raises(ImageError, match=r"disk.vmdk: extent 2 of 3 is missing: disk-s002.vmdk$"):
        open_image(str(tmp_path / "disk.vmdk"))
    with pytest.raises(ImageError, match="one extent of an image"):
        open_image(str(tmp_path / "disk-s001.vmdk"))


def test_a_short_flat_extent_is_refused(tmp_path: Path) -> None:
    make("vmdk", tmp_path / "disk.vmdk", 1 << 20, {"subformat": "monolithicFlat"})
    with (tmp_path / "disk-flat.vmdk").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ImageError, match=r"disk.vmdk: extent 1 of 1: .*disk-flat.vmdk has 1000 bytes, 1048576 are needed"):
        open_image(str(tmp_path / "disk.vmdk"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"adapter_type": "scsi"}, "Unknown adapter type: scsi"),
        ({"compat6": True, "hwversion": "5"}, "compat6 cannot be enabled with hwversion set"),
        ({"subformat": "monolithicFlat", "zeroed_grain": True}, "Flat image can't enable zeroed grain"),
        ({"subformat": "monolithicFlat", "backing_file": "x"}, "Flat image can't have backing file"),
        ({"toolsversion": 'a"b'}, "option toolsversion cannot have quotes"),
        ({"backing_file": "raw.img"}, "backing_file must be a vmdk image"),
        ({"backing_file": "nowhere"}, "Could not open '.*nowhere'"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, given: dict[str, object], text: str) -> None:
    (tmp_path / "raw.img").write_bytes(bytes(512))
    with pytest.raises(UserError, match=text):
        make("vmdk", tmp_path / "x.vmdk", 1 << 20, given)


def stream_with_footer(size: int = 1 << 20) -> bytes:
    """A stream as VMware writes it: the directory at the end, tables only where there are grains."""
    import zlib

    text = b'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="streamOptimized"\n'
    text += b'RW %d SPARSE "call-me-stream.vmdk"\n' % (size // 512)
    head = SparseHeader(version=3, flags=0x30001, capacity=size // 512, copy=0, directory=header.AT_END, overhead=128, compression=1)
    out = bytearray(head.pack().ljust(512, b"\0") + text.ljust(20 * 512, b"\0")).ljust(128 * 512, b"\0")

    def add(data: bytes) -> int:
        place = len(out) // 512
        out.extend(data.ljust(-(-len(data) // 512) * 512, b"\0"))
        return place

    def mark(sectors: int, kind: int) -> None:
        add(Marker(sectors, 0, kind).pack())

    table = [0] * 512
    for grain in (0, 3, 4):
        packed = zlib.compress(bytes([grain + 1]) * 65536)
        table[grain] = add(struct.pack("<QI", grain * 128, len(packed)) + packed)
    mark(4, 1)
    place = add(struct.pack("<512I", *table))
    mark(1, 2)
    head.directory = add(struct.pack("<I", place))
    mark(1, header.FOOTER)
    add(head.pack())
    mark(0, header.END_OF_STREAM)
    return bytes(out)


@needs_qemu
def test_a_stream_with_a_footer(tmp_path: Path) -> None:
    image, raw = tmp_path / "call-me-stream.vmdk", tmp_path / "back.raw"
    image.write_bytes(stream_with_footer())
    model = bytearray(1 << 20)
    for grain in (0, 3, 4):
        model[grain * 65536 : grain * 65536 + 65536] = bytes([grain + 1]) * 65536
    for _ in range(2):
        qemu("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw)
        assert raw.read_bytes() == model
        with open_image(str(image), writable=True) as node:
            same(node, model, random.Random(1))
            exercise(node, model, random.Random(2), 20)


def test_a_stream_cut_off_is_refused() -> None:
    whole = stream_with_footer()
    for length in range(0, len(whole), 512):
        with pytest.raises(ImageError):
            Vmdk(PowerCut(whole[:length]))


def test_a_stream_that_we_wrote_ends_with_a_footer() -> None:
    disk = PowerCut()
    create("vmdk", disk, 1 << 20, {"subformat": "streamOptimized"})
    with Vmdk(disk, writable=True) as node:
        assert node.compresses
        node.write_compressed(65536, b"a" * 65536)
        assert [each.kind for each in node.extents(0, 1 << 20)] == [Kind.ABSENT, Kind.COMPRESSED, Kind.ABSENT]
    tail = bytes(disk.now[-1536:])
    assert (Marker.unpack(tail).kind, SparseHeader.unpack(tail, 512).magic, Marker.unpack(tail, 1024)) == (3, b"KDMV", Marker(0, 0, 0))
    # With a header that says so, the footer is what is used.
    disk.write(56, header.AT_END.to_bytes(8, "little"))
    assert Vmdk(disk).read(65536, 65536) == b"a" * 65536


def test_only_streams_are_compressed(tmp_path: Path) -> None:
    disk = PowerCut()
    create("vmdk", disk, 1 << 20)
    with Vmdk(disk, writable=True) as node:
        assert not node.compresses
        node.write_compressed(65536, b"a" * 65536)
        assert [each.kind for each in node.extents(0, 131072)] == [Kind.ABSENT, Kind.DATA]
    make("vmdk", tmp_path / "flat.vmdk", 1 << 20, {"subformat": "monolithicFlat"})
    with open_image(str(tmp_path / "flat.vmdk"), writable=True) as flat, pytest.raises(Unsupported, match="Compression not supported"):
        flat.write_compressed(0, bytes(65536))


@pytest.mark.parametrize("zeroed", [False, True])
def test_zeroing_gives_room_up(zeroed: bool) -> None:
    disk = PowerCut()
    create("vmdk", disk, 1 << 20, {"zeroed_grain": zeroed})
    with Vmdk(disk, writable=True) as node:
        node.write(0, b"a" * 200_000)
        node.zero(65536, 65536)
        kinds = [each.kind for each in node.extents(0, 196608)]
        assert kinds == [Kind.DATA, Kind.ZERO if zeroed else Kind.ABSENT, Kind.DATA]
        assert node.read(0, 200_000) == b"a" * 65536 + bytes(65536) + b"a" * (200_000 - 131072)


def test_check_finds_grains_past_the_end() -> None:
    disk = PowerCut()
    create("vmdk", disk, 40 << 20)
    head = SparseHeader.unpack(disk.now)
    table = struct.unpack_from("<I", disk.now, head.directory * 512 + 4)[0] * 512
    disk.write(table + 4 * 3, (10_000_000).to_bytes(4, "little"))
    node = Vmdk(disk)
    found = node.check()
    assert (found.corruptions, found.messages) == (1, [f"ERROR: cluster offset for sector {515 * 128} points after EOF"])
    with pytest.raises(ImageError, match="lies past the file's end"):
        node.read(515 << 16, 512)


@needs_qemu
def test_esx_sparse_extents(tmp_path: Path) -> None:
    """vmfsSparse (COWD) and seSparse, as qemu-img reads them too."""
    size = 48 << 20
    grains = {1: b"b", 2: b"c", 700: b"d"}
    model = bytearray(size)
    cowd = bytearray(CowdHeader(capacity=size // 512, grain=128, directory=4, entries=1, free=0).pack().ljust(3 * 65536, b"\0"))
    struct.pack_into("<I", cowd, 2048, 16)
    se_head = ConstHeader(
        capacity=size // 512, volatile=1, volatile_size=1, journal_header=2, journal_header_size=2, journal=4, journal_size=2,
        directory=6, directory_size=1, tables=8, tables_size=64 * 4, free_bitmap=264, free_bitmap_size=8, backmap=272,
        backmap_size=8, grains=512, grains_size=8 * 4096,
    )  # fmt: skip
    sparse = bytearray(se_head.pack().ljust((512 + 8 * 20) * 512, b"\0"))
    sparse[512:520] = (0xCAFECAFE).to_bytes(8, "little")
    for number in range(4):
        struct.pack_into("<Q", sparse, 6 * 512 + number * 8, TABLE_THERE | number)
    for number, (grain, letter) in enumerate(grains.items(), 1):
        model[grain << 16 : grain + 1 << 16] = letter * 65536
        struct.pack_into("<I", cowd, 16 * 512 + grain * 4, len(cowd) // 512)
        cowd += letter * 65536
        for part in range(16):
            index = grain * 16 + part
            place = (8 + 64 * (index // 4096)) * 512 + index % 4096 * 8
            at = number * 16 + part
            struct.pack_into("<Q", sparse, place, 3 << 60 | (at & 0xFFF) << 48 | at >> 12)
        sparse.extend(bytes(max(0, 512 * 512 + (number + 1) * 65536 - len(sparse))))
        sparse[512 * 512 + number * 65536 : 512 * 512 + (number + 1) * 65536] = letter * 65536
    struct.pack_into("<Q", sparse, 8 * 512 + 5 * 8, 2 << 60)
    for kind, line, data in (("vmfsSparse", "VMFSSPARSE", cowd), ("seSparse", "SESPARSE", sparse)):
        (tmp_path / f"{kind}-delta.vmdk").write_bytes(data)
        image = tmp_path / f"{kind}.vmdk"
        image.write_text(
            f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="{kind}"\n'
            f'RW {size // 512} {line} "{kind}-delta.vmdk"\n'
        )
        raw = tmp_path / "back.raw"
        qemu("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw)
        assert raw.read_bytes() == model
        with open_image(str(image)) as node:
            same(node, model, random.Random(0))
        with pytest.raises(ImageError, match="can only be read"):
            open_image(str(image), writable=True)
        qemu("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, raw)
        for seed in range(15):
            rng = random.Random(seed)
            bad = bytearray(data)
            at = rng.choice((rng.randrange(256), 512 + rng.randrange(32), 2048 + rng.randrange(8), 3072 + rng.randrange(32)))
            bad[at] ^= 1 << rng.randrange(8)
            (tmp_path / f"{kind}-delta.vmdk").write_bytes(bad)
            try:
                with open_image(str(image)) as node:
                    node.read(0, size)
            except ImageError:
                pass
        (tmp_path / f"{kind}-delta.vmdk").write_bytes(data)


def test_a_descriptor_by_hand(tmp_path: Path) -> None:
    """A window of a flat file, a hole, a read-only extent; wrong ones give one line."""
    (tmp_path / "a.bin").write_bytes(b"-" * 512 + b"a" * 1024)
    (tmp_path / "b.bin").write_bytes(b"b" * 512)
    image = tmp_path / "x.vmdk"
    text = 'version=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n'
    image.write_text(text + 'RW 2 FLAT "a.bin" 1\nRW 3 ZERO\nRDONLY 1 FLAT "b.bin" 0\n')
    with open_image(str(image)) as node:
        assert node.read(0, node.size) == b"a" * 1024 + bytes(1536) + b"b" * 512
        assert [each.kind for each in node.extents(500, 2000)] == [Kind.DATA, Kind.ZERO]
    with pytest.raises(ImageError, match="extent 3 of 3 is RDONLY"):
        open_image(str(image), writable=True)
    for lines, wrong in (
        ('RW 1 FANCY "a.bin"', "extent 1 of 1 is of unsupported type FANCY"),
        ("RW 1 FLAT", "unsupported type FLAT"),
        ('RW 99999999999999999 FLAT "a.bin" 0', "extent 1 of 1"),
        ('NOACCESS 1 FLAT "a.bin" 0', "NOACCESS"),
        ('RW 1 SPARSE "a.bin"', "extent 1 of 1: .*a.bin: Image not in VMDK format"),
        ('RW 1 FLAT "." 0', "extent 1 of 1 cannot be opened: .*Is a directory"),
    ):
        image.write_text(text + lines + "\n")
        with pytest.raises(ImageError, match=wrong):
            open_image(str(image))
    image.write_text(text.replace("custom", "fancy"))
    with pytest.raises(ImageError, match="Unsupported image type 'fancy'"):
        open_image(str(image))
    image.write_text('version=1\ncreateType="custom"\n')
    with pytest.raises(ImageError, match="it has no CID"):
        open_image(str(image))


@needs_qemu
def test_commands_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the commands print, content IDs and sizes on the disk aside."""
    (tmp_path / "r.raw").write_bytes(content(random.Random(3), 3 << 20))
    (tmp_path / "qemu").mkdir()
    (tmp_path / "ours").mkdir()
    for line in (
        "create -f vmdk a.vmdk 5G",
        "create -f vmdk -o subformat=twoGbMaxExtentSparse,adapter_type=lsilogic,zeroed_grain=on b.vmdk 5G",
        "create -f vmdk -b a.vmdk -F vmdk c.vmdk",
        "create -f vmdk -o help",
        "info b.vmdk",
        "info --backing-chain c.vmdk",
        "info --output=json c.vmdk",
        "check --output=json a.vmdk",
        "convert -O vmdk -o subformat=streamOptimized ../r.raw s.vmdk",
        "info s.vmdk",
        "map s.vmdk",
        "map --output=json s.vmdk",
        "convert -c -O vmdk -o subformat=monolithicFlat ../r.raw f.vmdk",
        "convert -c -O vmdk ../r.raw m.vmdk",
        "map --output=json m.vmdk",
        "compare m.vmdk s.vmdk",
    ):
        monkeypatch.chdir(tmp_path / "qemu")
        done = subprocess.run(["qemu-img", *line.split()], capture_output=True, text=True, timeout=60)
        monkeypatch.chdir(tmp_path / "ours")
        try:
            status = run(line.split())
        except UserError:
            status = 1
        printed = [re.sub(r"(cid\W+|disk size: |actual-size\W+).*", r"\1", text) for text in (capsys.readouterr().out, done.stdout)]
        assert (status, printed[0]) == (done.returncode, printed[1]), line


@pytest.mark.parametrize(
    "filler", [" " * 900_000, "\n" * 900_000, "a=" + " " * 900_000 + "x\n", "RW " + " " * 900_000 + "x\n", "\n \t" * 300_000]
)
def test_long_descriptors_are_read_at_once(tmp_path: Path, filler: str) -> None:
    image = tmp_path / "x.vmdk"
    image.write_text(f'version=1\nparentCID=ffffffff\ncreateType="custom"\n{filler}\n CID = 12 \nRW 3 FLAT "a.bin" 0\n')
    (tmp_path / "a.bin").write_bytes(bytes(1536))
    began = time.monotonic()
    with open_image(str(image), writable=True) as node:
        node.write(0, b"x")
    with open_image(str(image)) as node:
        assert isinstance(node, Vmdk)
        assert node.descriptor.cid != 0x12
    assert time.monotonic() - began < 10
