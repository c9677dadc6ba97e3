"""Addresses as sums of registers and a constant: accesses that stand at a fixed distance from each other share one look into the TLB."""

from __future__ import annotations

from typing import NamedTuple

from exuvia.codegen.shapes import Block, Record, Registers, Unit
from exuvia.dsl.trace import Place
from exuvia.dsl.values import Node, signed

SPAN = 256  # bytes that one check may cover: the more, the likelier they lie in two pages
TERMS = 3
START = object()  # stands for where the region counts from
LOW = object()  # marks a sum's low bits, a term (LOW, bits, terms)
Terms = tuple[tuple[object, int], ...]  # what is added up: (a register's value, its factor)


class Sum(NamedTuple):
    """Registers' values times factors, and a constant."""

    terms: Terms
    constant: int


class Access(NamedTuple):
    """How an access is checked: the sum it is of, and what the check covers where it is the first of several."""

    terms: Terms
    constant: int
    low: int
    high: int
    kind: str


class Addresses:
    """Follows the registers of a block; `versions` are sums over what they held when its first predecessor began."""

    def __init__(self, registers: Registers, versions: dict[Unit, Sum]) -> None:
        self.registers, self.versions = registers, versions
        self.moving: frozenset[str] = frozenset()
        self.page = 0  # where the block's begins, counted as the region's places are

    def of(self, n: Node, fields: dict[str, int]) -> Sum | None:
        """The value as a sum of at most three terms."""
        if n.op == "const":
            return Sum((), signed(n.attr, n.w))
        if n.op == "field":
            return None if n.attr in self.moving else Sum((), signed(fields[n.attr], 64))
        if n.op == "get":
            place = self.registers.concrete(n.attr, fields)
            if self.registers.zero(place):
                return Sum((), 0)
            if self.registers.page(place):
                return Sum(((START, 1),), self.page)
            u = self.registers.unit(place)
            if u is None or place[2] != 64 or place[1] != u[1]:
                return None
            return self.versions.get(u, Sum(((u, 1),), 0))
        if n.op in ("add", "sub") and n.w == 64:
            a, b = (self.of(x, fields) for x in n.args)
            if a is None or b is None or n.op == "sub" and b.terms:
                return None
            return added(a, b) if n.op == "add" else Sum(a.terms, a.constant - b.constant)
        if n.op == "shl" and n.w == 64:
            a, b = (self.of(x, fields) for x in n.args)
            if a is None or b is None or b.terms or not 0 <= b.constant < 8:
                return None
            return Sum(tuple((t, f << b.constant) for t, f in a.terms), a.constant << b.constant)
        if n.op == "zext" and n.w == 64 and n.args[0].op == "trunc" and n.args[0].args[0].w == 64:
            a = self.of(n.args[0].args[0], fields)
            if a is None or not a.terms or not steady(terms := flat(a.terms, n.args[0].w)):
                return None
            return Sum((((LOW, n.args[0].w, terms), 1),), a.constant)
        return None

    def after(self, r: Record) -> None:
        """What registers hold when the instruction is done."""
        now: dict[Unit, Sum] = {}
        self.moving = r.moving
        for place, n in r.form.trace.env.items():
            concrete: Place = self.registers.concrete(place, r.fields)
            if place[0] in ("var", "pc") or (u := self.registers.unit(concrete)) is None:
                continue
            found = self.of(n, r.fields) if concrete[2] == 64 and concrete[1] == u[1] else None
            now[u] = found if found is not None else Sum(((object(), 1),), 0)
        self.versions = self.versions | now


def flat(terms: Terms, w: int) -> Terms:
    """The terms under a cut to w bits: cuts to as many or more below it say nothing."""
    found: dict[object, int] = {}
    for t, f in terms:
        for t2, f2 in t[2] if isinstance(t, tuple) and t[0] is LOW and t[1] >= w else ((t, 1),):
            found[t2] = found.get(t2, 0) + f * f2
    return ordered(found)


def steady(terms: Terms) -> bool:
    """Do two such sums lie on different pages where they differ by more than their constants do, because one was cut and came round?"""
    return len(terms) == 1 or not any(isinstance(t, tuple) and t[0] is LOW for t, _ in terms)


def ordered(terms: dict[object, int]) -> Terms:
    """Equal sums as equal tuples."""
    return tuple(sorted(terms.items(), key=lambda x: (id(type(x[0])), hash(x[0]))))


def added(a: Sum, b: Sum) -> Sum | None:
    """The sum of two."""
    terms = dict(a.terms)
    for t, f in b.terms:
        terms[t] = terms.get(t, 0) + f
    if len(terms) > TERMS:
        return None
    return Sum(ordered(terms), a.constant + b.constant)


def plan(addresses: Addresses, block: Block) -> dict[tuple[int, int], Access]:
    """For accesses that are done in any case, by record and node: what their check covers. `addresses` is moved to the block's end."""
    found: dict[tuple[int, int], Access] = {}
    groups: dict[Terms, list[tuple[int, int]]] = {}
    addresses.page = block.page
    for index, r in enumerate(block.records):
        addresses.moving = r.moving
        for n in r.form.trace.body:
            if n.op != "translate" or n.attr[2] == "system":
                continue
            if (s := addresses.of(n.args[0], r.fields)) is not None and steady(s.terms):
                key = index, id(n)
                found[key] = Access(s.terms, s.constant, s.constant, s.constant + n.attr[1], n.attr[0])
                groups.setdefault(s.terms, []).append(key)
        addresses.after(r)
    for group in groups.values():
        low, high, kind = 0, 0, ""
        lead = group[0]
        for key in group:
            a = found[key]
            wider = min(low, a.low), max(high, a.high)
            if kind and wider[1] - wider[0] <= SPAN:
                low, high, kind = *wider, max(kind, a.kind)
            else:
                lead, low, high, kind = key, a.low, a.high, a.kind
            found[lead] = found[lead]._replace(low=low, high=high, kind=kind)
    return found
