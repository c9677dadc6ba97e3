"""Value numbering: once is enough inside of a basic block, and no other block may use what it made."""

from __future__ import annotations

from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.numbering import Numbered
from exuvia.dsl.trace import Trace
from exuvia.dsl.values import Node, const
from exuvia.isa.x86.architecture import architecture

LAYOUT = architecture().layout


def test_a_basic_block_computes_once() -> None:
    e = Numbered(LAYOUT)
    first = e.let("trunc i64 %x to i32")
    assert e.let("trunc i64 %x to i32") == first and len(e.out) == 1
    assert e.let("trunc i64 %y to i32") != first


def test_loads_are_done_again() -> None:
    e = Numbered(LAYOUT)
    assert e.let("load i64, ptr %p") != e.let("load i64, ptr %p")


def test_another_block_computes_for_itself() -> None:
    e = Numbered(LAYOUT)
    first = e.let("trunc i64 %x to i32")
    inside: list[str] = []
    e.aside("C", lambda: inside.append(e.let("trunc i64 %x to i32")))
    assert inside[0] != first and e.let("trunc i64 %x to i32") == first
    e.start("L")
    assert e.let("trunc i64 %x to i32") not in (first, inside[0])


def test_constants_are_folded() -> None:
    e = Numbered(LAYOUT)
    control = Node("field", 64, (), "imm")
    e.value_field = lambda n, i: 0x1B  # type: ignore[attr-defined]
    lane = Node("trunc", 2, (Node("shr", 8, (Node("trunc", 8, (control,)), const(2, 8))),))
    assert e.value(lane, Instruction(Trace())) == 2 and not e.out
