"""dmg: images of every kind of run, made here; qemu-img reads those that it knows."""

import bz2
import lzma
import plistlib
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.formats.dmg import adc
from exuvia.disk.formats.dmg.blocks import ADC, BZIP2, END, IGNORE, LZFSE, LZMA, RAW, ZERO, ZLIB, Run, Table, Trailer
from exuvia.disk.graph import FORMATS, open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import content, hostile, needs_qemu, qemu, same
from tests.disk.powercut import PowerCut


def literals(data: bytes) -> bytes:
    """ADC without a copy."""
    return b"".join(bytes([0x80 | len(data[at : at + 128]) - 1]) + data[at : at + 128] for at in range(0, len(data), 128))


PACK: dict[int, Callable[[bytes], bytes]] = {
    ZLIB: zlib.compress,
    BZIP2: bz2.compress,
    LZMA: lzma.compress,
    ADC: literals,
    RAW: bytes,
    LZFSE: bytes,
}


def image(model: bytes, kinds: list[int], forked: bool = False) -> bytes:
    """Chunks of 64 KiB in two tables, of these kinds in turn where they are not zeros."""
    body, tables = bytearray(b"begin---"), []
    half = len(model) // 2 // 65536 * 65536
    for first, last in ((0, half), (half, len(model))):
        runs = b""
        count = 0
        for at in range(first, last, 65536):
            data = model[at : min(at + 65536, last)]
            kind = kinds[at // 65536 % len(kinds)] if any(data) else ZERO if at % 131072 else IGNORE
            packed = b"" if kind in (ZERO, IGNORE) else PACK[kind](data)
            runs += Run(kind, 0, (at - first) // 512, len(data) // 512, len(body), len(packed)).pack()
            body += packed
            count += 1
        runs += Run(END, 0, (last - first) // 512, 0, len(body), 0).pack()
        tables.append(Table(first=first // 512, sectors=(last - first) // 512, runs=count + 1).pack() + runs)
    trailer = Trailer(data_length=len(body), sectors=len(model) // 512)
    if forked:
        data = b"".join(len(each).to_bytes(4, "big") + each for each in tables)
        fork = (256).to_bytes(4, "big") + (256 + len(data)).to_bytes(4, "big") + len(data).to_bytes(4, "big") + bytes(244) + data
        trailer.fork_offset, trailer.fork_length = len(body), len(fork)
        return bytes(body) + fork + trailer.pack()
    said = plistlib.dumps({"resource-fork": {"blkx": [{"Attributes": "0x0050", "Data": each, "ID": "0", "Name": "x"} for each in tables]}})
    trailer.list_offset, trailer.list_length = len(body), len(said)
    return bytes(body) + said + trailer.pack()


@pytest.mark.parametrize("kinds", [[ZLIB], [RAW], [ZLIB, RAW, BZIP2], [LZMA], [ADC, ZLIB]])
@pytest.mark.parametrize("forked", [False, True])
def test_runs(tmp_path: Path, kinds: list[int], forked: bool) -> None:
    rng = random.Random(1)
    model = bytes(content(rng, (1 << 20) + 1024))
    (tmp_path / "x.dmg").write_bytes(image(model, kinds, forked))
    with open_image(str(tmp_path / "x.dmg")) as node:
        assert isinstance(node, Format)
        assert node.name == "dmg"
        same(node, model, rng)


@needs_qemu
@pytest.mark.parametrize("forked", [False, True])
def test_qemu_reads_the_same(tmp_path: Path, forked: bool) -> None:
    """That the images made here are what others take for UDIF."""
    model = bytes(content(random.Random(2), 1 << 20))
    (tmp_path / "x.dmg").write_bytes(image(model, [ZLIB, RAW], forked))
    qemu("qemu-img", "convert", "-O", "raw", tmp_path / "x.dmg", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == model


def test_adc() -> None:
    """Literal run, short copy, long copy; copies may overlap what they make."""
    assert adc.unpack(b"\x80a" + b"\x3c\x00", 100) == b"a" * 19
    assert adc.unpack(b"\x81ab" + b"\x7f\x00\x01", 100) == b"ab" + b"ab" * 33 + b"a"
    with pytest.raises(ValueError, match="before the beginning"):
        adc.unpack(b"\x80a\x00\x05", 100)


def test_lzfse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.dmg").write_bytes(image(b"x" * 65536, [LZFSE]))
    with open_image(str(tmp_path / "x.dmg")) as node, pytest.raises(UserError, match="x.dmg: the run at byte 0 .* LZFSE"):
        node.read(0, 1)


def test_not_one(tmp_path: Path) -> None:
    (tmp_path / "x.dmg").write_bytes(bytes(1000))
    with pytest.raises(UserError, match="Could not locate UDIF trailer"):
        open_image(str(tmp_path / "x.dmg"))
    with pytest.raises(UserError):
        FORMATS["dmg"](PowerCut(b""))


def test_hostile() -> None:
    model = bytes(content(random.Random(3), 1 << 19))
    made = image(model, [ZLIB, BZIP2, LZMA, ADC, RAW], True)
    fork = made.index(b"mish")
    hostile("dmg", made, areas=[(fork - 260, fork + 600), (len(made) - 512, len(made) - 250), (len(made) - 24, len(made)), (8, fork)])
    made = image(model, [ZLIB])
    listed = made.index(b"<?xml")
    hostile("dmg", made, areas=[(listed, len(made) - 512)])
