"""Stencils: an instruction form's handler with gaps where its record is read, to be copied behind one another (copy and patch).

The text is the handler's own. What it reads from the record is the value of a symbol here, so that LLVM leaves relocations: in operands of
the host's instructions, where they cost nothing. `cutting.py` makes of these a *stencil*, which `runtime/copying.py` copies:

    hot size 4 | cold size 4 | gaps 4 | signed 4 | gaps of 16 bytes each | hot code | cold code | constants

The hot code runs on into that of the next instruction. A gap: place 2 (bit 15: in the cold code) | kind 1 | where the field lies in the
record 1 | 64 less the field's width 1 | 0 | stride 2 | addend 8. What it gets is its kind's business (`KINDS`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from exuvia.codegen.interpreter import Interpreter
from exuvia.codegen.layout import MODE, MODE_ENTRY
from exuvia.dsl.architecture import Architecture, Form
from exuvia.dsl.state import PAGE_AT, Layout
from exuvia.dsl.trace import Place

# a field of the record times the stride, and the addend; the record's address; its handler; and, counted from the gap, the next
# instruction's code, the stencil, and the hot and the cold code of this instruction; an exit is a jump, at first to what follows it
KINDS = "unsigned signed record handler next stencil hot cold exit".split()
KIND = {name: number for number, name in enumerate(KINDS)}
HEADER, GAP = struct.Struct("<IIII"), struct.Struct("<HBBBxHq")
IN_COLD = 1 << 15
EXIT = "exit"
# an entry begins with 6 bytes, so that what exits jump to and what heads do lie at the even places ENTERED and ENTRY_AT
ENTRY = ".byte 0x66,0x0f,0x1f,0x44,0x00,0x00\\0A\\09movabsq $$record, $0"
ENTERED, ENTRY_AT = 6, 16
DIVERTED = 0x0065FF41  # jmp qword ptr [r13], in the place of what heads do
# stencils of no instruction: before a block's first; to a record's handler; over the end of a block that does not jump; to another page
OF_ALL = "entry bridge fall far".split()


class Stencil(Interpreter):
    """Writes handlers whose records are symbols: `f.FIELD`, `p.FIELD.STRIDE.ADDEND`, `record`."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.symbols: set[str] = set()

    def symbol(self, name: str) -> str:
        """A symbol's value."""
        self.symbols.add(name)
        return f'ptrtoint (ptr @"{name}" to i64)'

    def field(self, name: str) -> str:
        return self.symbol(f"p.{name}.1.0")

    def place(self, place: Place) -> str:
        name, slot, _ = place
        if isinstance(slot, int):
            return super().place(place)
        key = name, slot
        if key not in self.pointers:
            f = self.layout.files[name]
            gap = self.symbol(f"p.{slot}.{f.stride}.{f.offset}")
            self.remember(self.pointers, key, self.let(f"getelementptr i8, ptr %st, i64 {gap}"))
        return self.pointers[key]

    def record(self) -> str:
        return self.let('call ptr asm "movabsq $$record, $0", "=r"()')

    def following(self, ic: str = "%ic", op: str = "%op") -> None:
        self.go_to("@next", op, ic)

    def enter_block(self, op: str, mark: str = "") -> None:
        """By what its head says: where it was copied too, that is `entry`, which looks at the deadline itself."""
        self.tail(op)

    def leave_by(self, k: int, mark: str = "") -> None:
        """By an exit (`cutting.py` has its text)."""
        self.go_to(f"@{EXIT}{k}", "%op", "%ic")

    def entry(self, name: str) -> str:
        """What the head's handler does; exits come in before that, without the head."""
        op = self.let(f'call ptr asm sideeffect "{ENTRY}", "={{r13}}"()')
        deadline = self.let(f"load atomic i64, ptr {self.word('deadline')} monotonic, align 8")
        on, off = self.fresh("L"), self.fresh("C")
        self.branch(self.let(f"icmp ult i64 %ic, {deadline}"), on, off)
        self.aside(off, lambda: self.tail_runtime("h_head", op))
        self.start(on)
        self.do(f"store ptr {op}, ptr {self.word('current')}")
        self.following(self.let(f"add i64 %ic, {self.symbol('count')}"), op)
        return self.written(name)

    def bridge(self, name: str) -> str:
        """To the handler of a record whose instruction has no stencil."""
        handler = self.let('call ptr asm "movabsq $$handler, $0", "=r"()')
        self.go_to(handler, self.record(), "%ic")
        return self.written(name)

    def fall(self, name: str) -> str:
        """Over the end of a block."""
        self.leave_by(0)
        return self.written(name)

    def masked(self, pc: str) -> str:
        """The bits that an address has in the running mode."""
        mode = self.let(f"mul i64 {self.load('i64', self.word('mode'))}, {MODE_ENTRY}")
        of_mode = self.let(f"getelementptr i8, ptr {self.load('ptr', self.word('modes'))}, i64 {mode}")
        return self.let(f"and i64 {pc}, {self.load('i64', self.at(MODE['mask'], of_mode))}")

    def far(self, name: str) -> str:
        """What the stub of a link to another page does, with a prediction of its own."""
        pc = self.let(f"add i64 {self.load('i64', self.at(PAGE_AT))}, {self.symbol('delta')}")
        self.enter_block(self.found(pc, "%ic", self.masked))
        return self.written(name)


class Stencils(NamedTuple):
    """What was made: the bytes, and where which stencil begins. What they call is there, for the handlers that they come from call it."""

    blob: bytes
    places: dict[str, int]


class Forms(NamedTuple):
    """Stencils to be made: of forms of a mode, by slot and kind."""

    mode: int
    pairs: tuple[tuple[int, int], ...]

    def name(self, slot: int, kind: int) -> str:
        """Of a stencil among them."""
        return f"s{slot}.{kind}"

    def make(self, form: Callable[[int, int], Form], a: Architecture) -> Stencils:
        """Make them: a pure function."""
        from exuvia.codegen.cutting import made_of

        written = []
        for slot, kind in self.pairs:
            f, s, name = form(self.mode, slot), Stencil(a.layout), self.name(slot, kind)
            written.append((name, s, s.handler(name, f.trace, kind, f.ends, f.targets)))
        return made_of(a.layout, written)
