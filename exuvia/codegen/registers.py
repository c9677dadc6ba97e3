"""Traces as LLVM text with registers in the state: what handlers, the page walk, the decoder and soft floats share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from exuvia.codegen.emit import Emitter
from exuvia.codegen.floats import EXTENDED, available, quads
from exuvia.codegen.hostfloats import Instruction, floating
from exuvia.codegen.layout import runtime_at
from exuvia.dsl.state import JUMP_TAG, JUMPS, JUMPS_AT, PAGE_AT, Layout
from exuvia.dsl.trace import Function, Place, Trace, substitute
from exuvia.dsl.values import Node

FUNCTION_NUMBERS = 1 << 16


def leave_number(name: str) -> int:
    """How native code names a plain-Python function; 0 and 1 are taken by faults during a delivery."""
    return zlib.crc32(name.encode()) | 1 << 32


def function_number(f: Function) -> int:
    """The function's place in the table of compiled functions, whatever else is loaded."""
    return zlib.crc32(f.name.encode()) % FUNCTION_NUMBERS


class Flags:
    """The conditions of a trace, from the flag words or from the rule that set them last; computed where they are wanted."""

    def __init__(self, e: InState, i: Instruction) -> None:
        self.e, self.i = e, i

    def want(self, name: str) -> Any:
        rules = self.i.trace.rules
        assert rules is not None
        if name in rules.words:
            return self.e.value(self.state_word(name), self.i)

        key = "cc", name
        if key not in self.i.memo:
            widths = tuple(p[2] for p in rules.words.values())
            args = tuple(self.state_word(w) for w in rules.words)
            self.i.memo[key] = substitute(rules.meaning("words", widths, name), args)  # a node: safe to keep over branches
        return self.e.value(self.i.memo[key], self.i)

    def state_word(self, name: str) -> Node:
        rules = self.i.trace.rules
        assert rules is not None
        key = "word", name
        if key not in self.i.memo:
            place = rules.words[name]
            self.i.memo[key] = Node("get", place[2], (), place)
        node: Node = self.i.memo[key]
        return node


class InState(Emitter):
    """Registers live in the state; `%st` is its address."""

    routine = False
    further = ""  # arguments of jumps: LLVM wants as many as the function has

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.pointers: dict[Any, str] = {}
        self.used: set[str] = set()  # functions that the text calls
        self.floats: dict[int, str] = {}  # where registers of 80 bits that were read stand, by the node

    def value_cc(self, n: Node, i: Instruction) -> Any:
        return Flags(self, i).want(n.attr)

    def value_get(self, n: Node, i: Instruction) -> Any:
        return self.get(n, i)

    def get(self, n: Node, i: Instruction) -> Any:
        place: Place = n.attr
        if place[0] == "pc" and not self.routine:
            return self.value(Node("next_pc", 64), i)
        w = place[2]
        t = quads(w) if w == 128 else f"i{w}"
        return self.let(f"load {t}, ptr {self.place(place)}, align {16 if w == 128 else 1 if w < 64 or w == 80 else 8}")

    def place(self, place: Place) -> str:
        """The address of a register."""
        name, slot, _ = place
        f = self.layout.files[name]
        key = name, slot
        if key not in self.pointers:
            if isinstance(slot, int):
                p = self.at(f.offset + slot * f.stride)
            else:
                index = self.field(slot)
                scaled = index if f.stride == 1 else self.let(f"mul i64 {index}, {f.stride}")
                p = self.let(f"getelementptr i8, ptr {self.at(f.offset)}, i64 {scaled}")
            if p == "%st":
                return p
            self.remember(self.pointers, key, p)
        return self.pointers[key]

    def field(self, name: str) -> str:
        raise NotImplementedError

    def put(self, place: Place, v: Any) -> None:
        w = place[2]
        t = quads(w) if w == 128 else f"i{w}"
        self.do(f"store {t} {v}, ptr {self.place(place)}, align {16 if w == 128 else 1 if w < 64 or w == 80 else 8}")

    def go_to(self, handler: str, op: str, ic: Any, further: str = "") -> None:
        """Jump to a handler."""
        r = self.let(f"musttail call preserve_nonecc i64 {handler}(ptr %st, ptr {op}, ptr %tlb, i64 {ic}{further or self.further})")
        self.do(f"ret i64 {r}")

    def word(self, name: str) -> str:
        return self.at(self.layout.offset(name))

    def set_word(self, name: str, v: Any) -> None:
        self.do(f"store i64 {v}, ptr {self.word(name)}")

    def found(self, pc: Any, ic: Any, whole: Callable[[Any], Any] = lambda pc: pc) -> str:
        """The head of the block at an address, by the jump cache: looked up in place, so that each place has a prediction of its own.

        Where the address may lie behind the last one, `whole` makes it one: the cache has none such.
        """
        entry, known = self.probe(pc)
        on, off = self.fresh("L"), self.fresh("C")
        self.branch(known, on, off)

        def elsewhere() -> None:
            self.set_word("pc", whole(pc))
            self.go_to(self.load("ptr", self.at(runtime_at("jump"))), "null", ic)

        self.aside(off, elsewhere)
        self.start(on)
        self.do(f"store i64 {self.let(f'and i64 {pc}, -4096')}, ptr {self.at(PAGE_AT)}")
        return self.load("ptr", self.at(8, entry))

    def probe(self, pc: Any) -> tuple[str, str]:
        """The entry of the jump cache for an address, and whether it is of that address."""
        mixed = self.let(f"xor i64 {pc}, {self.let(f'lshr i64 {pc}, 12')}")
        at = self.let(f"shl i64 {self.let(f'and i64 {mixed}, {JUMPS - 1}')}, 4")
        entry = self.let(f"getelementptr i8, ptr {self.at(JUMPS_AT)}, i64 {at}")
        key = self.let(f"or i64 {self.load('i64', self.word('generation'))}, {self.load('i64', self.word('mode'))}")
        tag = self.let(f"or i64 {self.let(f'shl i64 {pc}, {JUMP_TAG}')}, {key}")
        return entry, self.let(f"icmp eq i64 {tag}, {self.load('i64', entry)}")

    def function(self, f: Function) -> str:
        self.used.add(f.name)
        table = self.load("ptr", self.word("functions"))
        return self.load("ptr", self.let(f"getelementptr ptr, ptr {table}, i64 {function_number(f)}"))

    def value_call(self, n: Node, i: Instruction) -> Any:
        if (host := self.host_call(n, i)) is not None:
            return host[1]
        args = ["ptr %st", *(f"i{x.w} {self.value(x, i)}" for x in n.args)]
        return self.let(f"call i{n.w} {self.function(n.attr)}({', '.join(args)})")

    def do_peek(self, n: Node, i: Instruction) -> None:
        t = quads(n.w) if n.w == 128 else f"i{n.w}"
        p = self.indexed(n.attr, n.args[0], i)
        self.bind(n, i, self.let(f"load {t}, ptr {p}, align 1"))
        if n.w == 80 and available():
            self.remember(self.floats, id(n), p)

    def extended(self, n: Node, i: Instruction) -> Any:
        """A register of 80 bits is read as a float where it is wanted as one, if nothing was written since."""
        if (p := self.floats.get(id(self.settled(n, i)))) is not None:
            return self.let(f"load {EXTENDED}, ptr {p}, align 1")
        return super().extended(n, i)

    def do_poke(self, n: Node, i: Instruction) -> None:
        self.floats.clear()
        v = self.settled(n.args[1], i)
        t = quads(v.w) if v.w == 128 else floating(v) or f"i{v.w}"
        value = self.typed(v, t, i)
        self.do(f"store {t} {value}, ptr {self.indexed(n.attr, n.args[0], i)}, align 1")

    def indexed(self, name: str, index: Node, i: Instruction) -> str:
        f = self.layout.files[name]
        scaled = self.let(f"mul i64 {self.value(index, i)}, {f.stride}")
        return self.let(f"getelementptr i8, ptr {self.at(f.offset)}, i64 {scaled}")

    def do_virtual_time(self, n: Node, i: Instruction) -> None:
        """Nanoseconds of virtual time."""
        f = self.load("ptr", self.at(runtime_at("virtual_time")))
        self.bind(n, i, self.let(f"call i64 {f}(ptr %st)"))

    def do_relax(self, n: Node, i: Instruction) -> None:
        f = self.load("ptr", self.at(runtime_at("relax")))
        self.let(f"call i64 {f}(ptr %st)")

    def do_phys(self, n: Node, i: Instruction) -> None:
        self.remember(i.memo, id(n), self.let(f"call i64 @phys(ptr %st, i64 {self.value(n.args[0], i)})"))

    def host_pointer(self, n: Node, i: Instruction) -> str:
        """The pointer that a load or store uses: a word that the text computed, or a translation."""
        v = self.value(n, i)
        return str(v) if n.op in ("ptr", "translate") else self.let(f"inttoptr i64 {v} to ptr")

    # Volatile: other processors see these, so LLVM must neither join, split, drop nor move them. The host is an x86, or orders them alike.

    def do_load(self, n: Node, i: Instruction) -> None:
        self.bind(n, i, self.let(f"load volatile {self.type(n)}, ptr {self.host_pointer(n.args[0], i)}, align 1"))

    def do_store(self, n: Node, i: Instruction) -> None:
        host, v = n.args
        value = self.any_value(v, i, v)
        self.do(f"store volatile {self.type(v)} {value}, ptr {self.host_pointer(host, i)}, align 1")

    def do_cas(self, n: Node, i: Instruction) -> None:
        old, new = (self.value(a, i) for a in n.args[1:])
        host = self.host_pointer(n.args[0], i)
        if n.w > 64:
            return self.wide_cas(n, i, host, old, new)
        pair = self.let(f"cmpxchg ptr {host}, i{n.w} {old}, i{n.w} {new} seq_cst seq_cst, align {n.w // 8}")
        self.remember(i.memo, id(n), self.let(f"extractvalue {{i{n.w}, i1}} {pair}, 0"))

    def wide_cas(self, n: Node, i: Instruction, host: str, old: Any, new: Any) -> None:
        """128 bits: a host without such an instruction would call a library, so hosts are asked for the feature."""
        pair = self.let(f"cmpxchg ptr {host}, i128 {old}, i128 {new} seq_cst seq_cst, align 16")
        self.remember(i.memo, id(n), self.let(f"extractvalue {{i128, i1}} {pair}, 0"))


class NativeText(InState):
    """A trace with parameters as an ordinary native function: the page walk, the decoder, soft floats."""

    def text(self, name: str, trace: Trace, widths: list[int], result: Node | None, linkage: str = "internal ", state: bool = True) -> str:
        i = Instruction(trace)
        self.effects(trace.body, i)
        if state:
            for place, n in trace.env.items():
                if place[0] != "var":
                    self.put(place, self.value(n, i))
        v = 0 if result is None else self.value(result, i)
        w = 64 if result is None else result.w
        self.do(f"ret i{w} {v}")
        params = (["ptr %st"] if state else []) + [f"i{w} %a{k}" for k, w in enumerate(widths)]
        body = "\n".join(self.out + self.cold)
        return f"define {linkage}i{w} @{name}({', '.join(params)}) nounwind {{\nentry:\n{body}\n}}\n"
