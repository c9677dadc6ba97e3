"""Vectors of twice a register's width in regions: two registers, of which one lies above the other in the state, as one SSA value.

Registers are carried and written one by one, so that code for the lower halves alone knows nothing of the upper ones. Where a vector was
made whole its halves are remembered as such, and it is there again when somebody joins them.
"""

from __future__ import annotations

from typing import Any

from exuvia.codegen.floats import cut, quads, together
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.numbering import Numbered
from exuvia.codegen.shapes import Registers, Unit
from exuvia.dsl.state import Layout
from exuvia.dsl.values import Node


class Wide(Numbered):
    """What a region knows of them."""

    registers: Registers
    fields: dict[str, int]
    env: dict[Any, Any]

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.forget()

    def forget(self) -> None:
        """Where other values begin."""
        self.wholes: dict[Any, Any] = {}  # two halves to the vector of which they are; a vector to the halves that were cut from it

    def unit_value(self, u: Unit) -> Any:
        """The register's value."""
        raise NotImplementedError

    def above(self, u: Unit) -> Unit:
        """The register above this one, or what is none."""
        return self.layout.above.get(u[0], ""), u[1]

    def know(self, wide: Any, low: Any, high: Any) -> None:
        """The halves have been cut from the vector."""
        self.remember(self.wholes, (low, high), wide)
        self.remember(self.wholes, wide, (low, high))

    def whole(self, low: Any, high: Any) -> Any:
        """Two halves as a vector."""
        if (v := self.wholes.get((low, high))) is None:
            v = self.remember(self.wholes, (low, high), self.let(together(low, high)))
        return v

    def halves(self, low: Node, high: Node, i: Instruction) -> Any:
        if low.op == "get" and high.op == "get":
            units = [self.registers.unit(self.registers.concrete(n.attr, self.fields)) for n in (low, high)]
            if units[0] is not None and units[1] == self.above(units[0]):
                return self.whole(*self.both_values(units[0], units[1]))
        return self.whole(self.vec(low, i), self.vec(high, i))

    def half(self, n: Node, which: int, i: Instruction) -> Any:
        wide = self.vec(n, i)
        if wide not in self.wholes:
            self.know(wide, *(self.let(cut(wide, k)) for k in (0, 1)))
        return self.wholes[wide][which]

    def both_values(self, low: Unit, high: Unit) -> tuple[Any, Any]:
        """A register and the one above it, from the state at once if they are not known."""
        if low not in self.env and high not in self.env:
            wide = self.let(f"load {quads(256)}, ptr {self.at(self.layout.offset(*low))}, align 16")
            for k, u in enumerate((low, high)):
                self.remember(self.env, u, self.let(cut(wide, k)))
            self.know(wide, self.env[low], self.env[high])
        return self.unit_value(low), self.unit_value(high)

    def paired(self, dirty: dict[Unit, Any]) -> dict[Unit, Any]:
        """What is to be written, where both halves of a vector are with the vector in the place of the lower one."""
        found = dict(dirty)
        for u, v in dirty.items():
            high = self.above(u)
            wide = self.wholes.get((v, dirty.get(high)))
            if wide is not None and self.wholes.get(wide) == (v, dirty[high]):  # others may have been joined only after this
                found[u] = wide
                found.pop(high)
        return found
