"""Registers of a region as SSA values, and what else its instructions read: fields of their records, where they stand.

A register is read from the state once, and written there where the region is left.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from exuvia.codegen.emit import FIXED
from exuvia.codegen.floats import EXTENDED, quads
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.indexed import Indexed
from exuvia.codegen.joins import alignment
from exuvia.codegen.layout import REGION_BLOCK, REGION_HEADS
from exuvia.codegen.shapes import Block, Registers, Unit
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.dsl.state import Layout
from exuvia.dsl.trace import Place
from exuvia.dsl.values import Node, signed


class InValues(Indexed):
    """The counterpart of `InState`."""

    b: Block
    k: int  # its number
    index: int  # the present instruction's, in the block

    def __init__(self, layout: Layout, no_index: int, mask: int, blocks: list[Block]) -> None:
        super().__init__(layout, blocks)
        self.mask = mask  # of linear addresses
        self.registers = Registers(layout, no_index)
        self.fields: dict[str, int] = {}  # of the present instruction's record
        self.moving: frozenset[str] = frozenset()
        self.env: dict[Any, Any] = {}  # units to SSA names
        self.dirty: dict[Unit, Any] = {}  # those that the state does not have yet
        self.inside = 0  # branches that the text is in

    # -- the record, and places
    def body(self, k: int) -> str:
        """The records that the region was made of; its head may have others by now."""
        return self.let(f"load ptr, ptr {self.at(REGION_HEADS + REGION_BLOCK * k + 8, '%tab')}{FIXED}")

    def field(self, name: str) -> Any:
        return self.fields[name]

    def value_field(self, n: Node, i: Instruction) -> Any:
        return self.constant(n.attr) if n.attr in self.moving else self.fields[n.attr]

    def constant(self, name: str) -> Any:
        """A field from the record, as it is in this machine."""
        key = "field", name
        if key not in self.pointers:
            offset, w, signs = FIELDS[name]
            body = self.body(self.k)
            v = self.let(f"load i{w}, ptr {self.at((self.b.guard + self.index) * RECORD + offset, body)}{FIXED}")
            v = v if w == 64 else self.let(f"{'sext' if signs else 'zext'} i{w} {v} to i64")
            self.remember(self.pointers, key, v)
        return self.pointers[key]

    def value_this_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 %page, {self.b.page + self.fields['off']}")

    def value_next_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 %page, {self.b.page + self.fields['off'] + self.fields['len']}")

    def value_target(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 {self.value_next_pc(n, i)}, {self.fields['imm']}")

    def linear(self, offset: int) -> str:
        """The address of a place that is counted as the region's blocks are."""
        return self.let(f"and i64 {self.let(f'add i64 %page, {offset}')}, {signed(self.mask, 64)}")

    # -- registers
    def unit_value(self, u: Unit) -> Any:
        if (v := self.env.get(u)) is None:
            t = self.unit_type(u)
            v = self.let(f"load {t}, ptr {self.at(self.layout.offset(*u))}, align {alignment(t)}")
            self.remember(self.env, u, v)
        return self.known(v)

    def get(self, n: Node, i: Instruction) -> Any:
        place = self.registers.concrete(n.attr, self.fields)
        name, slot, w = place
        if name == "pc":
            return self.value_next_pc(n, i)
        if self.registers.zero(place):
            return 0
        if self.registers.page(place):
            return self.linear(self.b.page) if self.b.page else "%page"
        u = self.registers.unit(place)
        if u is None:
            t = quads(w) if w == 128 else f"i{w}"
            return self.let(f"load {t}, ptr {self.at(self.layout.offset(name, int(slot)))}, align {alignment(t)}")
        v = self.unit_value(u)
        whole = self.layout.files[name].width
        if w == whole:
            return v
        shift = 8 * (int(slot) - u[1])
        if shift:
            v = self.let(f"lshr i{whole} {v}, {shift}")
        return self.let(f"trunc i{whole} {v} to i{w}")

    def put(self, place: Place, v: Any) -> None:
        name, slot, w = place
        if (name, slot) in self.layout.sinks:
            return
        u, whole = self.registers.unit(place), self.layout.files[name].width
        if u is not None and w < whole:
            old, shift = self.unit_value(u), 8 * (int(slot) - u[1])
            kept = self.let(f"and i{whole} {old}, {~(((1 << w) - 1) << shift)}")
            # frozen: LLVM 22 makes one load of a load that is merged so, and then takes the whole for zero-extended from 32 bits
            part = v if isinstance(v, int) or v in self.truths else self.let(f"freeze i{w} {v}")
            wide = part & (1 << w) - 1 if isinstance(part, int) else self.let(f"zext i{w} {part} to i{whole}")
            if shift:
                wide = self.let(f"shl i{whole} {wide}, {shift}")
            v = self.let(f"or i{whole} {kept}, {wide}")
        if u is not None and self.env.get(u) == v:
            return
        if name == self.layout.delayed and v == 0 and u in self.dirty:  # the instruction is over, and the state never saw it
            self.dirty = {u: v for u, v in self.dirty.items() if u[0] not in self.layout.passing}
            self.env[u] = 0
            return
        if u is not None:
            self.env[u] = v
            self.dirty.pop(u, None)  # in the order of writing
            self.dirty[u] = v
            return
        t = quads(w) if w == 128 else f"i{w}"
        self.do(f"store {t} {v}, ptr {self.at(self.layout.offset(name, int(slot)))}, align {alignment(t)}")

    def write(self, dirty: dict[Unit, Any]) -> None:
        """Registers into the state."""
        number: Any
        for u, v in self.paired(dirty).items():
            name, number = u
            if name == self.stack:
                self.do(f"store {EXTENDED} {v}, ptr {self.place_of(number)}, align 1")
                continue
            t = self.unit_type(u) if v is dirty[u] else quads(256)
            self.do(f"store {t} {self.known(v)}, ptr {self.at(self.layout.offset(*u))}, align {alignment(t)}")

    def write_registers(self, but: Collection[Unit] = ()) -> None:
        """What the state does not have yet, but for some: of two writes only the later."""
        kept = {u: v for u, v in self.dirty.items() if u in but or u[0] in self.layout.passing}
        self.write({u: v for u, v in self.dirty.items() if u not in kept})
        if not self.inside:
            self.dirty = kept

    def write_file(self, name: str) -> None:
        self.write_registers(but={u for u in self.dirty if u[0] != name})
