"""Flags that travel over joins: what expressions are made of comes back as it was."""

from __future__ import annotations

from exuvia.codegen.flags import Pending, filled, widths
from exuvia.dsl.values import Node
from exuvia.isa.x86.flags import FLAG_RULES


def ssa(name: str, w: int) -> Node:
    return Node("ssa", w, (), name)


def test_equal_constants_of_two_widths_are_two_leaves() -> None:
    """A result that is zero, and a carry that is."""
    zero, of = Node("const", 32, (), 0), Node("ult", 1, (ssa("%a", 32), ssa("%b", 32)))
    pending = Pending(FLAG_RULES, "parts", (zero, Node("const", 1, (), 0), of, ssa("%c", 1)))
    kind, leaves = pending.leaves()
    assert leaves == (0, 0, "%a", "%b", "%c") and widths(kind) == [32, 1, 32, 32, 1]
    again = [filled(s, [f"%{n}" for n in range(5)]) for s in kind[1]]
    assert [repr(n) for n in again] == ["ssa.32[%0]", "ssa.1[%1]", "ult.1(ssa.32[%2], ssa.32[%3])", "ssa.1[%4]"]


def test_a_name_that_comes_twice_is_one_leaf() -> None:
    kind, leaves = Pending(FLAG_RULES, "added", (ssa("%a", 64), ssa("%a", 64), ssa("%r", 64))).leaves()
    assert leaves == ("%a", "%r") and widths(kind) == [64, 64]
