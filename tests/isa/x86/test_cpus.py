"""Processor models and CPUID."""

from __future__ import annotations

import pytest

from exuvia.isa import UnknownName
from exuvia.isa.x86 import load
from exuvia.isa.x86.cpus import FEATURES, MODELS, NEEDS, model
from exuvia.isa.x86.forms import ROWS
from tests.isa.x86.settings import CODE, long_mode


def test_every_feature_of_a_row_has_a_cpuid_bit() -> None:
    load()
    assert {name for row in ROWS for name in str(row.facts.get("feature", "")).split()} <= set(FEATURES)
    assert {*NEEDS, *" ".join(NEEDS.values()).split()} <= set(FEATURES)
    assert len({*FEATURES.values()}) == len(FEATURES)


def test_identification() -> None:
    m = model("qemu64")
    highest, b, c, d = m.cpuid(0, 0)
    assert b"".join(x.to_bytes(4, "little") for x in (b, d, c)) == b"AuthenticAMD"
    assert m.cpuid(highest + 5, 0) == m.cpuid(highest, 0)
    text = b"".join(x.to_bytes(4, "little") for leaf in (2, 3, 4) for x in m.cpuid(0x80000000 + leaf, 0))
    assert text.rstrip(b"\0") == b"Exuvia Virtual CPU version 1.0"
    assert m.cpuid(0x80000008, 0)[0] == 48 << 8 | 40
    assert m.cpuid(1, 0)[0] == 0x60FB1


def test_features_appear_as_asked() -> None:
    assert model("qemu64").cpuid(1, 0)[2] & 1
    assert not model("qemu64", ["-sse3"]).cpuid(1, 0)[2] & 1
    assert model("qemu64", ["+popcnt"]).cpuid(1, 0)[2] >> 23 & 1
    assert model("qemu64", ["popcnt=on"]).features == model("qemu64", ["+popcnt"]).features
    assert "sse2" in model("qemu64", ["+sse4.2"])
    assert "ssse3" in model("qemu64", ["+sse4.2"])
    assert not {"lm", "fsgsbase", "cx16"} & model("max", ["-pae"]).features
    assert "lm" not in model("qemu32")
    assert model("qemu32").cpuid(0x80000001, 0)[3] == 0
    assert not model("max").cpuid(1, 0, apic=False)[3] & 1 << 9
    assert model("max").cpuid(1, 0, osxsave=True)[2] >> 27 & 1
    assert model("max").cpuid(0xD, 0) == (7, 576, 832, 0)
    assert model("max").cpuid(0xD, 0, xcr0=7) == (7, 832, 832, 0)
    assert model("max").cpuid(0xD, 1, xcr0=7)[1] == 832
    assert model("max").cpuid(0xD, 2) == (256, 576, 0, 0)
    assert model("max", ["-avx"]).cpuid(0xD, 0) == (3, 576, 576, 0)
    assert not {"avx2", "fma", "f16c", "vaes"} & model("max", ["-avx"]).features
    assert {"avx", "aes", "xsave"} <= model("qemu64", ["+vaes"]).features
    assert "avx" not in model("qemu64")
    assert model("max", ["-xsave"]).cpuid(0xD, 0) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "features", "text"),
    [
        ("qemu65", [], "unknown processor model 'qemu65'; there are qemu64"), ("max", ["+sse4_3"], "'sse4_3'; did you mean sse4_"),
        ("max", ["+zzzz"], "unknown processor feature 'zzzz'$"), ("max", ["sse3=maybe"], "on or off, not 'maybe'"),
    ],
)  # fmt: skip
def test_unknown_names(name: str, features: list[str], text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        model(name, features)


def test_each_model_numbers_its_processors() -> None:
    for name in MODELS:
        _, b, _, d = model(name).numbered(3, 4).cpuid(1, 0)
        assert (b >> 24, b >> 16 & 0xFF, d >> 28 & 1) == (3, 4, 1)


def test_cpuid_instruction() -> None:
    m = long_mode(3)
    m.gpr[0], m.gpr[1] = 0xFFFF_0000_8000_0000, 0
    m.step(b"\x0f\xa2")
    assert m.gpr[0] == 0x80000008
    assert m.pc == CODE + 2
