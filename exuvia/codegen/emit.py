"""LLVM text from expression graphs: what every native engine shares. Where registers live is the business of the subclass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.codegen.floats import EXTENDED, quads
from exuvia.codegen.hostfloats import Instruction, floating
from exuvia.codegen.instructions import host_instruction
from exuvia.codegen.vectors import SCALARS, Vectors, vector
from exuvia.dsl.record import COUNTS
from exuvia.dsl.trace import Function
from exuvia.dsl.values import Node, signed

ARITHMETIC = dict(add="add", sub="sub", mul="mul", xor="xor", udiv="udiv", urem="urem", sdiv="sdiv", srem="srem") | {
    "and": "and",
    "or": "or",
}
SHIFTS = dict(shl="shl", shr="lshr", sar="ashr")
COMPARE = dict(eq="eq", ult="ult", slt="slt")
LIKELY, UNLIKELY = ", !prof !0", ", !prof !1"
PROFILE = '!0 = !{!"branch_weights", i32 2000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 2000}\n!2 = !{}\n'
FIXED = ", !invariant.load !2"  # behind a load of what is never written again


class Emitter(Vectors):
    """Writes one function's body. A constant is an int, anything else an SSA name."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.cold: list[str] = []
        self.count = 0
        self.log: list[tuple[dict[Any, Any], Any]] = []
        self.declares: set[str] = set()
        self.label = "entry"

    # -- text
    def fresh(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def let(self, text: str) -> str:
        v = "%" + self.fresh()
        self.out.append(f"  {v} = {text}")
        return v

    def do(self, text: str) -> None:
        self.out.append("  " + text)

    def start(self, label: str) -> None:
        self.out.append(f"{label}:")
        self.label = label

    def remember(self, memo: dict[Any, Any], key: Any, v: Any) -> Any:
        memo[key] = v
        self.log.append((memo, key))
        return v

    def leave_scope(self, mark: int) -> None:
        """Forget the values made since `mark`: they stand in a branch and must not be used outside."""
        while len(self.log) > mark:
            memo, key = self.log.pop()
            memo.pop(key, None)

    def aside(self, label: str, f: Callable[[], None]) -> None:
        """Emit into the cold part, at the end of the function."""
        out, where, mark = self.out, self.label, len(self.log)
        self.out = []
        self.start(label)
        f()
        self.cold += self.out
        self.out, self.label = out, where
        self.leave_scope(mark)

    def branch(self, condition: Any, hot: str, cold: str) -> None:
        self.do(f"br i1 {condition}, label %{hot}, label %{cold}{LIKELY}")

    def call_intrinsic(self, name: str, result: str, *args: tuple[str, Any]) -> str:
        self.declares.add(f"declare {result} @{name}({', '.join(t for t, _ in args)})")
        return self.let(f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    # -- memory of the state
    def at(self, offset: int, base: str = "%st") -> str:
        return base if offset == 0 else self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, t: str, pointer: str) -> str:
        return self.let(f"load {t}, ptr {pointer}")

    # -- values
    def value(self, n: Node, i: Instruction) -> Any:
        if n.op == "const":
            return n.attr
        n = self.settled(n, i)
        if (v := i.memo.get(id(n))) is not None:
            return v
        i.keep.append(n)
        return self.remember(i.memo, id(n), self.compute(n, i))

    def settled(self, n: Node, i: Instruction) -> Node:
        """What a choice turned out to be, if that is known while the text is written."""
        while (known := i.memo.get(("is", id(n)))) is not None:
            n = known
        return n

    def compute(self, n: Node, i: Instruction) -> Any:
        op, w = n.op, n.w
        if n.op == "const":
            return n.attr
        if (t := floating(n)) is not None:
            return self.let(f"bitcast {t} {i.memo['f', id(n)]} to i{w}")
        if vector(n):
            return self.let(f"bitcast {quads(w)} {self.vec(n, i)} to i{w}")
        if (method := getattr(self, "value_" + op, None)) is not None:
            return method(n, i)
        if w == 1 and op in ("and", "xor") and isinstance(a := self.value(n.args[0], i), int):
            if op == "and":
                return self.value(n.args[1], i) if a else 0
            if isinstance(b := self.value(n.args[1], i), int):
                return a ^ b
        if op in ARITHMETIC:
            a, b = (self.value(x, i) for x in n.args)
            if op in ("udiv", "urem", "sdiv", "srem"):
                return self.divide(op, a, b, w)
            return self.let(f"{ARITHMETIC[op]} i{w} {a}, {b}")
        if op in SHIFTS:
            return self.shift(op, n, i)
        if op in COMPARE:
            a, b = (self.value(x, i) for x in n.args)
            return self.let(f"icmp {COMPARE[op]} i{n.args[0].w} {a}, {b}")
        raise NotImplementedError(f"{op}.{w}: a value outside of its branch?" if op in ("merge", "load", "translate", "cas", "phi") else op)

    def value_zext(self, n: Node, i: Instruction) -> Any:
        a = self.value(n.args[0], i)
        return a if isinstance(a, int) else self.let(f"zext i{n.args[0].w} {a} to i{n.w}")

    def value_sext(self, n: Node, i: Instruction) -> Any:
        a = self.value(n.args[0], i)
        return signed(a, n.args[0].w) & (1 << n.w) - 1 if isinstance(a, int) else self.let(f"sext i{n.args[0].w} {a} to i{n.w}")

    def value_trunc(self, n: Node, i: Instruction) -> Any:
        x = n.args[0]
        if vector(x) and n.w <= 64:
            v = self.let(f"extractelement {quads(x.w)} {self.vec(x, i)}, i64 0")
            return v if n.w == 64 else self.let(f"trunc i64 {v} to i{n.w}")
        return self.let(f"trunc i{x.w} {self.value(x, i)} to i{n.w}")

    def value_select(self, n: Node, i: Instruction) -> Any:
        c = self.value(n.args[0], i)
        if isinstance(c, int):
            return self.value(n.args[1 if c else 2], i)
        a, b = self.value(n.args[1], i), self.value(n.args[2], i)
        return a if a == b else self.let(f"select i1 {c}, i{n.w} {a}, i{n.w} {b}")

    def value_ctpop(self, n: Node, i: Instruction) -> Any:
        return self.call_intrinsic(f"llvm.ctpop.i{n.w}", f"i{n.w}", (f"i{n.w}", self.value(n.args[0], i)))

    def value_bswap(self, n: Node, i: Instruction) -> Any:
        return self.call_intrinsic(f"llvm.bswap.i{n.w}", f"i{n.w}", (f"i{n.w}", self.value(n.args[0], i)))

    def value_ctz(self, n: Node, i: Instruction, name: str = "cttz") -> Any:
        self.declares.add(f"declare i{n.w} @llvm.{name}.i{n.w}(i{n.w}, i1 immarg)")
        return self.let(f"call i{n.w} @llvm.{name}.i{n.w}(i{n.w} {self.value(n.args[0], i)}, i1 false)")

    def value_clz(self, n: Node, i: Instruction) -> Any:
        return self.value_ctz(n, i, "ctlz")

    def host_call(self, n: Node, i: Instruction) -> tuple[str, Any] | None:
        """The host's own instruction for a function, and the type it gives."""
        if (h := host_instruction(n.attr.name)) is None:
            return None
        args = [f"{t} {self.lanes(x, t, i) if x.w >= 128 else self.value(x, i)}" for t, x in zip(h.types, n.args, strict=True)]
        extra = [x.split()[0] + " immarg" for x in h.extra]
        self.declares.add(f"declare {h.result} @{h.intrinsic}({', '.join([*h.types, *extra])})")
        return h.result, self.let(f"call {h.result} @{h.intrinsic}({', '.join([*args, *h.extra])})")

    def value_call(self, n: Node, i: Instruction) -> Any:
        if (host := self.host_call(n, i)) is not None:
            return host[1]
        f: Function = n.attr
        args = [(f"i{x.w}", self.value(x, i)) for x in n.args]
        return self.let(f"call i{n.w} {self.function(f)}({', '.join(f'{t} {v}' for t, v in args)})")

    def function(self, f: Function) -> str:
        """How a compiled function is reached; engines decide."""
        raise NotImplementedError

    def value_param(self, n: Node, i: Instruction) -> Any:
        return f"%a{n.attr}"

    def value_ptr(self, n: Node, i: Instruction) -> Any:
        return self.let(f"inttoptr i64 {self.value(n.args[0], i)} to ptr")

    def value_counter(self, n: Node, i: Instruction) -> Any:
        return self.call_intrinsic("llvm.readcyclecounter", "i64")

    def shift(self, op: str, n: Node, i: Instruction) -> Any:
        """LLVM leaves counts past the width undefined; ours give zeros or signs."""
        x, c = n.args
        w = n.w
        a = self.value(x, i)
        if c.op == "const":
            if c.attr >= w and op != "sar":
                return 0
            return self.let(f"{SHIFTS[op]} i{w} {a}, {min(c.attr, w - 1)}")
        b = self.value(c, i)
        if bounded(c, w):
            return self.let(f"{SHIFTS[op]} i{w} {a}, {b}")
        fine = self.let(f"icmp ult i{w} {b}, {w}")
        r = self.let(f"{SHIFTS[op]} i{w} {a}, {self.let(f'select i1 {fine}, i{w} {b}, i{w} {w - 1}')}")
        return r if op == "sar" else self.let(f"select i1 {fine}, i{w} {r}, i{w} 0")

    def divide(self, op: str, a: Any, b: Any, w: int) -> str:
        """Total: a zero divisor gives 0, and MIN / -1 wraps. LLVM's are undefined there, and the host would trap."""
        zero = self.let(f"icmp eq i{w} {b}, 0")
        d = self.let(f"select i1 {zero}, i{w} 1, i{w} {b}")
        minus = None
        if op[0] == "s":
            minus = self.let(f"icmp eq i{w} {b}, -1")
            d = self.let(f"select i1 {minus}, i{w} 1, i{w} {d}")
        if w == 128:
            r = self.let(f"call i128 {self.wide_division(op)}(i128 {a}, i128 {d})")
        else:
            r = self.let(f"{op} i{w} {a}, {d}")
        r = self.let(f"select i1 {zero}, i{w} 0, i{w} {r}")
        if minus is None:
            return r
        return self.let(f"select i1 {minus}, i{w} {self.let(f'sub i{w} 0, {a}') if op == 'sdiv' else 0}, i{w} {r}")

    def wide_division(self, op: str) -> str:
        """128-bit division has no instruction; it is a function in the module."""
        self.declares.add(f"declare i128 @{op}128(i128, i128)")
        return f"@{op}128"

    def get(self, n: Node, i: Instruction) -> Any:
        raise NotImplementedError

    # -- effects
    def effects(self, body: list[Node], i: Instruction) -> None:
        for n in body:
            getattr(self, "do_" + n.op)(n, i)

    def type(self, n: Node) -> str:
        return floating(n) or (quads(n.w) if vector(n) else f"i{n.w}")

    def any_value(self, n: Node, i: Instruction, like: Node) -> Any:
        """A value in the representation that `like` has."""
        return self.typed(n, self.type(like), i)

    def typed(self, n: Node, t: str, i: Instruction) -> Any:
        """A value as LLVM's type t."""
        if t == EXTENDED:
            return self.extended(n, i)
        if t[0] == "m":
            return self.host_pointer(n.args[0], i)
        if t in SCALARS.values():
            return self.scalar(n, i)
        return self.vec(n, i) if t == quads(n.w) else self.value(n, i)

    def bind(self, n: Node, i: Instruction, v: Any) -> None:
        self.remember(i.memo, ("f", id(n)) if floating(n) else ("v", id(n)) if vector(n) else id(n), v)

    def do_when(self, n: Node, i: Instruction) -> None:
        body, merges, _ = n.attr
        c = self.value(n.args[0], i)
        if isinstance(c, int) and not (c and self.leaves(body)):
            return self.settle(n, i, bool(c))
        if self.leaves(body):
            on, off = self.fresh("L"), self.fresh("C")
            self.do(f"br i1 {c}, label %{off}, label %{on}{UNLIKELY}")
            self.aside(off, lambda: self.ending(n, i))
            return self.start(on)
        before = [self.any_value(m.args[2], i, m) for m in merges]
        if body[0].op == "rare":
            return self.rarely(n, i, c, before)
        source, then, after = self.label, self.fresh("T"), self.fresh("J")
        self.do(f"br i1 {c}, label %{then}, label %{after}")
        mark = len(self.log)
        self.start(then)
        self.effects(body, i)
        inside = [self.any_value(m.args[1], i, m) for m in merges]
        end = self.label
        self.do(f"br label %{after}")
        self.leave_scope(mark)
        self.start(after)
        for m, a, b in zip(merges, inside, before, strict=True):
            self.bind(m, i, self.let(f"phi {self.type(m)} [ {a}, %{end} ], [ {b}, %{source} ]"))

    def settle(self, n: Node, i: Instruction, taken: bool) -> None:
        """A branch whose condition is known."""
        body, merges, _ = n.attr
        if taken:
            self.effects(body, i)
        for m in merges:
            i.keep.append(m)
            self.remember(i.memo, ("is", id(m)), m.args[1 if taken else 2])

    def rarely(self, n: Node, i: Instruction, c: Any, before: list[Any]) -> None:
        """A branch to the cold part, which comes back."""
        body, merges, _ = n.attr
        source, then, after = self.label, self.fresh("C"), self.fresh("J")
        self.do(f"br i1 {c}, label %{then}, label %{after}{UNLIKELY}")
        inside: list[Any] = []
        end = then

        def cold() -> None:
            nonlocal end
            self.effects(body, i)
            inside.extend(self.any_value(m.args[1], i, m) for m in merges)
            end = self.label
            self.do(f"br label %{after}")

        self.aside(then, cold)
        self.start(after)
        for m, a, b in zip(merges, inside, before, strict=True):
            self.bind(m, i, self.let(f"phi {self.type(m)} [ {a}, %{end} ], [ {b}, %{source} ]"))

    def do_rare(self, n: Node, i: Instruction) -> None:
        """A mark at the start of a branch."""

    def do_fence(self, n: Node, i: Instruction) -> None:
        """What was stored is seen by other processors before anything is read."""
        self.do("fence seq_cst")

    def leaves(self, body: list[Node]) -> bool:
        return body[-1].op in ("raise", "retry", "leave", "enter")

    def ending(self, n: Node, i: Instruction) -> None:
        """A branch that does not come back."""
        self.effects(n.attr[0], i)

    def do_loop(self, n: Node, i: Instruction) -> None:
        body, carried = n.attr
        times = self.value(n.args[0], i)
        first = [self.any_value(init, i, p) for p, init, _ in carried]
        source, head, inside, after = self.label, self.fresh("H"), self.fresh("B"), self.fresh("J")
        self.do(f"br label %{head}")
        self.start(head)
        index = "%" + self.fresh()
        names = ["%" + self.fresh() for _ in carried]
        where = len(self.out)
        for (p, _, _), name in zip(carried, names, strict=True):
            self.bind(p, i, name)
        more = self.let(f"icmp ult i64 {index}, {times}")
        self.do(f"br i1 {more}, label %{inside}, label %{after}")
        mark = len(self.log)
        self.start(inside)
        self.effects(body, i)
        nexts = [self.any_value(x, i, p) for p, _, x in carried]
        step = self.let(f"add i64 {index}, 1")
        end = self.label
        self.do(f"br label %{head}")
        self.leave_scope(mark)
        phis = [f"  {index} = phi i64 [ 0, %{source} ], [ {step}, %{end} ]"]
        for (p, _, _), name, a, b in zip(carried, names, first, nexts, strict=True):
            phis.append(f"  {name} = phi {self.type(p)} [ {a}, %{source} ], [ {b}, %{end} ]")
        self.out[where:where] = phis
        self.start(after)

    def do_load(self, n: Node, i: Instruction) -> None:
        host = self.value(n.args[0], i)
        self.bind(n, i, self.let(f"load {self.type(n)}, ptr {host}, align 1"))

    def do_store(self, n: Node, i: Instruction) -> None:
        host, v = n.args
        self.do(f"store {self.type(v)} {self.any_value(v, i, v)}, ptr {self.value(host, i)}, align 1")

    def do_cas(self, n: Node, i: Instruction) -> None:
        host, old, new = (self.value(a, i) for a in n.args)
        pair = self.let(f"cmpxchg ptr {host}, i{n.w} {old}, i{n.w} {new} seq_cst seq_cst, align {n.w // 8}")
        self.remember(i.memo, id(n), self.let(f"extractvalue {{i{n.w}, i1}} {pair}, 0"))


def bounded(c: Node, w: int) -> bool:
    """Is the count surely below w?"""
    if c.op == "and":
        return any(a.op == "const" and a.attr < w for a in c.args)
    if c.op == "zext":
        return bounded(c.args[0], w) or (1 << c.args[0].w) <= w
    if c.op == "trunc":
        return bounded(c.args[0], w)
    if c.op == "xor":  # a width is a power of two
        return all(bounded(a, w) for a in c.args)
    if c.op == "const":
        return bool(c.attr < w)
    if c.op == "field":
        return c.attr in COUNTS and w == 64
    return False
