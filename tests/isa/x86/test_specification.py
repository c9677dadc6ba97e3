"""The whole x86 specification passes its check, and the check finds each kind of mistake."""

from __future__ import annotations

from typing import Any

import pytest

from exuvia.dsl.trace import Var, loop, when
from exuvia.isa.x86 import load
from exuvia.isa.x86.check import check
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.forms import Row


def test_no_mistakes() -> None:
    load()
    assert check() == []


def store_then_fault(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b.read())
    with when(b.read() == 0):
        raise_(0)


def store_then_access(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b.read())
    cpu.push(b.read())


def escaping(cpu: Cpu, a: Any, b: Any) -> None:
    with when(b.read() == 0):
        v = cpu.memory(cpu.aSI, cpu.w, 3).read()
    b.set(v)
    a.set(v)


def inside(cpu: Cpu, a: Any, b: Any) -> None:
    v = Var(b.read())
    with when(b.read() == 0):
        v.set(cpu.memory(cpu.aSI, cpu.w, 3).read())
    a.set(v.read())


def unused(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(a + 1)


def foreign(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b + cpu.field("imm").low(b.w))


def jumps(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b.read())
    cpu.put(("pc", 0, 64), b.zext(64))


def after_the_end(cpu: Cpu, a: Any, b: Any) -> None:
    raise_(6)
    a.set(b.read())


def truth(cpu: Cpu, a: Any, b: Any) -> None:
    if b.read() == 0:
        a.set(b.read())


def many_accesses(cpu: Cpu, a: Any, b: Any) -> None:
    for i in range(81):
        a.set(a + cpu.memory((cpu.aSI + i).low(cpu.asize), cpu.w, 3).read())
    a.set(b.read())


def wide_accesses(cpu: Cpu, a: Any, b: Any) -> None:
    for i in range(62):
        cpu.memory((cpu.aSI + i).low(cpu.asize), 128, 3).read()
    a.set(b.read())


def access_in_a_loop(cpu: Cpu, a: Any, b: Any) -> None:
    v = Var(b.read())
    with loop(3, v):
        v.set(v + cpu.memory(cpu.aSI, cpu.w, 3).read())
    a.set(v.read())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (store_then_fault, "a fault after a store to memory: raise it first"),
        (store_then_access, "a memory access that can fault after a store to memory: call .writable() or .read() on it first"),
        (escaping, "the result of a load is used outside of the branch that makes it: give it to a Var inside"),
        (unused, "the text does not use its operand Gv"),
        (foreign, "the text uses imm, which the encoding does not have"),
        (jumps, "the text sets the pc, but the row has neither the fact `ends` nor `branch`"),
        (after_the_end, "nothing can follow raise"),
        (many_accesses, "82 memory accesses of"),
        (wide_accesses, "a device may have to give 131 answers: engines have room for 128"),
        (access_in_a_loop, "a memory access inside of a loop"),
        (truth, "cannot be read: TypeError: a guest value has no truth value while it is traced"),
    ],
)
def test_mistakes_are_found(text: Any, message: str) -> None:
    row = Row("01 Ev,Gv", text, {"modifies": True})
    row.name = "wrong"
    assert any(found.startswith(f"wrong 01 Ev,Gv: {message}") for found in check([row], [0])), check([row], [0])


def test_a_variable_carries_a_value_out_of_a_branch() -> None:
    assert check([Row("01 Ev,Gv", inside, {"modifies": True})], [0]) == []


def test_overlapping_encodings_are_found() -> None:
    first, second = Row("01 Ev,Gv", inside, {}), Row("01/3 Ev", lambda cpu, a: a.set(a + 1), {})
    third = Row("01/3 Ev", lambda cpu, a: a.set(a - 1), {})
    for i, row in enumerate((first, second, third)):
        row.id, row.name = i, f"row{i}"
    assert check([first, second], [0]) == []
    assert check([first, second, third], [0]) == ["row1 '01/3 Ev' and row2 '01/3 Ev' have the same encoding"]
