"""Compiled regions: hot blocks of a page, or of a few, as one native function, guest registers in SSA values.

Behind it stands a *door* for each entry, which has a handler's signature and stands in the first word of that block's head. Registers are
SSA values, written to the state where the region is left; flags stay a rule and its arguments until somebody wants them. Whatever is
not usual (a TLB miss, a fault, an instruction with effects of its own) goes to the record of that instruction: the interpreter does it,
with an exact state.

Passes, in order: `connect` (where blocks lead), `liveness` (which registers and flags a block wants), `carry` (which registers reach it
without being in the state), `verify` (which pages are known to be still where they were), then the text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from exuvia.codegen.addresses import Access, Addresses, plan
from exuvia.codegen.conditions import Conditions, conjuncts, plainly
from exuvia.codegen.emit import LIKELY, UNLIKELY
from exuvia.codegen.flags import Arrived, Pending, later, named, small
from exuvia.codegen.hostfloats import Instruction
from exuvia.codegen.interpreter import is_next, walk_body
from exuvia.codegen.joins import Way
from exuvia.codegen.layout import (
    ACCESS_SYSTEM,
    ACCESS_WRITE,
    ADDEND,
    HEAD,
    READ,
    REGION_BLOCK,
    REGION_HEADS,
    REGION_MASK,
    REGION_PAGE,
    TLB_ENTRIES,
    WRITE,
    runtime_at,
)  # fmt: skip
from exuvia.codegen.native import ARGS
from exuvia.codegen.shapes import PAGE, Block, Record, Unit, asked, carry, connect, left_for, liveness, uses, verify
from exuvia.codegen.ssa import InValues
from exuvia.codegen.status import waits
from exuvia.dsl.architecture import Form
from exuvia.dsl.record import LINK, RECORD
from exuvia.dsl.state import PAGE_AT, Layout
from exuvia.dsl.trace import Place, Trace
from exuvia.dsl.values import Node, node

DOOR = "door"  # and a block's number: names of functions


class Region(InValues):
    """Writes one region."""

    further = ", ptr poison"

    def __init__(self, layout: Layout, no_index: int, mask: int, blocks: list[Block], name: str) -> None:
        super().__init__(layout, no_index, mask, blocks)
        self.name = name
        self.pending: Pending | Arrived | None = None
        self.saved = True  # the state's flags are right

    def text(self) -> str:
        """LLVM text of the region."""
        connect(self.blocks, self.layout.delayed)
        liveness(self.blocks, self.registers)
        carry(self.blocks, self.registers)
        verify(self.blocks)
        self.start("entry")
        self.do(f"%page = load i64, ptr {self.at(PAGE_AT)}")
        self.find_table()
        entries = [k for k, b in enumerate(self.blocks) if b.entry]
        self.do(f"indirectbr ptr %door, [ {', '.join(f'label %E{k}' for k in entries)} ]")
        for k in entries:
            self.start(f"E{k}")
            self.env = {}
            self.arrive(k, "%ic")
        done: set[int] = set()
        for k in range(len(self.blocks)):
            if k in self.incoming and k not in done:  # others are behind conditions that never hold
                self.meet(k)
                self.tree(k, done)
        return self.function_of(self.name, self.fill(self.out + self.cold)) + "".join(map(self.door, entries))

    def function_of(self, name: str, body: list[str]) -> str:
        """A function's text. Who calls a door knows nothing of `%door`, nor do those that are gone to."""
        text = "\n".join(body)
        return f"define preserve_nonecc i64 @{name}({ARGS}, ptr %door) nounwind {{\n{text}\n}}\n"

    def door(self, k: int) -> str:
        """What stands in the head of an entry: it puts the state's page to the region's, which is put right again where that is left."""
        self.out, self.cold = [], []
        self.start(f"D{k}")
        self.on_time("%ic", lambda: self.tail_head("%op", "%ic"))
        page = self.blocks[k].page
        settled = any(b.settled for b in self.blocks)
        if page or settled:
            self.do(f"%page = sub i64 {self.load('i64', self.at(PAGE_AT))}, {page}")
        if settled:  # at another address its jumps lead elsewhere
            self.find_table()
            on, off = self.fresh("L"), self.fresh("C")
            self.branch(self.let(f"icmp eq i64 {self.linear(0)}, {self.load('i64', self.at(REGION_PAGE, '%tab'))}"), on, off)
            self.aside(off, lambda: self.tail_head("%op", "%ic"))
            self.start(on)
        if page:
            self.do(f"store i64 %page, ptr {self.at(PAGE_AT)}")
        self.go_to(f"@{self.name}", "%op", "%ic", f", ptr blockaddress(@{self.name}, %E{k})")
        return self.function_of(f"{DOOR}{k}", self.out + self.cold)

    def find_table(self) -> None:
        """The head says which."""
        word = self.load("i64", self.at(HEAD["region"], "%op"))
        self.do(f"%tab = inttoptr i64 {self.let(f'and i64 {word}, {REGION_MASK}')} to ptr")

    # -- the blocks
    def joins(self, k: int) -> bool:
        """Does the block begin with phis? Others continue their only predecessor."""
        b = self.blocks[k]
        return b.entry or len(b.before) != 1

    def meet(self, k: int) -> None:
        self.start(f"B{k}")
        self.out.append(f"PHIS {k}")
        self.env = {u: f"%b{k}.{u[0]}.{u[1]}" for u in sorted(self.blocks[k].wants)}
        self.dirty = {u: self.env[u] for u in sorted(self.blocks[k].carried)}
        self.forget()
        for u, high in self.entered(k):
            if high is not None:
                self.know(f"%b{k}.{u[0]}.{u[1]}.wide", self.env[u], self.env[high])
        self.pending, self.saved = Arrived(k, self.blocks[k].conditions), False
        self.ic = f"%b{k}.ic"
        self.checked: list[tuple[Access, Any]] = []  # checks that have been done, and what they gave
        self.conditions = Conditions(self, {})
        self.addresses = Addresses(self.registers, {})

    def tree(self, k: int, done: set[int]) -> None:
        """The block and those that only it leads to."""
        done.add(k)
        self.b, self.k = self.blocks[k], k
        self.exits: dict[Any, tuple[Pending | Arrived | None, bool, dict[Unit, Any], list[tuple[str, int]]]] = {}
        self.ic = self.let(f"add i64 {self.ic}, {self.b.whole}")
        self.accesses = plan(self.addresses, self.b)
        self.index = 0
        if self.b.guard:
            on = self.fresh("L")
            self.do(f"br i1 {self.there(self.b.witness)}, label %{on}, label %{self.leaving()}{LIKELY}")
            self.start(on)
        after: list[tuple[int, str, dict[Any, Any], dict[Unit, Any], Any, bool]] = []
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
        ic, checked, versions, facts, wholes = self.ic, self.checked, self.addresses.versions, self.conditions.known, self.wholes
        for child, label, env, dirty, pending, saved in after:
            self.start(label)
            self.env, self.dirty, self.pending, self.saved, self.ic = env, dirty, pending, saved, ic
            self.checked, self.addresses = list(checked), Addresses(self.registers, versions)
            self.conditions, self.wholes = Conditions(self, dict(facts)), dict(wholes)
            self.tree(child, done)

    def write_exits(self) -> None:
        """The cold ends of the block: flags into the state where they are not there yet, then the record's own handler."""
        ways: list[tuple[str, str]] = []
        k, ic = self.k, self.ic
        for n, way in enumerate(self.exits.values()):

            def cold(way: tuple[Pending | Arrived | None, bool, dict[Unit, Any], list[tuple[str, int]]] = way) -> None:
                pending, saved, dirty, edges = way
                places = (f"[ {0 if self.b.guard else index * RECORD}, %{source} ]" for source, index in edges)
                at = self.let("phi i64 " + ", ".join(places))
                self.complete(dirty, pending, saved)
                ways.append((at, self.label))
                self.do(f"br label %Y{k}")

            self.aside(f"X{k}.{n}", cold)
        if not ways:
            return

        def last() -> None:
            at = self.let("phi i64 " + ", ".join(f"[ {at}, %{label} ]" for at, label in ways))
            head = self.head(k)
            self.turn(self.b)
            self.do(f"store ptr {head}, ptr {self.word('current')}")
            op = self.let(f"getelementptr i8, ptr {self.body(k)}, i64 {at}")
            self.tail_to(op, ic)

        self.aside(f"Y{k}", last)

    def leaving(self, source: str = "") -> str:
        """The label to go to from here, or from `source`, for the interpreter to do this instruction; registers are written there."""
        key = id(self.pending) if not self.saved else 0, tuple(self.dirty.items())
        if key not in self.exits:
            self.exits[key] = self.pending, self.saved, dict(self.dirty), []
        label = f"X{self.k}.{list(self.exits).index(key)}"
        self.exits[key][3].append((source or self.label, self.index))
        return label

    def head(self, k: int) -> str:
        return self.load("ptr", self.at(REGION_HEADS + REGION_BLOCK * k, "%tab"))

    def tail_to(self, op: str, ic: Any) -> None:
        self.go_to(self.load("ptr", op), op, ic)

    def tail_head(self, op: str, ic: Any) -> None:
        """Enter a block without its region: the interpreter's way, which looks at the deadline."""
        self.go_to(self.load("ptr", self.at(runtime_at("h_head"))), op, ic)

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
        values = {u: self.unit_value(u) if high is None else self.whole(*self.both_values(u, high)) for u, high in self.entered(k)}
        conditions = {name: self.condition(name, w) for name, w in sorted(self.blocks[k].conditions)}
        way = Way(self.label, values, ic, conditions=conditions)
        if self.blocks[k].flags and not self.saved:
            if isinstance(self.pending, Pending):
                kind, leaves = self.pending.leaves()
                way = way._replace(kind=kind, args=leaves)
            elif self.pending is not None:
                way = way._replace(arrived=self.pending.block)
        self.incoming.setdefault(k, []).append(way)
        self.do(f"br label %B{k}")

    def go(self, link: int) -> None:
        """Along a link of the block."""
        if (w := self.b.ways[link]) is not None:
            return self.enter(w)
        self.write_registers()
        self.keep_flags()
        if self.b.settled or self.b.links[link] & -PAGE != self.b.page:
            return self.jump_to(self.linear(self.b.links[link]))
        self.turn(self.b)
        links = RECORD * (self.b.guard + self.b.whole + self.b.falls) + LINK * link
        self.do(f"store ptr {self.head(self.k)}, ptr {self.word('current')}")
        return self.tail_to(self.load("ptr", self.at(links, self.body(self.k))), self.ic)

    def enter(self, w: int) -> None:
        """To a block of the region."""
        if self.blocks[w].page not in self.b.verified | asked(self.b):
            dirty, pending, saved, ic = dict(self.dirty), self.pending, self.saved, self.ic

            def elsewhere() -> None:
                self.complete(dirty, pending, saved)
                self.jump_to(self.linear(self.blocks[w].offset), ic)

            on, off = self.fresh("L"), self.fresh("C")
            self.branch(self.there(w), on, off)
            self.aside(off, elsewhere)
            self.start(on)
        if not self.joins(w):
            label = f"B{w}"
            self.after.append((w, label, dict(self.env), dict(self.dirty), self.pending, self.saved))
            return self.do(f"br label %{label}")
        target = self.blocks[w]
        self.write_registers(but=target.carried)
        if target.offset <= self.b.offset:
            pending, saved, dirty, ic = self.pending, self.saved, dict(self.dirty), self.ic

            def late() -> None:
                self.complete(dirty, pending, saved)
                self.turn(self.blocks[w])
                self.tail_head(self.head(w), ic)

            self.on_time(self.ic, late)
        return self.arrive(w, self.ic)

    def there(self, w: int) -> str:
        """Is the block where it was when the region was put into place, as the jump cache knows it?"""
        entry, known = self.probe(self.linear(self.blocks[w].offset))
        same = self.let(f"icmp eq ptr {self.load('ptr', self.at(8, entry))}, {self.head(w)}")
        return self.let(f"and i1 {known}, {same}")

    def turn(self, b: Block) -> None:
        """The state's page is to be the block's."""
        if b.page:
            self.do(f"store i64 {self.linear(b.page)}, ptr {self.at(PAGE_AT)}")

    def jump_to(self, pc: Any, ic: Any = None) -> None:
        """To an address that has been computed."""
        self.tail_to(self.found(pc, ic or self.ic), ic or self.ic)

    def jump(self, pc: Any) -> None:
        """Likewise, at a block's end: behind a call of the region, if it is a return from one."""
        for w in self.b.returns:
            self.leave_if(self.let(f"icmp eq i64 {pc}, {self.linear(self.blocks[w].offset)}"), partial(self.enter, w))
        self.keep_flags()
        self.write_registers()
        self.jump_to(pc)

    def both(self, c: Any, first: int, second: int) -> None:
        """A conditional branch along two links. What leads out of the region was seldom seen, and shall not lie in between."""
        stays, goes_on = (self.b.ways[link] is not None for link in (first, second))
        self.leave_if(c, partial(self.go, first), "" if stays == goes_on else LIKELY if stays else UNLIKELY)
        self.go(second)

    def leave_if(self, c: Any, go: Callable[[], None], weight: str = "") -> None:
        """Go elsewhere where the condition holds; the text goes on with where it does not."""
        yes, no = self.fresh("L"), self.fresh("L")
        self.do(f"br i1 {c}, label %{yes}, label %{no}{weight}")
        env, saved, dirty, mark = dict(self.env), self.saved, dict(self.dirty), len(self.log)
        self.start(yes)
        go()
        self.leave_scope(mark)
        self.env, self.saved, self.dirty = env, saved, dirty
        self.start(no)

    # -- instructions
    def instruction(self, r: Record, last: bool) -> bool:
        """One instruction; True if it ended the block."""
        self.fields, self.moving = r.fields, r.moving
        self.pointers = {}
        trace = r.form.trace
        i = Instruction(trace)
        self.expect(trace.body)
        self.begin(uses(r.form))
        self.effects(trace.body, i)
        pc = trace.env.get(("pc", 0, 64))
        if pc is None:
            self.write_back(i, r.form)
            return False
        first, second, c = (0, None, None) if self.b.settled and last else self.follow(pc, r.form.targets, i)
        target = None if first is not None else self.value(pc, i)
        self.write_back(i, r.form)
        if first is None:
            self.jump(target)
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

    def write_back(self, i: Instruction, form: Form) -> None:
        """What the instruction writes, once all of it is computed."""
        trace = form.trace
        writes: list[tuple[Place, Any]] = []
        put_off = uses(form).put_off
        for place, n in trace.env.items():
            if place in put_off and waits(expression := self.unfinished(n, i)):
                writes.append((place, expression))
            elif place[0] not in ("var", "pc"):
                number = self.counting(n, i) if place[2] == 64 else None
                v = self.counted(number) if number is not None else self.vec(n, i) if place[2] == 128 else self.value(n, i)
                writes.append((place, v))
        pending = self.pending
        if trace.flags is not None:
            pending = Pending(self.rules, trace.flags.rule, tuple(self.argument(a, i) for a in trace.flags.args))
        for place, v in writes:
            self.put(self.registers.concrete(place, self.fields), v)
        if pending is not self.pending:
            self.pending, self.saved = pending, False

    def argument(self, n: Node, i: Instruction) -> Node:
        """An argument of a rule of flags: what has been computed, and around it what can wait."""
        found = self.unfinished(n, i)
        return found if small(found) else named(n.w, self.value(n, i))

    def unfinished(self, n: Node, i: Instruction) -> Node:
        n = self.settled(n, i)
        if n.op == "host_status":
            return self.status_of(n, i)
        if n.op == "cc" and self.pending is not None:
            return self.pending.want(n.attr)
        if n.op == "const" or id(n) in i.memo or not later(n):
            return named(n.w, self.value(n, i))
        return node(n.op, n.w, *(self.unfinished(a, i) for a in n.args), attr=n.attr)

    def condition(self, name: str, w: int) -> Any:
        """What the flags say here."""
        trace = Trace()
        trace.rules = self.rules
        return self.value(Node("cc", w, (), name), Instruction(trace))

    def keep_flags(self) -> None:
        if self.pending is not None and not self.saved:
            self.save_flags(self.pending)
            self.saved = True

    def complete(self, dirty: dict[Unit, Any], pending: Pending | Arrived | None, saved: bool) -> None:
        """In a cold end: what the state does not have yet."""
        self.write(dirty)
        if pending is not None and not saved:
            self.save_flags(pending)

    # -- values
    def value_ssa(self, n: Node, i: Instruction) -> Any:
        return n.attr

    def value_cc(self, n: Node, i: Instruction) -> Any:
        if self.pending is not None:
            return self.value(self.pending.want(n.attr), i)
        return super().value_cc(n, i)

    # -- effects
    def expect(self, body: list[Node]) -> None:
        """Register files that are written at once inside of branches are in the state alone: both ways out of the branch agree then. What
        was put off is not done under another control word, nor does it raise again what is cleared."""
        if any(n.op in ("set_host_stack", "clear_host_stack") for n in walk_body(body)):
            self.know_all()
        branches = [n for n in body if n.op in ("when", "loop") and not (left_for(n) and self.conditions.certain(n.args[0]) is not True)]
        files = {n.attr for b in branches for n in walk_body(b.attr[0]) if n.op == "poke"} & self.registers.cached
        if files:
            self.write_registers()
            self.env = {u: v for u, v in self.env.items() if u[0] not in files}

    def do_when(self, n: Node, i: Instruction) -> None:
        body, merges, _ = n.attr
        if (known := self.conditions.certain(n.args[0])) is not None and not (known and self.leaves(body)):
            return self.settle(n, i, known)
        if not self.leaves(body) and not left_for(n):
            self.expect_branch(body)
            self.inside += 1
            super().do_when(n, i)
            self.inside -= 1
            return None
        condition, holds = plainly(n.args[0])
        for part in [n.args[0]] if holds else conjuncts(condition):
            if not holds and self.conditions.certain(part):
                continue
            c = self.value(part, i)
            if isinstance(c, int) and not (c and self.leaves(body)):
                if bool(c) != holds:
                    continue
                return self.settle(n, i, True)
            on = self.fresh("L")
            out, go = (self.leaving(), on) if holds else (on, self.leaving())
            self.do(f"br i1 {c}, label %{out}, label %{go}{UNLIKELY if holds else LIKELY}")
            self.start(on)
            base, sense = plainly(part)
            if not self.inside:
                self.conditions.learn(base, sense != holds)
        for m in merges:
            i.keep.append(m)
            self.remember(i.memo, ("is", id(m)), m.args[2])
        return None

    def do_loop(self, n: Node, i: Instruction) -> None:
        self.expect_branch(n.attr[0])
        self.inside += 1
        super().do_loop(n, i)
        self.inside -= 1

    def do_raise(self, n: Node, i: Instruction) -> None:
        self.do(f"br label %{self.leaving()}")
        self.start(self.fresh("L"))

    do_retry = do_raise

    def do_translate(self, n: Node, i: Instruction) -> None:
        kind, size, _ = n.attr
        address = self.value(n.args[0], i)
        access = self.accesses.get((self.index, id(n)))
        if access is None:
            addend = self.look(address, 0, size, kind, n)
        else:
            addend = self.covered(access, size)
            if addend is None:
                addend = self.look(address, access.low - access.constant, access.high - access.constant, access.kind, n)
                self.checked.append((access, addend))
        host = self.let(f"add i64 {address}, {addend}")
        self.remember(i.memo, id(n), self.let(f"inttoptr i64 {host} to ptr"))

    def covered(self, access: Access, size: int) -> Any:
        """What to add to the address, if a check before has answered for it; what may be written may be read."""
        for done, addend in self.checked:
            if (
                done.terms == access.terms
                and done.low <= access.constant
                and access.constant + size <= done.high
                and done.kind >= access.kind
            ):
                return addend
        return None

    def look(self, address: Any, low: int, high: int, kind: str, n: Node) -> Any:
        """Look into the TLB: from `address` + low to + high all bytes lie in one page that can be accessed; what to add to addresses.

        `n` is the access. Where it misses the page is walked to, once; if it is not there then, the region is left."""
        tlb = self.load("ptr", self.word("tlb_system")) if n.attr[2] == "system" else "%tlb"
        first = self.let(f"add i64 {address}, {low}") if low else address
        last = self.let(f"add i64 {address}, {high - 1}") if high > 1 else address
        # the first byte's page says which entry; it cannot hold the page behind it
        index = self.let(f"and i64 {self.let(f'lshr i64 {first}, 12')}, {TLB_ENTRIES - 1}")
        entry = self.let(f"getelementptr [4 x i64], ptr {tlb}, i64 {index}")
        tag_at = self.at(WRITE if kind == "w" else READ, entry)
        tag = self.load("i64", tag_at)
        page = self.let(f"and i64 {last}, -4096")
        hit = self.let(f"icmp eq i64 {tag}, {page}")
        on = self.fresh("L")
        if any(u[0] in self.layout.walked for u in self.env):  # a walk would change what has been read
            self.do(f"br i1 {hit}, label %{on}, label %{self.leaving()}{LIKELY}")
        else:
            off = self.fresh("C")
            out = self.leaving(off)
            self.branch(hit, on, off)
            self.aside(off, partial(self.refill, n, tlb, address, (tag_at, page), dict(self.dirty), (on, out)))
        self.start(on)
        return self.load("i64", self.at(ADDEND, entry))

    def refill(self, n: Node, tlb: str, address: Any, wanted: tuple[str, str], dirty: dict[Unit, Any], ways: tuple[str, str]) -> None:
        """In the cold part: have an access's page in the TLB, and go on if that is what was looked for. A walk reads the guest's single
        words, which may not be in the state yet, but none that pass with the instruction: the state must not see where a delay slot's
        branch leads. (preserve_allcc would not do: LLVM's functions lose the upper halves of vectors.)"""
        kind, size, seg = n.attr
        self.write({u: v for u, v in dirty.items() if self.layout.files[u[0]].count == 1 and u[0] not in self.layout.passing})
        word = size << 8 | (ACCESS_WRITE if kind == "w" else 0) | (ACCESS_SYSTEM if seg == "system" else 0)
        f = self.load("ptr", self.at(runtime_at("refill")))
        self.let(f"call preserve_mostcc i64 {f}(ptr %st, ptr {tlb}, i64 {address}, i64 {word})")
        tag = self.load("i64", wanted[0])
        self.branch(self.let(f"icmp eq i64 {tag}, {wanted[1]}"), *ways)
