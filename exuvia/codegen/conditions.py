"""Conditions that a region would have been left for: what was found out once needs no second test while the registers are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exuvia.codegen.floats import available
from exuvia.codegen.shapes import PURE
from exuvia.dsl.values import Node

if TYPE_CHECKING:
    from exuvia.codegen.region import Region

DEPTH = 16  # of expressions that are looked at


def plainly(n: Node) -> tuple[Node, bool]:
    """A condition without its negations, and whether it stands for itself."""
    holds = True
    while n.op == "xor" and n.w == 1 and n.args[1].op == "const":
        n, holds = n.args[0], holds ^ bool(n.args[1].attr)
    return n, holds


def conjuncts(n: Node) -> list[Node]:
    """Conditions that all hold where this one does."""
    return [part for a in n.args for part in conjuncts(a)] if n.op == "and" and n.w == 1 else [n]


class Conditions:
    """What is known where a region's text is being written; `known` is by `alike`."""

    def __init__(self, region: Region, known: dict[Any, bool]) -> None:
        self.region, self.known = region, known

    def learn(self, base: Node, holds: bool) -> None:
        """From here on the condition holds, or does not."""
        if (key := self.alike(base)) is not None:
            self.known[key] = holds

    def certain(self, condition: Node) -> bool | None:
        """What the condition is, where that was found out before in this block."""
        base, holds = plainly(condition)
        if base.op == "and" and base.w == 1:
            parts = [self.certain(part) for part in base.args]
            return not holds if False in parts else None if None in parts else holds
        if base.op == "const":
            return bool(base.attr) == holds
        if base.op == "host_floats":
            return available(base.attr) == holds
        found = self.known.get(self.alike(base))
        return None if found is None else found == holds

    def alike(self, n: Node, depth: int = DEPTH) -> Any:
        """Equal for conditions that are the same function of the same registers' values; None where that is not seen."""
        if n.op == "const":
            return n.attr
        if n.op == "get":
            place = self.region.registers.concrete(n.attr, self.region.fields)
            if self.region.registers.zero(place):
                return 0
            u = self.region.registers.unit(place)
            return None if u is None else ("get", self.region.unit_value(u), *place[1:])
        if n.op == "field":
            return None if n.attr in self.region.moving else ("field", self.region.fields[n.attr])
        if not depth or n.op not in PURE:
            return None
        if n.op == "and" and (mask := self.number(n.args[1])) is not None and not mask & (mask + 1):
            inner, offset = self.bottom(n.args[0], mask)
            base = self.alike(inner, depth - 1)
            return None if base is None else ("low", mask, base, offset)
        args = tuple(self.alike(a, depth - 1) for a in n.args)
        return None if None in args else (n.op, n.w, *args)

    def number(self, n: Node) -> int | None:
        """A constant of the text or of the record."""
        if n.op == "const":
            return int(n.attr)
        return self.region.fields[n.attr] if n.op == "field" and n.attr not in self.region.moving else None

    def bottom(self, n: Node, mask: int) -> tuple[Node, int]:
        """Under a mask of low bits, what a number is but for constants that are added: one check of alignment goes for several accesses."""
        offset = 0
        while True:
            if n.op in ("zext", "sext", "trunc") and 1 << min(n.w, n.args[0].w) > mask:
                n = n.args[0]
            elif n.op == "add" and (c := self.number(n.args[1])) is not None:
                n, offset = n.args[0], offset + c
            else:
                return n, offset & mask
