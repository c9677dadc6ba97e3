"""Deflate, with isal and libdeflate, and with zlib alone."""

import random
import sys
import zlib

import pytest

from exuvia.support import deflate

TEXT = b"".join(b"%d bottles of beer, " % (number * number % 997) for number in range(4000))


@pytest.fixture(params=["installed", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "library", zlib)
        monkeypatch.setitem(sys.modules, "deflate", None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("window", [15, 12, 9, -9, -12, -15])
def test_what_was_packed_comes_back(window: int) -> None:
    packer = zlib.compressobj(-1, zlib.DEFLATED, window, 9)
    packed = packer.compress(TEXT) + packer.flush()
    wanted = deflate.RAW if window < 0 else 15
    assert deflate.unpack(packed, len(TEXT), wanted) == TEXT
    assert deflate.unpack(packed + b"something behind it" * 40, len(TEXT), wanted) == TEXT
    assert deflate.unpack(packed, 1000, wanted) == TEXT[:1000]
    assert TEXT.startswith(deflate.unpack(packed[: len(packed) // 2], len(TEXT), wanted))
    assert deflate.unpack(packed, 2 * len(TEXT), wanted) == TEXT


@pytest.mark.usefixtures("library")
def test_damage_is_told_or_bounded() -> None:
    with pytest.raises(ValueError):
        deflate.unpack(b"\xff" * 64, 4096)
    packed, rng, told = zlib.compress(TEXT), random.Random(5), 0
    for _ in range(300):
        damaged = bytearray(packed)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            assert len(deflate.unpack(bytes(damaged), 4096)) <= 4096
        except ValueError:
            told += 1
    assert told


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("raw", [True, False])
def test_what_is_packed_is_deflate(raw: bool) -> None:
    pack = deflate.packer(raw)
    for data in (b"", b"a", TEXT, memoryview(bytearray(TEXT))[1:], random.Random(1).randbytes(70000)):
        assert zlib.decompress(pack(data), -15 if raw else 15) == data
    assert len(pack(TEXT)) <= len(zlib.compress(TEXT)) * 1.02
