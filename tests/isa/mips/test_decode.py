"""The decoder: what instructions of the two releases are, delay slots, addresses that are no instruction's."""

from __future__ import annotations

from typing import Literal

import pytest

from exuvia.isa.mips.cpus import model
from tests.isa.mips.assembler import word
from tests.isa.mips.decoding import decode

ENDS, TARGET, CONDITIONAL = 1 << 8, 1 << 9, 1 << 10


def bytes_of(*words: int) -> bytes:
    return b"".join(w.to_bytes(4, "little") for w in words)


def test_a_branch_and_its_slot_are_three_records() -> None:
    result, records = decode(bytes_of(word("beq", rs="t0", rt="t1", branch=-4), word("addiu", rt="t2", rs="t3", imm=7)), 0x10)
    assert result & 0xFF == 8 and result >> 12 & 7 == 2
    assert result & 0xF00 == ENDS | TARGET | CONDITIONAL
    (first, a), (slot, b), (last, c) = records
    assert [r.name for r in (first, slot, last)] == ["beq", "addiu", "conditional"]
    assert (a["off"], a["len"], b["off"], b["len"], c["off"], c["len"]) == (0x10, 0, 0x14, 4, 0x10, 8)
    assert a["imm"] == -16 and c["imm"] == -20, "the target counts from the slot, and from behind it"


@pytest.mark.parametrize("slot", [0, word("addiu", rt=3, imm=1)])
def test_kinds_of_jumps(slot: int) -> None:
    """With an empty slot there is one record, the jump's second form."""
    for name, fields, last, facts in (
        ("beql", dict(rs=1), "always", ENDS | TARGET),
        ("j", dict(target=5), "region", ENDS),
        ("jr", dict(rs="ra"), "computed", ENDS),
        ("bltzal", dict(rs=4), "conditional", ENDS | TARGET | CONDITIONAL),
    ):
        result, records = decode(bytes_of(word(name, **fields), slot))
        assert result & 0xFF == 8, name
        if slot:
            assert len(records) == 3 and records[2][0].name == last and result & 0xF00 == facts, name
        else:
            assert len(records) == 1 and records[0][0].name == name and records[0][1]["len"] == 8, name
            assert result & 0xF00 == (facts if last != "always" else facts | CONDITIONAL), name


def test_no_jump_stands_in_a_delay_slot() -> None:
    for name in ("j", "beq", "jalr", "eret"):
        _, records = decode(bytes_of(word("j"), word(name)))
        assert records[1][0].name == "undefined"


def test_register_0_is_not_written() -> None:
    _, records = decode(bytes_of(word("addu", rd=0, rs=1, rt=2), 0))
    assert records[0][1]["base"] == 32
    _, records = decode(bytes_of(word("addu", rd=7, rs=1, rt=2), 0))
    assert records[0][1]["base"] == 7


def test_byte_order() -> None:
    w = word("ori", rt=1, rs=2, uimm=0x8001)
    orders: list[Literal["little", "big"]] = ["little", "big"]
    for mode, order in enumerate(orders):
        _, records = decode(w.to_bytes(4, order) + bytes(4), mode=mode)
        assert records[0][0].name == "ori" and records[0][1]["imm"] == 0x8001


def test_what_release_1_does_not_have() -> None:
    for name in ("ext", "rotr", "seb", "di", "mfhc1"):
        for model_name, known in (("24Kf", True), ("4Kc", False)):
            _, records = decode(bytes_of(word(name), 0), features=model(model_name).features)
            assert (records[0][0].name == name) == known, name


def test_undefined_instructions() -> None:
    for w, name in (
        (0x7000_003E, "undefined"),
        (0x4600_0018, "undefined_fpu"),
        (0x4A00_0000, "no_coprocessor"),
        (0x4200_003F, "undefined_system"),
        (0x0000_0028, "undefined"),
        (word("addu", rd=1, rs=1, rt=1) | 1 << 6, "undefined"),
    ):
        result, records = decode(bytes_of(w, 0))
        assert records[0][0].name == name, hex(w)
        assert result & 0xF00 == ENDS


def test_an_address_that_is_not_aligned() -> None:
    result, records = decode(bytes_of(word("j"), 0), offset=2)
    assert records[0][0].name == "unaligned" and result & 0xFF == 4 and len(records) == 1
