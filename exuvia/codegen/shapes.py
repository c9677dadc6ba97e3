"""What a region is made of: blocks of instructions, where they lead, and what they want of what came before."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from exuvia.codegen.interpreter import is_next, walk_body
from exuvia.dsl.architecture import Form
from exuvia.dsl.record import FIELDS
from exuvia.dsl.state import PAGE_AT, Layout
from exuvia.dsl.trace import Place
from exuvia.dsl.values import Node, const, node, signed

ORDINARY = {"translate", "load", "store", "cas", "when", "rare", "raise", "retry", "loop", "peek", "poke",
            "host", "host_control", "set_host_control", "host_stack", "set_host_stack", "clear_host_stack", "fence", "relax",
            "virtual_time"}  # fmt: skip  # effects that regions do
PURE = {"add", "sub", "and", "or", "xor", "shl", "shr", "eq", "ult", "slt", "trunc", "zext"}
PAGE, LINE = 4096, 128
NEARBY = 1 << 24  # bytes from an instruction that nothing moves alone
MOST_RETURNS = 4  # places that a return looks for before it looks in the jump cache
Unit = tuple[str, int]  # a register as SSA sees it: its file and the slot that it begins at
Condition = tuple[str, int]  # what an instruction reads of the flags: its name and its width


class Record(NamedTuple):
    """One instruction: its form, the fields of its record as numbers, and which of them the region reads from the record instead."""

    form: Form
    fields: dict[str, int]
    moving: frozenset[str] = frozenset()


_LETTERS = {8: "Bb", 16: "Hh", 32: "Ii", 64: "Qq"}
_UNPACK = struct.Struct("<8x" + "".join(_LETTERS[w][signed] for _, w, signed in FIELDS.values())).unpack  # they follow each other
_SIGNED = [name for name, (_, _, signed) in FIELDS.items() if signed]


def fields_of(record: bytes) -> dict[str, int]:
    """All fields of a record's 32 bytes."""
    fields = dict(zip(FIELDS, _UNPACK(record)))
    for name in _SIGNED:
        fields[name] &= (1 << 64) - 1
    return fields


def moving(form: Form, fields: dict[str, int], code: bytes) -> dict[str, tuple[int, int]]:
    """Constants that differ where a kernel lies elsewhere after each boot: field -> (place in the code, bytes).

    They look like its addresses, or stand for what stays where it is, far from the instruction that counts from itself to there.
    """
    found = {}
    if form.address is not None and fields["imm"] >= form.address.least:
        return {"imm": (form.address.place, form.address.size)}
    for name, sizes in (("imm", (4, 8)), ("disp", (4,))):
        v = signed(fields[name], 64)
        if name == "imm" and form.targets:
            continue
        said = [v] if -1 << 31 <= v < -NEARBY else []
        if name == "disp" and abs(v) >= NEARBY:
            said.append(v - fields["off"] - fields["len"])
        for size, value in ((size, value) for value in said for size in sizes):
            at = code.rfind((value & (1 << 8 * size) - 1).to_bytes(size, "little"))
            if at > 0 and (name == "disp" or at + size == len(code)):
                found[name] = at, size
                break
    return found


@dataclass
class Block:
    """A block of the region. `ways` are the blocks that its links lead to, None for those outside.

    Places are counted from the start of one of the region's pages.
    """

    offset: int
    records: list[Record]
    links: list[int]  # of the target first
    entry: bool = False
    whole: int = 0  # records of the interpreter's block: where its links stand
    falls: bool = False
    guard: int = 0  # records before the first, where the instruction stands over two pages
    witness: int = 0  # then, a block of the second page that is dropped when the instruction's bytes there are written
    verified: set[int] = field(default_factory=set)  # pages that are known to be those of the region when the block is reached
    ways: list[int | None] = field(default_factory=list)
    returns: list[int] = field(default_factory=list)  # blocks behind calls that its computed jump may go to, if it is a return
    before: list[int] = field(default_factory=list)
    wants: set[Unit] = field(default_factory=set)  # registers that it or what follows reads before writing
    flags: bool = True  # may the region be left while the flags are those with which the block was reached?
    conditions: set[Condition] = field(default_factory=set)  # that it or what follows reads of those
    carried: set[Unit] = field(default_factory=set)  # of those, the ones that the state need not have when the block is reached
    settled: bool = False  # its only link is where a jump leads that is `fixed`: the records have none

    @property
    def page(self) -> int:
        """Where its page begins."""
        return self.offset & -PAGE

    @property
    def direct(self) -> bool:
        """Does the region go on along the links behind the last of its records?"""
        return self.settled or linked(self.records[-1].form)

    def onwards(self) -> list[int]:
        """The blocks of the region that it leads to."""
        return [w for w in self.ways if w is not None] + self.returns


def ordinary(form: Form) -> bool:
    """Can a region do this instruction itself?"""
    if any(n.op not in ORDINARY for n in done_here(form.trace.body)) or ("mode", 0, 64) in form.trace.env:
        return False
    pc = form.trace.env.get(("pc", 0, 64))
    return pc is None and not form.ends or pc is not None and not again(pc)


def left_for(n: Node) -> bool:
    """Is it a branch that a region is left for, whatever stands in it?"""
    return n.op == "when" and bool(n.attr[0]) and n.attr[0][0].op == "rare" and bool(n.attr[0][0].attr)


def done_here(body: list[Node]) -> list[Node]:
    """All effects, those in branches too, except in branches that a region is left for."""
    found = []
    for n in body:
        found.append(n)
        if n.op in ("when", "loop") and not left_for(n):
            found += done_here(n.attr[0])
    return found


def again(pc: Node) -> bool:
    """Does the instruction come back to itself?"""
    return pc.op == "this_pc" or pc.op in ("select", "merge") and any(map(again, pc.args[1:]))


def ways(form: Form) -> int:
    """How many links stand behind the record of an instruction that ends its block."""
    pc = form.trace.env.get(("pc", 0, 64))
    if pc is None:
        return 0
    return int(form.targets) + int(pc.op in ("select", "merge") and is_next(pc.args[2]))


def linked(form: Form) -> bool:
    """Does the region go on along the block's links after this instruction, not to an address that it computes?"""
    pc = form.trace.env.get(("pc", 0, 64))
    if pc is not None and pc.op in ("select", "merge") and is_next(pc.args[2]):
        pc = pc.args[1]
    return pc is None or pc.op == "target" or is_next(pc)


def meant(form: Form) -> set[str]:
    """The fields of its record that say something; parts of an address may stand in others."""
    use = uses(form)
    nodes = every([*form.trace.env.values()] + [a for n in walk_body(form.trace.body) for a in n.args])
    slots = {place[1] for place in (*use.got, *use.put) if isinstance(place[1], str)}
    return slots | {n.attr for n in nodes if n.op == "field"} | {"slot", "off", "len"}


def fixed(form: Form) -> bool:
    """Does it jump to an address that depends on nothing but its record and where it stands: one that is known where that is?"""
    pc = form.trace.env.get(("pc", 0, 64))
    return pc is not None and pc.op in PURE and all(n.op in PURE or n.op in ("this_pc", "next_pc", "field", "const") for n in every([pc]))


def destination(form: Form, fields: dict[str, int], page: int) -> int:
    """The address to which such a jump leads from a place on the page at a linear address."""
    here = page + fields["off"]
    leaves = {"this_pc": here, "next_pc": here + fields["len"]}

    def at(n: Node) -> Node:
        if n.op == "field":
            return const(fields[n.attr], n.w)
        return const(leaves[n.op], n.w) if n.op in leaves else node(n.op, n.w, *map(at, n.args), attr=n.attr) if n.args else n

    to: int = at(form.trace.env["pc", 0, 64]).attr
    return to


def usual(n: Node) -> bool:
    """An effect that never leaves the instruction."""
    if n.op in ("when", "rare"):
        return n.attr[0][-1].op not in ("raise", "retry") if n.op == "when" else not n.attr
    return n.op in ORDINARY and n.op not in ("translate", "cas", "raise", "retry")


class Registers:
    """Which places of the state are SSA values in a region."""

    def __init__(self, layout: Layout, no_index: int) -> None:
        self.layout, self.no_index = layout, no_index
        self.cached = alone(layout)

    def concrete(self, place: Place, fields: dict[str, int]) -> Place:
        """The place with its record field replaced by the number."""
        name, slot, w = place
        return (name, fields[slot], w) if isinstance(slot, str) else place

    def unit(self, place: Place) -> Unit | None:
        """The SSA register that the place is, or is part of; None for what lives in memory only."""
        name, slot, _ = place
        if name not in self.cached or self.zero(place) or self.page(place) or (name, slot) in self.layout.sinks:
            return None
        assert isinstance(slot, int)
        return (name, slot & ~7) if self.layout.files[name].stride == 1 else (name, slot)

    def page(self, place: Place) -> bool:
        """Is it where the running block's page begins, as in addresses that are relative to the instruction?"""
        name, slot, _ = place
        return isinstance(slot, int) and self.layout.offset(name, slot) == PAGE_AT

    def zero(self, place: Place) -> bool:
        """Does the place read as zero, as the index of an address without one?"""
        return place[1] == self.no_index and self.layout.files[place[0]].stride == 1 or place[:2] in self.layout.zeros


@cache
def alone(layout: Layout) -> set[str]:
    """The architecture's register files that share no memory with others: those can be kept in SSA values."""
    owners: dict[int, set[str]] = {}
    for name in layout.declared:
        f = layout.files[name]
        for slot in range(f.count):
            for byte in range(f.width // 8 if f.stride > 1 else 1):
                owners.setdefault(f.offset + slot * f.stride + byte, set()).add(name)
    return set(layout.declared).difference(*(names for names in owners.values() if len(names) > 1))


class Uses(NamedTuple):
    """Places read, places written whole, conditions read, whether flags are set, whether the interpreter may have to do it; places written
    with something of the x87's status word."""

    got: set[Place]
    put: set[Place]
    conditions: set[Condition]
    sets_flags: bool
    may_leave: bool
    put_off: set[Place]


_uses: dict[int, tuple[Form, Uses]] = {}


def uses(form: Form) -> Uses:
    """What an instruction reads and writes."""
    if (known := _uses.get(id(form.trace))) is not None:
        return known[1]
    trace = form.trace
    body = walk_body(trace.body)
    roots: list[Node] = [a for n in body for a in n.args]
    for n in body:
        if n.op in ("when", "loop"):
            for m in n.attr[1]:
                roots.extend(m if n.op == "loop" else m.args)
    roots += trace.env.values()
    if trace.flags is not None:
        roots += trace.flags.args
    got: set[Place] = set()
    conditions: set[Condition] = set()
    for n in every(roots):
        if n.op == "get":
            got.add(n.attr)
        elif n.op == "cc":
            conditions.add((n.attr, n.w))
    put: set[Place] = set()
    for place in trace.env:
        (put if place[2] >= 64 else got).add(place)
    may_leave = not ordinary(form) or any(not usual(n) for n in body)
    put_off = {
        place for place, n in trace.env.items() if place[0] != "var" and place[2] == 64 and any(x.op == "host_status" for x in every([n]))
    }
    found = Uses(got, put, conditions, trace.flags is not None, may_leave, put_off)
    _uses[id(trace)] = form, found
    return found


def every(roots: Iterable[Node]) -> list[Node]:
    """All nodes of expressions, each once."""
    seen: dict[int, Node] = {}
    todo = list(roots)
    while todo:
        n = todo.pop()
        if id(n) in seen:
            continue
        seen[id(n)] = n
        todo.extend(n.args)
    return list(seen.values())


def calls(records: list[Record], delayed: str | None) -> bool:
    """Does a block's last instruction jump and keep, anywhere, where the next one stands? One with a delay slot does so before that."""
    if ("pc", 0, 64) not in records[-1].form.trace.env:
        return False
    first = [r for r in records[-3:-2] if not r.fields["len"]]
    return keeps(records[-1].form, "next_pc", ("pc",)) or any(keeps(r.form, "this_pc", (delayed,)) for r in first)


def keeps(form: Form, what: str, but: tuple[str | None, ...]) -> bool:
    """Is such an address written or handed on, except to where execution goes on?"""
    trace = form.trace
    roots = [a for n in done_here(trace.body) for a in n.args] + [v for place, v in trace.env.items() if place[0] not in but]
    return any(n.op == what for n in every(roots))


def connect(blocks: list[Block], delayed: str | None = None) -> None:
    """Where each block leads, inside and outside."""
    at = {b.offset: k for k, b in enumerate(blocks)}
    behind: dict[int, int] = {}  # a block that calls -> the block behind it
    for k, b in enumerate(blocks):
        if b.guard:
            b.witness = next(j for j, other in enumerate(blocks) if witnesses(b.offset, other.offset))
        b.ways = [None] * len(b.links)
        if len(b.records) < b.whole:  # the interpreter does the rest, and comes back where it can
            for offset in b.links:
                if (w := at.get(offset)) is not None:
                    blocks[w].entry = True
            continue
        last = b.records[-1]
        if b.direct:
            b.ways = [at.get(offset) for offset in b.links]
        if calls(b.records, delayed) and (w := at.get(b.page + last.fields["off"] + last.fields["len"])) is not None:
            behind[k] = w
    for k, w in behind.items():
        blocks[w].entry = True
        for r in returning(blocks, behind, blocks[k].ways):
            if len(blocks[r].returns) < MOST_RETURNS and w not in blocks[r].returns:
                blocks[r].returns.append(w)
    for k, b in enumerate(blocks):
        for v in b.onwards():
            blocks[v].before.append(k)
    for b in blocks:
        b.entry = b.entry or not b.before or any(blocks[p].offset >= b.offset for p in b.before)


def witnesses(crossing: int, other: int) -> bool:
    """Does a block on the second page of an instruction over two begin on its first line of code?"""
    return 0 <= other - (crossing & -PAGE) - PAGE < LINE


def returning(blocks: list[Block], behind: dict[int, int], starts: list[int | None]) -> list[int]:
    """The blocks with computed jumps that are reached from there, calls counted as done."""
    todo, seen, found = [w for w in starts if w is not None], set(starts), []
    while todo:
        k = todo.pop()
        b = blocks[k]
        if k in behind:
            onwards = [behind[k]]
        elif len(b.records) == b.whole and not b.direct:
            found.append(k)
            continue
        else:
            onwards = [w for w in b.ways if w is not None]
        todo += [w for w in onwards if w not in seen]
        seen.update(onwards)
    return found


def may_stop(b: Block, to: Block) -> bool:
    """Can the region be left between two of its blocks: to look at the clock, or because a page is no longer where it was?"""
    return to.offset <= b.offset or to.page != b.page


def liveness(blocks: list[Block], registers: Registers) -> None:
    """Backwards until nothing changes: wanted registers and conditions; and whether all flags are wanted, which leaving the region does."""
    facts = []
    for b in blocks:
        reads: set[Unit] = set()
        writes: set[Unit] = set()
        conditions: set[Condition] = set()
        flags, killed = bool(b.guard), False
        for r in b.records:
            use = uses(r.form)
            for place in use.got:
                if (u := registers.unit(registers.concrete(place, r.fields))) is not None and u not in writes:
                    reads.add(u)
            for place in use.put:
                if (u := registers.unit(registers.concrete(place, r.fields))) is not None:
                    writes.add(u)
            if not killed:
                flags |= use.may_leave
                conditions |= use.conditions
            killed |= use.sets_flags
        facts.append((reads, writes, flags, conditions, killed))
        b.wants, b.flags, b.conditions = set(reads), flags, conditions
    changed = True
    while changed:
        changed = False
        for b, (reads, writes, flags, conditions, killed) in zip(reversed(blocks), reversed(facts), strict=True):
            onwards = [blocks[w] for w in b.onwards()]
            wants = reads | {u for o in onwards for u in o.wants} - writes
            if not killed:
                flags |= len(b.records) < b.whole or not b.ways or None in b.ways or any(o.flags or may_stop(b, o) for o in onwards)
                conditions = conditions.union(*(o.conditions for o in onwards))
            if (wants, flags, conditions) != (b.wants, b.flags, b.conditions):
                b.wants, b.flags, b.conditions, changed = wants, flags, conditions, True


def carry(blocks: list[Block], registers: Registers) -> None:
    """Forwards until nothing changes: what was written on some way to a block, and is wanted there."""
    written = []
    for b in blocks:
        places = {registers.concrete(place, r.fields) for r in b.records for place in r.form.trace.env if place[0] not in ("var", "pc")}
        written.append({u for place in places if (u := registers.unit(place)) is not None})
    changed = True
    while changed:
        changed = False
        for b in blocks:
            found = {u for p in b.before for u in (written[p] | blocks[p].carried) if u in b.wants}
            if found != b.carried:
                b.carried, changed = found, True


def asked(b: Block) -> set[int]:
    """The second page of an instruction over two, which is verified before it."""
    return {b.page + PAGE} if b.guard else set()


def verify(blocks: list[Block]) -> None:
    """Forwards until nothing changes: pages on which every way to a block has been, or that were asked for."""
    pages = {b.page for b in blocks}
    for b in blocks:
        b.verified = {b.page} if b.entry else pages
    changed = True
    while changed:
        changed = False
        for b in blocks:
            for w in map(blocks.__getitem__, b.onwards()):
                if not w.verified <= (found := b.verified | asked(b) | {w.page}):
                    w.verified, changed = w.verified & found, True
