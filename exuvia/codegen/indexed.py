"""The x87's registers in regions: which is meant depends on where the top of their stack is, but how far they are apart is seen.

A register is known by what its number is counted from, the name of an SSA value, and how much further it is. Where a way goes on they are
in SSA values as floats, until a number is met that is counted from another value, or that nothing is known of: any of them may be meant.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from exuvia.codegen.floats import EXTENDED, available
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.interpreter import walk_body
from exuvia.codegen.joins import Joins
from exuvia.codegen.shapes import Block, Uses
from exuvia.dsl.state import Layout
from exuvia.dsl.values import Node

if TYPE_CHECKING:
    from exuvia.codegen.conditions import Conditions

Number = tuple[Any, int]  # what it is counted from, and how much further, modulo the count of registers


class Indexed(Joins):
    """What a region knows of them."""

    conditions: Conditions
    inside: int  # branches that the text is in

    def __init__(self, layout: Layout, blocks: list[Block]) -> None:
        super().__init__(layout, blocks)
        self.origins: dict[Any, Number] = {}  # of SSA values
        self.sources: dict[int, tuple[Any, Node]] = {}  # registers that were read from the state, and as what; by the node

    @cached_property
    def stack(self) -> str:
        """The name of their file, if there is one that is worth it."""
        return next((name for name in self.layout.declared if self.layout.files[name].width == 80 and available()), "")

    @cached_property
    def shared(self) -> set[str]:
        """Other files in the same memory, and itself where the number is said."""
        if not self.stack:
            return set()
        f = self.layout.files[self.stack]
        files = ((name, self.layout.files[name]) for name in self.layout.declared)
        return {name for name, g in files if f.offset <= g.offset < f.offset + f.count * f.stride}

    def counting(self, n: Node, i: Instruction) -> Number | None:
        """What a register's number is counted from."""
        n = self.settled(n, i)
        mask = self.layout.files[self.stack].count - 1 if self.stack else 0
        if not mask or n.op != "and" or self.conditions.number(n.args[1]) != mask:
            return None
        inner, further = self.settled(n.args[0], i), 0
        while inner.op == "add" and (c := self.conditions.number(inner.args[1])) is not None:
            inner, further = self.settled(inner.args[0], i), further + c
        if inner.op != "get" or inner.w != 64 or (u := self.registers.unit(self.registers.concrete(inner.attr, self.fields))) is None:
            return None
        v = self.unit_value(u)
        base, more = (0, v) if isinstance(v, int) else self.origins.get(v, (v, 0))
        return base, further + more & mask

    def counted(self, at: Number) -> Any:
        """The number's value."""
        base, further = at
        mask = self.layout.files[self.stack].count - 1
        if isinstance(base, int):
            return base + further & mask
        v = self.let(f"and i64 {self.let(f'add i64 {base}, {further}') if further else base}, {mask}")
        self.origins[v] = at
        return v

    def place_of(self, at: Number) -> str:
        """Where the register stands in the state."""
        f = self.layout.files[self.stack]
        return self.let(f"getelementptr [{f.stride} x i8], ptr {self.at(f.offset)}, i64 {self.counted(at)}")

    def write_file(self, name: str) -> None:
        """The registers of a file into the state."""
        raise NotImplementedError

    def let_go(self) -> None:
        """From here on they are in the state alone."""
        self.write_file(self.stack)
        self.env = {u: v for u, v in self.env.items() if u[0] != self.stack}

    def meet_number(self, at: Number) -> None:
        """All that are in SSA values are counted from the same."""
        if any(u[0] == self.stack and u[1][0] != at[0] for u in self.env):
            self.let_go()

    def begin(self, use: Uses) -> None:
        """An instruction, which may use the same memory by another name."""
        self.sources.clear()
        if self.stack and any(place[0] in self.shared for place in (*use.got, *use.put)):
            self.let_go()

    def expect_branch(self, body: list[Node]) -> None:
        """Both ways out of a branch agree."""
        if self.stack and not self.inside and any(n.op == "poke" and n.attr == self.stack for n in walk_body(body)):
            self.let_go()

    def do_peek(self, n: Node, i: Instruction) -> None:
        self.floats.pop(id(n), None)
        self.sources.pop(id(n), None)
        if n.attr != self.stack or self.inside or (at := self.counting(n.args[0], i)) is None:
            self.write_file(n.attr)
            return super().do_peek(n, i)
        u = self.stack, at
        if u in self.env:
            self.remember(i.memo, ("f", id(n)), self.env[u])
            return None
        self.meet_number(at)
        super().do_peek(n, i)
        self.sources[id(n)] = u, n
        return None

    def value_peek(self, n: Node, i: Instruction) -> Any:
        """The bits of one that is there as a float."""
        return self.let(f"bitcast {EXTENDED} {i.memo['f', id(n)]} to i{n.w}")

    def extended(self, n: Node, i: Instruction) -> Any:
        n = self.settled(n, i)
        if (known := i.memo.get(("f", id(n)))) is not None:
            return known
        v = super().extended(n, i)
        if (source := self.sources.pop(id(n), None)) is not None and not self.inside:
            self.remember(i.memo, ("f", id(n)), v)
            if source[0] not in self.env:
                self.remember(self.env, source[0], v)
        return v

    def do_poke(self, n: Node, i: Instruction) -> None:
        if n.attr != self.stack or self.inside or (at := self.counting(n.args[0], i)) is None:
            self.write_file(n.attr)
            super().do_poke(n, i)
            for u in [u for u in self.env if u[0] == n.attr]:
                del self.env[u]
            return
        self.meet_number(at)
        u, v = (self.stack, at), self.extended(n.args[1], i)
        for source, node in list(self.sources.values()):
            if source == u:
                self.extended(node, i)
        self.dirty.pop(u, None)
        self.env[u] = self.dirty[u] = v
