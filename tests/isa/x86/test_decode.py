"""The decoder: lengths against capstone on random bytes, records, prefixes, and what is undefined."""

from __future__ import annotations

from random import Random

import capstone
import pytest

from exuvia.dsl.state import PAGE_AT
from exuvia.isa.x86 import load
from exuvia.isa.x86.decode import READS, RESULT_SLOT
from exuvia.isa.x86.decode_tables import TOO_LONG_SLOT, UNDEFINED_SLOT
from exuvia.isa.x86.state import CS, DS, FS, SS, ZERO
from tests.isa.x86.reference import decoder

FLAT64, REAL, FLAT32 = 0, 5, 4
CAPSTONE = {FLAT64: capstone.CS_MODE_64, REAL: capstone.CS_MODE_16, FLAT32: capstone.CS_MODE_32}


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    load()


def decode(code: str, mode: int = FLAT64, offset: int = 0) -> tuple[str, int, dict[str, int], int]:
    """Name, variant, record and the result's facts."""
    d = decoder(mode)
    result, fields = d.decode(bytes.fromhex(code), offset)
    row, variant = d.tables.rows[result >> RESULT_SLOT]
    return row.name, variant, fields, result & 0xFFFF


@pytest.mark.parametrize("mode", [FLAT64, REAL, FLAT32])
def test_lengths(mode: int) -> None:
    """Whatever both know is as long for both. In 64-bit mode capstone gives 66 0F 8x 16 bits, and UD no operands."""
    reader, d, random, known = capstone.Cs(capstone.CS_ARCH_X86, CAPSTONE[mode]), decoder(mode), Random(mode), 0
    for _ in range(3000):
        head = random.choice((b"", b"", b"\x0f", b"\x66\x0f", b"\xf3\x0f", b"\x66", b"\x48", b"\x67", b"\x65", b"\xf2\x41\x0f"))
        code = head + random.randbytes(24)
        result, fields = d.decode(code, 0)
        theirs = next(reader.disasm(code, 0), None)
        if result >> RESULT_SLOT > TOO_LONG_SLOT and theirs and not theirs.mnemonic.startswith(("j", "ud")):
            known += 1
            assert fields["len"] == theirs.size == result & 0xFF, (code.hex(), theirs.mnemonic, theirs.op_str)
    assert known > 1500


def test_addresses() -> None:
    assert decode("4a8b44a510")[2] | {"base": 40, "index": 96, "scale": 2, "disp": 16, "reg": 0, "seg": SS} == decode("4a8b44a510")[2]
    f = decode("8b0d10000000", offset=0x123)[2]
    assert (f["base"], f["index"], f["disp"], f["off"], f["len"]) == (PAGE_AT, ZERO, 0x10 + 0x123 + 6, 0x123, 6)
    f = decode("678b4680", FLAT32)[2]
    assert (f["base"], f["index"], f["disp"], f["seg"]) == (40, ZERO, -128, SS)
    f = decode("8b0e3412", REAL)[2]
    assert (f["base"], f["index"], f["disp"], f["seg"], f["reg"]) == (ZERO, ZERO, 0x1234, DS, 8)
    f = decode("8b2c25efbeadde")[2]
    assert (f["base"], f["index"], f["disp"], f["reg"]) == (ZERO, ZERO, 0xDEADBEEF - (1 << 32), 40)
    assert decode("498b4500")[2]["seg"] == DS  # r13 is not rBP


def test_byte_registers() -> None:
    assert decode("88e5")[2]["rm"] == 9 and decode("88e5")[2]["reg"] == 1  # CH, AH
    assert decode("4088e5")[2]["rm"] == 40 and decode("4488fd")[2]["reg"] == 120  # BPL; R15B
    assert decode("b4ff")[2]["rm"] == 1 and decode("41b4ff")[2]["rm"] == 96


def test_sizes() -> None:
    size = {0: 16, 1: 32, 2: 64}
    for code, mode, wanted in (
        ("01c0", FLAT64, 32), ("6601c0", FLAT64, 16), ("664801c0", FLAT64, 64), ("01c0", REAL, 16), ("6601c0", REAL, 32),
        ("50", FLAT64, 64), ("6650", FLAT64, 16), ("e800000000", FLAT64, 64), ("66e80000", FLAT32, 16), ("486601c0", FLAT64, 16),
    ):  # fmt: skip
        assert size[decode(code, mode)[1] & 3] == wanted, code
    assert decode("48b80102030405060708")[2]["imm"] == 0x0807060504030201
    assert decode("4805ffffffff")[2]["imm"] == -1
    assert decode("c8341256")[2]["imm"] == 0x561234
    assert decode("ea11223344", REAL)[2]["imm"] == 0x4433_0000_2211
    assert decode("a1efbeaddeefbeadde")[2]["imm"] == 0xDEADBEEFDEADBEEF - (1 << 64)


def test_segment_overrides() -> None:
    for code, mode, seg, bit in (
        ("648b00", FLAT64, FS, 64), ("2e8b00", FLAT64, DS, 0), ("642e8b00", FLAT64, FS, 64), ("2e8b00", FLAT32, CS, 64),
        ("3e8b4500", FLAT32, DS, 0), ("2e8b07", REAL, CS, 0), ("2e3e8b07", REAL, DS, 0), ("64a4", FLAT64, FS, 64),
    ):  # fmt: skip
        name, variant, fields, _ = decode(code, mode)
        assert (fields["seg"], variant & 64) == (seg, bit), (name, code)


def test_mandatory_prefixes() -> None:
    names = {"0f58c1": "addps", "660f58c1": "addpd", "f30f58c1": "addss", "f20f58c1": "addsd", "66f20f58c1": "addsd", "f2f30f58c1": "addss"}
    names |= {"f30fb8c1": "popcnt", "66f30fb8c1": "popcnt", "f30fbcc1": "tzcnt", "0fbcc1": "bsf", "660fbcc1": "bsf"}
    assert {code: decode(code)[0] for code in names} == names


def test_repeat_and_lock() -> None:
    assert decode("f3a4")[1] & 48 == decode("f2a4")[1] & 48 == 16 and decode("f2a6")[1] & 48 == 32 and decode("a4")[1] & 48 == 0
    assert decode("f00107")[1] & 48 == 48 and decode("f08707")[1] & 48 == 0
    for code in ("f001c0", "f08b07", "f0a4", "f090", "f00f58c1"):
        assert decode(code)[0] == "undefined", code


def test_vex() -> None:
    name, variant, f, _ = decode("c4e2e8f2c1")
    assert (name, f["extra"], f["reg"], f["rm"], variant & 3) == ("andn", 16, 0, 8, 2)
    assert decode("c462f0f2c1")[2]["reg"] == 64
    undefined = ("c4e26cf2c1", "66c4e268f2c1", "48c4e268f2c1", "c4e068f2c1", "c4e200f0c1", "c5e8f2c1")
    assert {decode(code)[0] for code in undefined} == {"undefined"}
    assert decode("c4e268f2c1", FLAT32)[0] == "andn" and decode("c40424", FLAT32)[0] == "les"
    assert decode("c4e37bf0c105")[0] == "rorx" and decode("c4e36bf0c105")[0] == "undefined"  # VEX.vvvv must be unused


def test_facts() -> None:
    for code, facts in (("90", 0), ("eb00", 0x300), ("7400", 0x700), ("c3", 0x100), ("0fff", 0x100)):
        assert decode(code)[3] & ~0xFF == facts, code


def test_no_more_than_fifteen_bytes() -> None:
    assert decode("66" * 14 + "90")[0] == "xchg" and decode("66" * 14 + "90")[2]["len"] == 15
    for code in ("66" * 15 + "90", "66" * 40, "64" * 10 + "c78000000000000000", "f0" * 16):
        d = decoder(FLAT64)
        assert d.decode(bytes.fromhex(code), 0)[0] >> RESULT_SLOT == TOO_LONG_SLOT, code
    assert READS == 40


def test_features() -> None:
    d = decoder(FLAT64, frozenset({"sse", "sse2"}))
    assert d.tables.rows[d.decode(bytes.fromhex("f30fbcc1"), 0)[0] >> RESULT_SLOT][0].name == "bsf"
    assert d.decode(bytes.fromhex("c4e268f2c1"), 0)[0] >> RESULT_SLOT == UNDEFINED_SLOT


@pytest.mark.parametrize("mode", [FLAT64, REAL, FLAT32])
def test_anything_can_be_decoded(mode: int) -> None:
    d, random = decoder(mode), Random(9)
    for _ in range(2000):
        result, fields = d.decode(random.randbytes(READS), random.randrange(4096))
        assert result >> RESULT_SLOT < d.tables.slots and 1 <= fields["len"] <= READS
