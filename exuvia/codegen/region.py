"""Compiled regions: hot blocks of one page as one native function, guest registers in SSA values.

A region has a handler's signature and stands in the first word of its entries' heads. Registers are written through to the state as they
are produced and read from SSA values; flags stay a rule and its arguments until somebody wants them. Whatever is not usual (a TLB miss, a
fault, an instruction with effects of its own) goes to the record of that instruction: the interpreter does it, with an exact state.

Passes, in order: `connect` (where blocks lead), `liveness` (which registers and flags a block wants), then the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.codegen.emit import LIKELY, UNLIKELY, Instruction
from exuvia.codegen.interpreter import is_next
from exuvia.codegen.layout import ADDEND, HEAD, READ, REGION_HEADS, TLB_ENTRIES, WRITE, runtime_at
from exuvia.codegen.native import ARGS
from exuvia.codegen.registers import InState
from exuvia.codegen.shapes import Block, Record, Registers, Unit, connect, liveness
from exuvia.dsl.record import LINK, RECORD
from exuvia.dsl.state import PAGE_AT, Layout
from exuvia.dsl.trace import FlagRules, Place, Trace, substitute
from exuvia.dsl.values import Node


class Pending:
    """Flags that an instruction set: a rule, and the values of its arguments as SSA names."""

    def __init__(self, rules: FlagRules, rule: str, args: tuple[Node, ...]) -> None:
        self.rules, self.rule, self.args = rules, rule, args
        self.widths = tuple(a.w for a in args)
        self.nodes: dict[str, Node] = {}

    def want(self, name: str) -> Node:
        """The condition, as an expression over SSA names."""
        if name not in self.nodes:
            self.nodes[name] = substitute(self.rules.meaning(self.rule, self.widths, name), self.args)
        return self.nodes[name]


class Region(InState):
    """Writes one region."""

    def __init__(self, layout: Layout, no_index: int, blocks: list[Block], name: str) -> None:
        super().__init__(layout)
        self.blocks, self.name = blocks, name
        self.registers = Registers(layout, no_index)
        self.env: dict[Any, Any] = {}  # units to SSA names
        self.pending: Pending | None = None
        self.saved = True  # the state's flags are right
        self.incoming: dict[int, list[tuple[str, dict[Unit, Any], Any]]] = {}

    def text(self) -> str:
        """LLVM text of the region."""
        connect(self.blocks)
        liveness(self.blocks, self.registers)
        self.do(f"%tab = load ptr, ptr {self.at(HEAD['region'], '%op')}")
        self.do(f"%page = load i64, ptr {self.at(PAGE_AT)}")
        self.on_time("%ic", lambda: self.tail_head("%op", "%ic"))
        which = self.load("i16", self.at(HEAD["entry"], "%op"))
        entries = [k for k, b in enumerate(self.blocks) if b.entry]
        cases = " ".join(f"i16 {k}, label %E{k}" for k in entries)
        self.do(f"switch i16 {which}, label %E{entries[0]} [ {cases} ]")
        for k in entries:
            self.start(f"E{k}")
            self.env = {}
            self.arrive(k, "%ic")
        done: set[int] = set()
        for k in range(len(self.blocks)):
            if self.joins(k) and k not in done:
                self.meet(k)
                self.tree(k, done)
        body = "\n".join(self.fill(self.out) + self.cold)
        return f'define preserve_nonecc i64 @{self.name}({ARGS}) nounwind "no-jump-tables"="true" {{\nentry:\n{body}\n}}\n'

    # -- the blocks
    def joins(self, k: int) -> bool:
        """Does the block begin with phis? Others continue their only predecessor."""
        b = self.blocks[k]
        return b.entry or len(b.before) != 1

    def meet(self, k: int) -> None:
        self.start(f"B{k}")
        self.out.append(f"PHIS {k}")
        self.env = {u: f"%b{k}.{u[0]}.{u[1]}" for u in sorted(self.blocks[k].wants)}
        self.pending, self.saved = None, True
        self.ic = f"%b{k}.ic"

    def fill(self, lines: list[str]) -> list[str]:
        """Phis in the place of their marks, now that all ways in are known."""
        filled: list[str] = []
        for line in lines:
            if not line.startswith("PHIS "):
                filled.append(line)
                continue
            k = int(line[5:])
            ways = self.incoming[k]
            for u in sorted(self.blocks[k].wants):
                values = ", ".join(f"[ {values[u]}, %{label} ]" for label, values, _ in ways)
                filled.append(f"  %b{k}.{u[0]}.{u[1]} = phi {self.unit_type(u)} {values}")
            filled.append(f"  %b{k}.ic = phi i64 {', '.join(f'[ {ic}, %{label} ]' for label, _, ic in ways)}")
        return filled

    def tree(self, k: int, done: set[int]) -> None:
        """The block and those that only it leads to."""
        done.add(k)
        self.b, self.k = self.blocks[k], k
        self.exits: dict[int, tuple[Pending | None, bool, list[tuple[str, int]]]] = {}
        self.ic = self.let(f"add i64 {self.ic}, {self.b.whole}")
        after: list[tuple[int, str, dict[Any, Any], Any, bool]] = []
        self.after = after
        ended = False
        for at, r in enumerate(self.b.records):
            self.index = at
            ended = self.instruction(r, at == len(self.b.records) - 1)
        if not ended:
            if len(self.b.records) < self.b.whole:  # the interpreter does the rest
                self.index = len(self.b.records)
                self.do(f"br label %{self.leaving()}")
            else:
                self.go(0)
        self.write_exits()
        ic = self.ic
        for child, label, env, pending, saved in after:
            self.start(label)
            self.env, self.pending, self.saved, self.ic = env, pending, saved, ic
            self.tree(child, done)

    def write_exits(self) -> None:
        """The cold ends of the block: flags into the state where they are not there yet, then the record's own handler."""
        ways: list[tuple[str, str]] = []
        k, ic = self.k, self.ic
        for n, (pending, saved, edges) in enumerate(self.exits.values()):
            label = f"X{k}.{n}"

            def cold(pending: Pending | None = pending, saved: bool = saved, edges: Any = edges, label: str = label) -> None:
                at = self.let("phi i64 " + ", ".join(f"[ {index * RECORD}, %{source} ]" for source, index in edges))
                if pending is not None and not saved:
                    self.save_flags(pending)
                ways.append((at, self.label))
                self.do(f"br label %Y{k}")

            self.aside(label, cold)
        if not ways:
            return

        def last() -> None:
            at = self.let("phi i64 " + ", ".join(f"[ {at}, %{label} ]" for at, label in ways))
            head = self.head(k)
            self.do(f"store ptr {head}, ptr {self.word('current')}")
            op = self.let(f"getelementptr i8, ptr {self.load('ptr', self.at(HEAD['body'], head))}, i64 {at}")
            self.tail_to(op, ic)

        self.aside(f"Y{k}", last)

    def leaving(self) -> str:
        """The label to go to from here for the interpreter to do the present instruction."""
        key = id(self.pending) if not self.saved else 0
        if key not in self.exits:
            self.exits[key] = self.pending, self.saved, []
        label = f"X{self.k}.{list(self.exits).index(key)}"
        self.exits[key][2].append((self.label, self.index))
        return label

    def head(self, k: int) -> str:
        return self.load("ptr", self.at(REGION_HEADS + 8 * k, "%tab"))

    def tail_to(self, op: str, ic: Any) -> None:
        h = self.load("ptr", op)
        self.do(f"ret i64 {self.let(f'musttail call preserve_nonecc i64 {h}(ptr %st, ptr {op}, ptr %tlb, i64 {ic})')}")

    def tail_head(self, op: str, ic: Any) -> None:
        """Enter a block without its region: the interpreter's way, which looks at the deadline."""
        h = self.load("ptr", self.at(runtime_at("h_head")))
        self.do(f"ret i64 {self.let(f'musttail call preserve_nonecc i64 {h}(ptr %st, ptr {op}, ptr %tlb, i64 {ic})')}")

    def on_time(self, ic: Any, late: Callable[[], None]) -> None:
        """Go on unless the deadline has passed."""
        deadline = self.let(f"load atomic i64, ptr {self.word('deadline')} monotonic, align 8")
        on, off = self.fresh("L"), self.fresh("C")
        self.branch(self.let(f"icmp ult i64 {ic}, {deadline}"), on, off)
        self.aside(off, late)
        self.start(on)

    # -- going from block to block
    def arrive(self, k: int, ic: Any) -> None:
        """To a block that begins with phis, from here."""
        values = {u: self.unit_value(u) for u in sorted(self.blocks[k].wants)}
        self.incoming.setdefault(k, []).append((self.label, values, ic))
        self.do(f"br label %B{k}")

    def go(self, link: int) -> None:
        """Along a link of the block."""
        w = self.b.ways[link]
        if w is None:
            self.keep_flags()
            links = RECORD * (self.b.whole + self.b.falls) + LINK * link
            body = self.load("ptr", self.at(HEAD["body"], self.head(self.k)))
            return self.tail_to(self.load("ptr", self.at(links, body)), self.ic)
        if not self.joins(w):
            label = f"B{w}"
            self.after.append((w, label, dict(self.env), self.pending, self.saved))
            return self.do(f"br label %{label}")
        target = self.blocks[w]
        if target.wants_flags:
            self.keep_flags()
        if target.offset <= self.b.offset:
            pending, saved, ic = self.pending, self.saved, self.ic

            def late() -> None:
                if pending is not None and not saved:
                    self.save_flags(pending)
                self.tail_head(self.head(w), ic)

            self.on_time(self.ic, late)
        return self.arrive(w, self.ic)

    def both(self, c: Any, first: int, second: int) -> None:
        """A conditional branch along two links."""
        yes, no = self.fresh("L"), self.fresh("L")
        self.do(f"br i1 {c}, label %{yes}, label %{no}")
        env, saved, mark = dict(self.env), self.saved, len(self.log)
        self.start(yes)
        self.go(first)
        self.leave_scope(mark)
        self.env, self.saved = env, saved
        self.start(no)
        self.go(second)

    # -- instructions
    def instruction(self, r: Record, last: bool) -> bool:
        """One instruction; True if it ended the block."""
        self.fields = r.fields
        self.pointers = {}
        trace = r.form.trace
        i = Instruction(trace)
        self.effects(trace.body, i)
        pc = trace.env.get(("pc", 0, 64))
        if pc is None:
            self.write_back(i, trace)
            return False
        first, second, c = self.follow(pc, r.form.targets, i)
        target = None if first is not None else self.value(pc, i)
        self.write_back(i, trace)
        if first is None:
            self.set_word("pc", target)
            self.keep_flags()
            f = self.load("ptr", self.at(runtime_at("jump")))
            op = self.load("ptr", self.at(HEAD["body"], self.head(self.k)))
            r_ = self.let(f"musttail call preserve_nonecc i64 {f}(ptr %st, ptr {op}, ptr %tlb, i64 {self.ic})")
            self.do(f"ret i64 {r_}")
        elif second is None:
            self.go(first)
        else:
            self.both(c, first, second)
        return True

    def follow(self, n: Node, targets: bool, i: Instruction) -> tuple[int | None, int | None, Any]:
        """Links to go along: (one, None, None), or (where it holds, where not, the condition); None for a computed address."""
        if n.op == "target":
            return 0, None, None
        if is_next(n):
            return int(targets), None, None
        if n.op in ("select", "merge") and n.args[1].op == "target" and is_next(n.args[2]):
            c = self.value(n.args[0], i)
            if isinstance(c, int):
                return 0 if c else 1, None, None
            return 0, 1, c
        return None, None, None

    def write_back(self, i: Instruction, trace: Trace) -> None:
        """What the instruction writes, once all of it is computed."""
        writes = []
        for place, n in trace.env.items():
            if place[0] not in ("var", "pc"):
                writes.append((place, self.vec(n, i) if place[2] == 128 else self.value(n, i)))
        pending = self.pending
        if trace.flags is not None:
            assert trace.rules is not None
            args = tuple(named(a.w, self.value(a, i)) for a in trace.flags.args)
            pending = Pending(trace.rules, trace.flags.rule, args)
        for place, v in writes:
            self.put(self.registers.concrete(place, self.fields), v)
        if pending is not self.pending:
            self.pending, self.saved = pending, False

    def save_flags(self, pending: Pending) -> None:
        """Flag words into the state."""
        i = Instruction(Trace())
        values = [(place, self.value(pending.want(name), i)) for name, place in pending.rules.words.items()]
        for place, v in values:
            self.do(f"store i{place[2]} {v}, ptr {self.at(self.layout.offset(place[0]))}")

    def keep_flags(self) -> None:
        if self.pending is not None and not self.saved:
            self.save_flags(self.pending)
            self.saved = True

    # -- values
    def value_ssa(self, n: Node, i: Instruction) -> Any:
        return n.attr

    def value_cc(self, n: Node, i: Instruction) -> Any:
        if self.pending is not None:
            return self.value(self.pending.want(n.attr), i)
        return super().value_cc(n, i)

    def field(self, name: str) -> Any:
        return self.fields[name]

    def value_field(self, n: Node, i: Instruction) -> Any:
        return self.fields[n.attr]

    def value_this_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 %page, {self.fields['off']}")

    def value_next_pc(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 %page, {self.fields['off'] + self.fields['len']}")

    def value_target(self, n: Node, i: Instruction) -> Any:
        return self.let(f"add i64 {self.value_next_pc(n, i)}, {self.fields['imm']}")

    # -- registers
    def unit_type(self, u: Unit) -> str:
        w = self.layout.files[u[0]].width
        return "<2 x i64>" if w == 128 else f"i{w}"

    def unit_value(self, u: Unit) -> Any:
        if (v := self.env.get(u)) is None:
            t = self.unit_type(u)
            align = 16 if t[0] == "<" else 1 if t == "i80" else 8
            v = self.let(f"load {t}, ptr {self.at(self.layout.offset(*u))}, align {align}")
            self.remember(self.env, u, v)
        return v

    def get(self, n: Node, i: Instruction) -> Any:
        place = self.registers.concrete(n.attr, self.fields)
        name, slot, w = place
        if name == "pc":
            return self.value_next_pc(n, i)
        if self.registers.zero(place):
            return 0
        u = self.registers.unit(place)
        if u is None:
            t = "<2 x i64>" if w == 128 else f"i{w}"
            align = 16 if w == 128 else 1 if w < 64 or w == 80 else 8
            return self.let(f"load {t}, ptr {self.at(self.layout.offset(name, int(slot)))}, align {align}")
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
        u, whole = self.registers.unit(place), self.layout.files[name].width
        if u is not None and w < whole:
            old, shift = self.unit_value(u), 8 * (int(slot) - u[1])
            kept = self.let(f"and i{whole} {old}, {~(((1 << w) - 1) << shift)}")
            wide = (v & (1 << w) - 1) if isinstance(v, int) else self.let(f"zext i{w} {v} to i{whole}")
            if shift:
                wide = self.let(f"shl i{whole} {wide}, {shift}")
            self.env[u] = self.let(f"or i{whole} {kept}, {wide}")
        elif u is not None:
            self.env[u] = v
        t = "<2 x i64>" if w == 128 else f"i{w}"
        align = 16 if w == 128 else 1 if w < 64 or w == 80 else 8
        self.do(f"store {t} {v}, ptr {self.at(self.layout.offset(name, int(slot)))}, align {align}")

    def do_poke(self, n: Node, i: Instruction) -> None:
        super().do_poke(n, i)
        for u in [u for u in self.env if u[0] == n.attr]:
            del self.env[u]

    # -- effects
    def do_when(self, n: Node, i: Instruction) -> None:
        if not self.leaves(n.attr[0]):
            return super().do_when(n, i)
        c = self.value(n.args[0], i)
        on = self.fresh("L")
        self.do(f"br i1 {c}, label %{self.leaving()}, label %{on}{UNLIKELY}")
        return self.start(on)

    def do_raise(self, n: Node, i: Instruction) -> None:
        self.do(f"br label %{self.leaving()}")
        self.start(self.fresh("L"))

    do_retry = do_raise

    def do_translate(self, n: Node, i: Instruction) -> None:
        access, size, seg = n.attr
        address = self.value(n.args[0], i)
        tlb = self.load("ptr", self.word("tlb_system")) if seg == "system" else "%tlb"
        index = self.let(f"and i64 {self.let(f'lshr i64 {address}, 12')}, {TLB_ENTRIES - 1}")
        entry = self.let(f"getelementptr [4 x i64], ptr {tlb}, i64 {index}")
        tag = self.load("i64", self.at(WRITE if access == "w" else READ, entry))
        last = address if size == 1 else self.let(f"add i64 {address}, {size - 1}")
        page = self.let(f"and i64 {last}, -4096")
        on = self.fresh("L")
        self.do(f"br i1 {self.let(f'icmp eq i64 {tag}, {page}')}, label %{on}, label %{self.leaving()}{LIKELY}")
        self.start(on)
        host = self.let(f"add i64 {address}, {self.load('i64', self.at(ADDEND, entry))}")
        self.remember(i.memo, id(n), self.let(f"inttoptr i64 {host} to ptr"))


def named(w: int, v: Any) -> Node:
    """A node for a value that has been computed."""
    return Node("const", w, (), v) if isinstance(v, int) else Node("ssa", w, (), v)
