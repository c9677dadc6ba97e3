"""AVX: which encodings with VEX there are, and its state in memory, against the host's processor; where it is not there at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import pytest

from exuvia.isa.x86 import load
from exuvia.isa.x86.decode import RESULT_SLOT
from exuvia.isa.x86.decode_tables import UNDEFINED_SLOT
from exuvia.isa.x86.state import UD, layout
from tests.isa.x86 import cases
from tests.isa.x86.machine import Machine
from tests.isa.x86.reference import Reference, decoder
from tests.oracle import values
from tests.oracle.case import CODE, FXSAVE_SIZE, UPPER_SIZE, WINDOW, WINDOW_SIZE, Case, Result
from tests.oracle.hostcpu import HostCpu, why_not

NEEDED = {"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "aes", "pclmulqdq", "vaes", "vpclmulqdq"}
LATER = {1: {*range(0x41, 0x4C), *range(0x90, 0x94), 0x98, 0x99}, 2: {*range(0x48, 0x54), *range(0x5C, 0x68), 0xB0, 0xB1, 0xB4, 0xB5,
         *range(0x6C, 0x70), *range(0xCB, 0xE8), 0xCF}, 3: {*range(0x30, 0x34), 0xCE, 0xCF, 0xDE}}  # fmt: skip
"""Opcodes with VEX of extensions that are not here: masks of AVX-512, AMX, AVX-VNNI, GFNI, SHA-512 and what else came after AVX2."""


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    load()
    if reason := why_not():
        pytest.skip(reason)
    with HostCpu() as cpu:
        if not cpu.features() >= NEEDED:
            pytest.skip("the host has no AVX2, FMA, VAES and so on")
        yield cpu


def encodings(random: Random, count: int) -> Iterator[bytes]:
    """Any opcode, L, W, prefix and operand; of registers, or memory at rBX."""
    for _ in range(count):
        table, opcode = random.choice((1, 1, 2, 2, 3)), random.randrange(256)
        if opcode in LATER[table] - ({0xDB, 0xDC, 0xDD, 0xDE, 0xDF} if table == 2 else set()) or table == 1 and opcode in (0x77, 0xAE):
            continue
        vvvv = random.choice((15, 15, random.randrange(16) | 8))
        last = random.getrandbits(1) << 7 | vvvv << 3 | random.getrandbits(3)
        modrm = random.getrandbits(3) << 3 | random.choice((3, 0xC0 | random.randrange(8)))
        yield bytes([0xC4, 0xE0 | table, last, opcode, modrm]) + (b"\x11" if table == 3 else b"")


@pytest.mark.parametrize("mode", [64, 32])
def test_the_same_encodings_are_undefined(host: HostCpu, mode: int) -> None:
    """#UD of what is reserved in L, W and vvvv, of registers where there must be memory, of opcodes that are not there."""
    codes = list(encodings(Random(mode), 6000))
    some = [Case(code, mode, [WINDOW + 64] * 16 if mode == 64 else [WINDOW + 64] * 8 + [0] * 8) for code in codes]
    reader, defined, wrong = decoder(0 if mode == 64 else 4), 0, []
    for case, result in zip(some, host.run_many(some), strict=True):
        ours = reader.decode(case.code.ljust(15, b"\xcc"), 0)[0] >> RESULT_SLOT == UNDEFINED_SLOT
        theirs = result.fault is not None and result.fault.vector == UD
        defined += not theirs
        if ours != theirs:
            wrong.append(f"{case.code.hex()}: {'we' if ours else 'the host'} alone say #UD")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(some)}", *wrong[:40]])
    assert defined > 500


@pytest.mark.parametrize("code", ["c5f458d0", "c4e27d18c0", "c5f877", "c4e268f2c1"])
def test_no_vex_in_real_mode(code: str) -> None:
    m = Machine()
    end, fault = m.text(bytes.fromhex(code))
    assert end is None and fault is not None and fault.vector == UD


# -- XSAVE and its kin
X87_POINTERS = slice(6, 24)
"""FOP, FIP and FDP, which the oracle cannot know."""
XSAVE, XSAVEOPT, XSAVEC, XRSTOR = "480fae23", "480fae33", "480fc723", "480fae2b"
"""On the area at RBX."""


def area(random: Random, header: tuple[int, int]) -> bytes:
    """What XRSTOR reads, in the window's second page."""
    image = values.fxsave(random)[:416] + bytes(96) + struct.pack("<QQ48x", *header) + values.upper(random)
    return bytes(4096) + image + random.randbytes(WINDOW_SIZE - 4096 - len(image))


def case(random: Random, code: str, wanted: int, memory: bytes) -> Case:
    gprs = [0] * 16
    gprs[0], gprs[3], gprs[4] = wanted, WINDOW + 4096, WINDOW + 8000
    return Case(bytes.fromhex(code), 64, gprs, 0x202, values.fxsave(random), memory, values.upper(random))


def told(result: Result) -> tuple[object, ...]:
    """What is compared: registers, memory, the fault."""
    image, memory = bytearray(result.fxsave), bytearray(result.memory)
    for data, at in ((image, 0), (memory, 4096)):
        data[at + X87_POINTERS.start : at + X87_POINTERS.stop] = bytes(18)
        data[at + 28 : at + 32] = bytes(4)
    return bytes(image[:416]), result.upper, bytes(memory), result.fault and result.fault.vector


def test_xsave_stores_what_the_host_stores(host: HostCpu) -> None:
    random = Random(1)
    some = [
        case(random, code, wanted, area(random, (random.getrandbits(64), random.getrandbits(64))))
        for code in (XSAVE, XSAVEOPT, XSAVEC)
        for wanted in range(8)
        for _ in range(4)
    ]
    for c, want in zip(some, host.run_many(some), strict=True):
        got = cases.run_reference(c)
        assert told(got) == told(want), (c.code.hex(), c.gprs[0], got.memory[4608:4624].hex(), want.memory[4608:4624].hex())


def test_xrstor_loads_what_the_host_loads(host: HostCpu) -> None:
    random = Random(2)
    some = []
    for wanted in range(8):
        for present in range(8):
            for compacted in (0, 1 << 63 | present, 1 << 63 | 7, 1 << 63 | 3, 1 << 63 | 8, 4):
                memory = bytearray(area(random, (present, compacted)))
                if random.random() < 0.1:
                    memory[4096 + 512 + random.randrange(64)] ^= 1 << random.randrange(8)
                some.append(case(random, XRSTOR, wanted, bytes(memory)))
    faults = 0
    for c, want in zip(some, host.run_many(some), strict=True):
        got = cases.run_reference(c)
        assert told(got) == told(want), (c.gprs[0], c.memory[4608:4672].hex())
        faults += want.fault is not None
    assert 50 < faults < len(some) - 50


def test_areas_have_the_hosts_size(host: HostCpu) -> None:
    assert host.cpuid(0xD, 2)[:2] == (UPPER_SIZE, FXSAVE_SIZE + 64)


def test_registers_of_16_numbers_only_in_64_bit_mode() -> None:
    """VZEROALL leaves YMM8 to YMM15 elsewhere."""
    load()
    for mode, kept in ((64, 0), (32, 8)):
        c = Case(bytes.fromhex("c5fc77"), mode, fxsave=values.fxsave(Random(3)), upper=b"\1" * UPPER_SIZE)
        state, space = bytearray(layout.size), cases.Space(c)
        cases.fill(state, c)
        cases.load_segments(cases.Rest(state, space), mode)
        Reference(state, space).step()
        assert cases.take(state, "pc") == CODE + 3
        assert sum(cases.take(state, "y", i) != 0 for i in range(16)) == kept
