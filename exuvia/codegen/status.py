"""The x87's status word in regions: asking for it takes the host longer than to compute, and what it says of rounding is seldom read.

A register that holds a part of it stands for an expression until somebody wants it, which is mostly where the region is left: then the
host does its instruction again, on the same arguments. All exceptions are masked and stay, so that nothing else happens.
"""

from __future__ import annotations

from typing import Any

from exuvia.codegen.floats import FLOATS, WITH_STATUS
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.shapes import every
from exuvia.codegen.wide import Wide
from exuvia.dsl.trace import Trace
from exuvia.dsl.values import Node


def waits(n: Node) -> bool:
    """Does the expression ask for the status word?"""
    return any(x.op == "again" for x in every([n]))


class Statuses(Wide):
    """What a region knows of it."""

    asks = False
    dirty: dict[Any, Any]
    told: tuple[str, Any] = "", None  # the block whose last computation was a comparison, and what that said

    def do_host(self, n: Node, i: Instruction) -> None:
        super().do_host(n, i)
        self.told = (self.label, self.value(n, i)) if FLOATS[n.attr].results == ("i16",) else ("", None)
        if (a := FLOATS.get(n.attr + WITH_STATUS)) is not None:
            args = tuple((t, self.value(x, i) if t[0] == "m" else self.typed(x, t, i)) for t, x in zip(a.types, n.args, strict=True))
            self.remember(i.memo, ("again", id(n)), Node("again", 16, (), (a, args)))

    def status_of(self, n: Node, i: Instruction) -> Node:
        """The status word as an expression over SSA names."""
        found: Node = i.memo["again", id(self.settled(n.args[0], i))]
        return found

    def value_host_status(self, n: Node, i: Instruction) -> Any:
        return self.value(self.status_of(n, i), i)

    def value_again(self, n: Node, i: Instruction) -> Any:
        a, args = n.attr
        given = []
        for t, v in args:
            if t[0] == "m":
                self.do(f"store i{t[1:]} {v}, ptr {self.word('host_control')}")
            given.append((t, self.word("host_control") if t[0] == "m" else v))
        return self.executed(a, given, 80)[-1]

    def do_host_stack(self, n: Node, i: Instruction) -> None:
        """FCOM and FNSTSW mostly stand together."""
        label, word = self.told
        if label == self.label:
            return self.bind(n, i, word)
        return super().do_host_stack(n, i)

    def do_clear_host_stack(self, n: Node, i: Instruction) -> None:
        self.told = "", None
        super().do_clear_host_stack(n, i)

    def known(self, v: Any) -> Any:
        """A register's value, computed if that was put off."""
        return self.value(v, Instruction(Trace())) if isinstance(v, Node) else v

    def know_all(self) -> None:
        """The host's control or status word will be another."""
        for u, v in self.env.items():
            if isinstance(v, Node):
                self.env[u] = self.dirty[u] = self.known(v)
