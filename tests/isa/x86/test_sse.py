"""MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA, AVX and FMA against the host's processor: what random operands do not reach by themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest

from exuvia.dsl.trace import FUNCTIONS
from exuvia.isa.x86 import load
from exuvia.isa.x86.forms import ROWS, Row
from exuvia.vcpu.evaluate import call
from tests.dsl.compiled import compiled
from tests.isa.x86.cases import difference, run_reference, suitable
from tests.oracle.case import Case
from tests.oracle.freedoms import APPROXIMATE
from tests.oracle.generate import Generated, Generator
from tests.oracle.hostcpu import HostCpu, why_not

load()
MINE = [row for row in ROWS if {"sse", "mmx", "avx"} & set(row.facts)]
FLOAT = [r for r in MINE if r.name.rstrip("0123456789")[-2:] in ("ss", "sd", "ps", "pd") or r.name.startswith(("cvt", "vcvt"))]
MXCSR_AT = 24
on_x86 = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    with HostCpu() as cpu:
        yield cpu


def with_mxcsr(g: Generated, value: int) -> Generated:
    """The same case under another control word."""
    image = bytearray(g.case.fxsave)
    struct.pack_into("<I", image, MXCSR_AT, value)
    return replace(g, case=replace(g.case, fxsave=bytes(image)))


def disagreements(host: HostCpu, cases: list[Generated]) -> list[str]:
    """Cases on which the host's processor and the reference engine differ."""
    found = []
    for g, want in zip(cases, host.run_many([g.case for g in cases])):
        if (d := difference(g, want, run_reference(g.case))) is not None:
            found.append(f"{g.row} {g.case.code.hex()} mxcsr {g.case.fxsave[MXCSR_AT : MXCSR_AT + 2][::-1].hex()}: {d}")
    return found


def rows(host: HostCpu, among: list[Row]) -> list[Row]:
    known = {r.id for r in suitable(host.features())}
    return [r for r in among if r.id in known]


@on_x86
def test_unmasked_exceptions(host: HostCpu) -> None:
    """#XM leaves all but MXCSR's flags as they were."""
    random, maker = Random(22), Generator(22)
    cases = []
    for row in rows(host, FLOAT):
        for g in maker.cases(row, 4, modes=(64,)):
            value = struct.unpack_from("<I", g.case.fxsave, MXCSR_AT)[0] & ~(random.choice((0x3F, 1 << random.randrange(6))) << 7)
            cases.append(with_mxcsr(g, value & ~(value >> 7 ^ 0x3F) | value & 0xFFC0))
    results = host.run_many([g.case for g in cases])
    assert sum(r.fault is not None and r.fault.vector == 19 for r in results) > 200
    assert disagreements(host, cases) == []


@on_x86
def test_fast_path(host: HostCpu) -> None:
    """PE set, rounding to nearest, everything masked: the host's operations, and zeros, denormals and specials beside them."""
    maker = Generator(23)
    words = (0x1FA0, 0x1FA0, 0x9FE0, 0x1FE0, 0x9FA0)
    cases = [with_mxcsr(g, words[i % 5]) for row in rows(host, FLOAT) for i, g in enumerate(maker.cases(row, 5, modes=(64,)))]
    assert disagreements(host, cases) == []


@on_x86
def test_strings_of_few_letters(host: HostCpu) -> None:
    """Every immediate of PCMPxSTRx, on strings that have much in common, of all lengths."""
    random, maker = Random(24), Generator(24)
    cases = []
    for row in (r for r in rows(host, MINE) if r.name.startswith(("pcmp", "vpcmp")) and "str" in r.name):
        for imm in range(128):
            g = maker.case(row, 32, 64)
            image = bytearray(g.case.fxsave)
            letters = random.choice((b"ab", b"\0abc", b"\x7f\x80\xff\0", b"az09"))
            for i in range(16):
                image[160 + 16 * i : 176 + 16 * i] = bytes(random.choice(letters) for _ in range(16))
            gprs = [random.randrange(-20, 21) & (1 << 64) - 1 for _ in range(16)]
            case = replace(g.case, code=g.case.code[:-1] + bytes([imm]), fxsave=bytes(image), gprs=[*gprs[:4], g.case.gprs[4], *gprs[5:]])
            cases.append(replace(g, case=case))
    assert len(cases) in (0, 512, 1024)
    assert disagreements(host, cases) == []


@pytest.mark.parametrize("name", sorted(name for name in APPROXIMATE if name[0] == "r"))
def test_approximations_are_close(name: str) -> None:
    """The relative error is at most 1.5 * 2**-12 (SDM vol. 2, RCPSS, RSQRTSS)."""
    row = next(r for r in MINE if r.name == name)
    random = Random(25)
    for _ in range(100):
        bits = random.randrange(0x0090_0000, 0x7E00_0000)
        x = struct.unpack("<f", struct.pack("<I", bits))[0]
        image = bytearray(Case(b"").fxsave)
        image[176:192] = struct.pack("<4I", *[bits] * 4)
        prefix = bytes.fromhex(row.prefix) if row.prefix not in (None, "NP") else b""
        result = run_reference(Case(prefix + bytes([0x0F, row.opcode, 0xC1]), fxsave=bytes(image)))
        got = Fraction(struct.unpack_from("<f", result.fxsave, 160)[0])
        exact = 1 / Fraction(x)
        error = abs(got * got / exact - 1) / 2 if row.opcode == 0x52 else abs(got / exact - 1)
        assert error <= Fraction(3, 2) / 4096
        assert result.fxsave[MXCSR_AT : MXCSR_AT + 4] == image[MXCSR_AT : MXCSR_AT + 4]


def test_functions_compiled() -> None:
    """Native code and the reference engine give the same results."""
    names = """permute_words pick_bytes_128 pick_bytes_64 sums_of_differences crc32c_8 crc32c_64 string_length compare_strings
        aes_substitute aes_substitute_back multiply_without_carry sha1_rounds sha256_rounds
        f32_predicate f64_predicate f32_dot_product f64_dot_product""".split()
    native = compiled([FUNCTIONS[name] for name in names])
    random = Random(26)
    for name in names:
        f = FUNCTIONS[name]
        for _ in range(20):
            args = [random.getrandbits(w) for w in f.widths]
            if name == "compare_strings":
                args[2:4] = random.randrange(17), random.randrange(17)
            assert native[name](*args) == call(f.trace, None, args), (name, args)  # type: ignore[arg-type]
