"""Where ways of a region meet: registers, the instruction counter and flags as phis, written when all ways into a block are known."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from exuvia.codegen.flags import Arrived, Kind, Pending, filled, widths
from exuvia.codegen.floats import cut, quads
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.shapes import Block, Unit
from exuvia.codegen.status import Statuses
from exuvia.dsl.state import Layout
from exuvia.dsl.trace import FlagRules, Trace


class Way(NamedTuple):
    """A way into a block that begins with phis: from where, with which registers and flags."""

    label: str
    values: dict[Unit, Any]
    ic: Any
    kind: Kind | None = None
    args: tuple[Any, ...] = ()
    conditions: dict[str, Any] = {}
    arrived: int | None = None  # the flags are those with which this block was reached


class Joins(Statuses):
    """The part of a region's text that has to wait; `PHIS` and `FLAGS` mark its places."""

    def __init__(self, layout: Layout, blocks: list[Block]) -> None:
        super().__init__(layout)
        self.blocks = blocks
        self.incoming: dict[int, list[Way]] = {}

    @cached_property
    def rules(self) -> FlagRules:
        """The architecture's, which its instructions know."""
        return next(r.form.trace.rules for b in self.blocks for r in b.records if r.form.trace.rules is not None)

    def unit_type(self, u: Unit) -> str:
        w = self.layout.files[u[0]].width
        return quads(w) if w == 128 else f"i{w}"

    def save_flags(self, pending: Pending | Arrived) -> None:
        """Flag words into the state."""
        if isinstance(pending, Arrived):
            after = self.fresh("Z")
            self.out.append(f"FLAGS {pending.block} {after}")
            return self.start(after)
        i = Instruction(Trace())
        values = [(place, self.value(pending.want(name), i)) for name, place in pending.rules.words.items()]
        for place, v in values:
            self.do(f"store i{place[2]} {v}, ptr {self.at(self.layout.offset(place[0]))}")

    def fill(self, lines: list[str]) -> list[str]:
        """Phis and stores of flags in the place of their marks, now that all ways in are known."""
        self.find_kinds()
        self.out = []
        for line in lines:
            if line.startswith("PHIS "):
                self.phis(int(line[5:]))
            elif line.startswith("FLAGS "):
                block, after = line[6:].split()
                self.save_arrived(int(block), after)
            else:
                self.out.append(line)
        return self.out

    def entered(self, k: int) -> list[tuple[Unit, Unit | None]]:
        """The registers with which the block begins, and the ones above them where it wants both."""
        wants = self.blocks[k].wants
        pairs = {u: high for u in wants if (high := self.above(u)) in wants}
        return [(u, pairs.get(u)) for u in sorted(wants) if u not in pairs.values()]

    def phis(self, k: int) -> None:
        """Registers, the instruction counter, and flags; then the halves of registers that came as one."""
        entered = self.entered(k)
        for u, high in entered:
            values = ", ".join(f"[ {w.values[u]}, %{w.label} ]" for w in self.incoming[k])
            name, t = ("", self.unit_type(u)) if high is None else (".wide", quads(256))
            self.do(f"%b{k}.{u[0]}.{u[1]}{name} = phi {t} {values}")
        self.phis_of_flags(k)
        for u, high in entered:
            for which, half in enumerate((u, high) if high is not None else ()):
                self.do(f"%b{k}.{half[0]}.{half[1]} = {cut(f'%b{k}.{u[0]}.{u[1]}.wide', which)}")

    def phis_of_flags(self, k: int) -> None:
        """The instruction counter, and flags: which rule set them, and its arguments."""
        ways = self.incoming[k]
        self.do(f"%b{k}.ic = phi i64 {', '.join(f'[ {w.ic}, %{w.label} ]' for w in ways)}")
        for name, w in sorted(self.blocks[k].conditions):
            self.do(f"%b{k}.cc.{name} = phi i{w} {', '.join(f'[ {way.conditions[name]}, %{way.label} ]' for way in ways)}")
        if not (kinds := self.kinds[k]):
            return
        numbers = ", ".join(f"[ {self.number(w)}, %{w.label} ]" for w in ways)
        self.do(f"%b{k}.kind = phi i16 {numbers}")
        for kind in kinds:
            n = self.numbers[kind]
            for j, width in enumerate(widths(kind)):
                values = ", ".join(f"[ {self.leaf(w, kind, j)}, %{w.label} ]" for w in ways)
                self.do(f"%b{k}.f{n}.{j} = phi i{width} {values}")

    def number(self, way: Way) -> Any:
        """The kind of the flags on a way; 0 where they are in the state."""
        if way.arrived is not None:
            return f"%b{way.arrived}.kind" if self.kinds[way.arrived] else 0
        return self.numbers[way.kind] if way.kind else 0

    def leaf(self, way: Way, kind: Kind, j: int) -> Any:
        """One of the values that flags of a kind are made of, where the way's may be of it."""
        if way.arrived is not None and kind in self.kinds[way.arrived]:
            return f"%b{way.arrived}.f{self.numbers[kind]}.{j}"
        return way.args[j] if way.kind == kind else "poison"

    def find_kinds(self) -> None:
        """Of which kinds the flags can be, where they reach a block without being in the state; until nothing changes."""
        self.kinds: dict[int, dict[Kind, None]] = {k: {} for k in self.incoming}
        changed = True
        while changed:
            changed = False
            for k, ways in self.incoming.items():
                found = {w.kind: None for w in ways if w.kind} | {
                    kind: None for w in ways if w.arrived is not None for kind in self.kinds[w.arrived]
                }
                if self.blocks[k].flags and found.keys() != self.kinds[k].keys():
                    self.kinds[k], changed = found, True
        every = {kind: None for kinds in self.kinds.values() for kind in kinds}
        self.numbers = {kind: n + 1 for n, kind in enumerate(every)}

    def save_arrived(self, k: int, after: str) -> None:
        """The flags with which a block was reached, into the state."""
        if not (kinds := self.kinds[k]):
            return self.do(f"br label %{after}")
        labels = [self.fresh("S") for _ in kinds]
        cases = " ".join(f"i16 {self.numbers[kind]}, label %{label}" for kind, label in zip(kinds, labels, strict=True))
        self.do(f"switch i16 %b{k}.kind, label %{after} [ {cases} ]")
        for kind, label in zip(kinds, labels, strict=True):
            self.start(label)
            names = [f"%b{k}.f{self.numbers[kind]}.{j}" for j in range(len(widths(kind)))]
            self.save_flags(Pending(self.rules, kind[0], tuple(filled(s, names) for s in kind[1])))
            self.do(f"br label %{after}")


def alignment(t: str) -> int:
    """Of a value in the state, in bytes."""
    return 16 if t[0] == "<" else 8 if t == "i64" else 1
