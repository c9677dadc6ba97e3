"""The check of a specification: what tracing alone does not notice in an instruction's text.

`problems(trace, ...)` returns sentences, one for each mistake: a fault after something was stored, a value used outside of its branch,
effects that cannot be reached, operands that the text does not use, fields that the encoding does not have, more memory accesses than
engines have room for (dsl/state.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exuvia.dsl.state import BOUNCE_BYTES, BOUNCES, MMIO_RESULTS
from exuvia.dsl.trace import ENDS, Flags, Place, Trace
from exuvia.dsl.values import Node

STORES = {
    "store": "a store to memory",
    "poke": "a register file write",
    "io_in": "a port read",
    "io_out": "a port write",
    "set_host_control": "a change of the host's control word",
    "set_host_stack": "a change of the host's control word",
    "clear_host_stack": "a change of the host's status word",
}
FAULTS = {"translate": "memory access that can fault", "raise": "fault"}
RESULTS = frozenset(("load", "translate", "cas", "peek", "host", "host_control", "host_stack", "io_in", "copy", "fill", "merge", "phi"))
KEPT = "a register file write that the fault keeps"
"""A branch that writes a register, then faults, means both: status bits that an exception sets."""
ALWAYS = frozenset(("len", "off", "slot"))
"""Fields that every record has."""


class Walk:
    """One pass over a trace's effects in order."""

    def __init__(self, keeps: bool = False) -> None:
        self.stores = {op: text for op, text in STORES.items() if not (keeps and op == "poke")}
        self.found: list[str] = []
        self.fields: set[str] = set()
        self.seen: set[int] = set()
        self.checked: set[Any] = set()  # translations and conditions of faults that stood before
        self.keys: dict[int, Any] = {}
        self.kept: list[Node] = []
        self.sizes: list[int] = []  # of the accesses, in bytes
        self.loops = 0

    # -- expressions
    def key(self, n: Node) -> Any:
        """Equal for expressions that are the same by structure; results of effects are only themselves."""
        if id(n) not in self.keys:
            self.kept.append(n)
            unique = id(n) if n.op in RESULTS else None
            attr = tuple(map(str, n.attr)) if isinstance(n.attr, list | tuple) else str(n.attr)
            self.keys[id(n)] = hash((n.op, n.w, attr, unique, *map(self.key, n.args)))
        return self.keys[id(n)]

    def use(self, roots: Iterable[Node], scope: set[int]) -> None:
        """Every value that the expressions need must be there already."""
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n.op in RESULTS:
                if id(n) not in scope:
                    self.say(f"the result of a {n.op} is used outside of the branch that makes it: give it to a Var inside")
                continue
            if id(n) in self.seen:
                continue
            self.kept.append(n)
            if not self.reaches(n):
                self.seen.add(id(n))
            if n.op == "field":
                self.fields.add(n.attr)
            elif n.op == "target":
                self.fields.add("imm")
            elif n.op == "get" and isinstance(n.attr[1], str):
                self.fields.add(n.attr[1])
            stack.extend(n.args)

    def reaches(self, n: Node) -> bool:
        """Does the expression depend on an effect? Those are looked at again in every scope."""
        memo = self.__dict__.setdefault("dependent", {})
        if id(n) not in memo:
            memo[id(n)] = n.op in RESULTS or any(self.reaches(a) for a in n.args)
        return bool(memo[id(n)])

    def say(self, text: str) -> None:
        """Each thing once."""
        if text not in self.found:
            self.found.append(text)

    def room(self) -> None:
        """Each access may need a buffer, and a device's answer for each 8 bytes; three more for each of two operands over a page's end."""
        if len(self.sizes) > BOUNCES or sum(-(-size // 16) * 16 for size in self.sizes) > BOUNCE_BYTES:
            self.say(f"{len(self.sizes)} memory accesses of {sum(self.sizes)} bytes: engines have room for {BOUNCES} and {BOUNCE_BYTES}")
        if (answers := sum(-(-size // 8) for size in self.sizes) + 6) > MMIO_RESULTS:
            self.say(f"a device may have to give {answers} answers: engines have room for {MMIO_RESULTS}")

    # -- effects
    def body(self, effects: list[Node], scope: set[int], stored: str) -> str:
        """What was stored so far ('' for nothing) when the effects are done."""
        for i, n in enumerate(effects):
            if n.op == "when":
                stored = self.branch(n, scope, stored)
                continue
            if n.op == "loop":
                stored = self.repeat(n, scope, stored)
                continue
            self.use(n.args, scope)
            if n.op == "translate":
                self.sizes.append(n.attr[1])
                if self.loops:
                    self.say("a memory access inside of a loop, which may come to any number of them")
                k = n.attr[0], self.key(n.args[0])
                if stored and k not in self.checked and ("w", k[1]) not in self.checked:
                    self.say(f"a {FAULTS[n.op]} after {stored}: call .writable() or .read() on it first")
                self.checked.add(k)
            elif n.op == "raise" and stored not in ("", KEPT):
                self.say(f"a {FAULTS[n.op]} after {stored}: raise it first")
            elif n.op in self.stores:
                stored = KEPT if n.op == "poke" and not stored and effects[-1].op == "raise" else STORES[n.op]
            if n.op in ENDS and i + 1 < len(effects):
                self.say(f"nothing can follow {n.op}")
            scope.add(id(n))
        return stored

    def branch(self, n: Node, scope: set[int], stored: str) -> str:
        body, merges, commit = n.attr
        self.use(n.args, scope)
        inner = set(scope)
        again = body[-1].op == "raise" and ("raise", self.key(n.args[0])) in self.checked
        after = self.body(body, inner, "" if again else stored)
        if body[-1].op == "raise":
            self.checked.add(("raise", self.key(n.args[0])))
        for m in merges:
            self.use((m.args[1],), inner)
            self.use((m.args[0], m.args[2]), scope)
        scope.update(map(id, merges))
        if commit is None:
            return after
        if body[-1].op in ("leave", "enter"):
            env, flags = commit
            self.commit(env, flags, inner)
        return stored

    def repeat(self, n: Node, scope: set[int], stored: str) -> str:
        body, carried = n.attr
        self.use((*n.args, *(first for _, first, _ in carried)), scope)
        inner = scope | {id(phi) for phi, _, _ in carried}
        self.loops += 1
        once = self.body(body, set(inner), stored)
        last = set(inner)
        self.body(body, last, once)  # what a round stores lies before the next round's faults
        self.loops -= 1
        self.use((following for _, _, following in carried), last)
        scope.update(id(phi) for phi, _, _ in carried)
        return once

    def commit(self, env: Mapping[Place, Node], flags: Flags | None, scope: set[int]) -> None:
        """What is written at the end."""
        for place, n in env.items():
            if place[0] == "var":
                continue
            self.use((n,), scope)
            if isinstance(place[1], str):
                self.fields.add(place[1])
        if flags is not None:
            self.use(flags.args, scope)


def problems(trace: Trace, has: Iterable[str], operands: Mapping[str, Iterable[str]], keeps: bool = False) -> list[str]:
    """What is wrong with one text.

    `has`: the record fields that the encoding fills. `operands`: for each operand the fields of which the text must use one. `keeps`:
    what is written to register files at once is meant to stay where a fault follows. A text
    without any effect or write is a hint (NOP), one that ends in a fault is undefined (UD2): they may leave their operands alone.
    """
    w = Walk(keeps)
    scope: set[int] = set()
    w.body(trace.body, scope, "")
    if not trace.body or trace.body[-1].op not in ("raise", "retry"):
        w.commit(trace.env, trace.flags, scope)
    w.room()
    if extra := sorted(w.fields - set(has) - ALWAYS):
        w.say(f"the text uses {', '.join(extra)}, which the encoding does not have")
    writes = trace.flags is not None or any(place[0] != "var" for place in trace.env)
    if writes or trace.body and trace.body[-1].op != "raise":
        for operand, fields in operands.items():
            if not w.fields & set(fields):
                w.say(f"the text does not use its operand {operand}")
    return w.found
