"""The whole MIPS specification passes its check, and the check finds mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from exuvia.dsl.trace import when
from exuvia.isa import UnknownName
from exuvia.isa.mips import load
from exuvia.isa.mips.check import check
from exuvia.isa.mips.cpu import Cpu, raise_
from exuvia.isa.mips.cpus import MODELS, model
from exuvia.isa.mips.forms import ROWS, Row


def test_no_mistakes() -> None:
    load()
    assert check() == []
    assert len(ROWS) > 300


def store_then_fault(cpu: Cpu) -> None:
    cpu.memory(cpu.address(cpu.reg("rm", 64)), 32).set(cpu.rt)
    with when(cpu.rt == 0):
        raise_(13)


def unused(cpu: Cpu) -> None:
    cpu.result(cpu.rs)


def foreign(cpu: Cpu) -> None:
    cpu.result(cpu.rs + cpu.rt + cpu.imm)


def jumps(cpu: Cpu) -> None:
    cpu.pc = cpu.reg("rm", 64) + cpu.reg("reg", 64)


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        (store_then_fault, {}, "a fault after a store to memory: raise it first"),
        (unused, dict(writes="rd"), "the text does not use its operand rt"),
        (foreign, dict(writes="rd"), "the text uses imm, which the encoding does not have"),
        (jumps, dict(writes="rd"), "the text sets the pc, but the row has neither the fact `ends` nor `branch`"),
    ],
)
def test_mistakes_are_found(text: Any, facts: dict[str, Any], message: str) -> None:
    row = Row("111111 rs rt rd 00000 111111", text, facts, "wrong")
    assert f"wrong {row.text}: {message}" in check([row], [0])


def test_overlapping_encodings_are_found() -> None:
    rows = [
        Row(f"111111 rs rt {rd} 00000 111111", unused, dict(writes="rt"), name)
        for rd, name in (("00000", "a"), ("0000 x:1", "b"), ("0000 y:1", "c"))
    ]
    assert not any("same encoding" in text for text in check(rows[:2], [0]))
    assert any("same encoding" in text for text in check(rows[1:], [0]))


def test_models() -> None:
    assert model("24kf").features > model("4Kc").features
    assert model("34Kf").ordered(big=True).big and not model("34Kf").big
    assert all(m.words()["config1"] >> 25 & 63 == m.tlb - 1 for m in MODELS.values())
    assert {name: m.words()["fir"] for name, m in MODELS.items() if m.fpu} == {"24Kf": 0x73_9300, "34Kf": 0x73_9500}, "as QEMU's"
    with pytest.raises(UnknownName, match="24Kf"):
        model("24Kx")
    with pytest.raises(UnknownName, match="dsp"):
        model("24Kf", ["+dsp"])
