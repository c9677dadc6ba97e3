"""Flags in a region, between the instruction that sets them and whoever wants them: a rule, and expressions over SSA values.

Nothing of an expression is computed before it is wanted. Over a join it travels as its leaves: ways on which rule and shape are the same
share their phis. What instructions behind the join read of the flags travels as a value of its own, so that the rest is for where the
region is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from exuvia.codegen.shapes import PURE, Condition
from exuvia.dsl.trace import FlagRules, substitute
from exuvia.dsl.values import Node

LARGEST = 24  # operations of an argument that is left to be computed later
Kind = tuple[str, tuple[Any, ...]]  # a rule, and the shapes of its arguments


class Pending:
    """Flags that an instruction set: a rule, and its arguments as expressions over SSA names."""

    def __init__(self, rules: FlagRules, rule: str, args: tuple[Node, ...]) -> None:
        self.rules, self.rule, self.args = rules, rule, args
        self.widths = tuple(a.w for a in args)
        self.nodes: dict[str, Node] = {}

    def want(self, name: str) -> Node:
        """The condition, as an expression over SSA names."""
        if name not in self.nodes:
            self.nodes[name] = substitute(self.rules.meaning(self.rule, self.widths, name), self.args)
        return self.nodes[name]

    def leaves(self) -> tuple[Kind, tuple[Any, ...]]:
        """What is the same on ways that share phis, and the SSA names or numbers that differ."""
        names: list[tuple[Any, int]] = []
        return (self.rule, tuple(shape(a, names, True) for a in self.args)), tuple(name for name, _ in names)


class Arrived:
    """Flags as they were when a block was reached, which may be set by different rules on different ways."""

    def __init__(self, block: int, conditions: Collection[Condition]) -> None:
        self.block, self.widths = block, dict(conditions)

    def want(self, name: str) -> Node:
        """One of the conditions that travel by themselves, as the block or what follows reads them."""
        return Node("ssa", self.widths[name], (), f"%b{self.block}.cc.{name}")


def shape(n: Node, names: list[tuple[Any, int]], whole: bool = False) -> Any:
    """An expression without its SSA names, which go to `names` with their widths; a `whole` argument that is a constant is one too."""
    if n.op == "ssa" or whole and n.op == "const":
        if (n.attr, n.w) not in names:
            names.append((n.attr, n.w))
        return names.index((n.attr, n.w)), n.w
    return n.op, n.w, n.attr, *(shape(a, names) for a in n.args)


def filled(s: Any, names: Sequence[Any]) -> Node:
    """An expression of that shape over these names."""
    if isinstance(s[0], int):
        return Node("ssa", s[1], (), names[s[0]])
    return Node(s[0], s[1], tuple(filled(a, names) for a in s[3:]), s[2])


def widths(kind: Kind) -> list[int]:
    """Of the leaves, in order."""
    found: dict[int, int] = {}

    def look(s: Any) -> None:
        if isinstance(s[0], int):
            found[s[0]] = s[1]
        else:
            for a in s[3:]:
                look(a)

    for s in kind[1]:
        look(s)
    return [found[k] for k in range(len(found))]


def small(n: Node) -> bool:
    """Is the expression worth being carried as it is?"""
    left, todo = LARGEST, [n]
    while todo and left:
        n = todo.pop()
        todo += n.args
        left -= 1
    return not todo


def later(n: Node) -> bool:
    """Can the operation wait until its value is wanted?"""
    return n.op in PURE and n.w <= 64


def named(w: int, v: Any) -> Node:
    """A node for a value that has been computed."""
    return Node("const", w, (), v) if isinstance(v, int) else Node("ssa", w, (), v)
