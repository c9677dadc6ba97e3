"""LLVM text from expression graphs: what every native engine shares. Where registers live is the business of the subclass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.codegen.floats import EXTENDED, cut, quads, together
from exuvia.codegen.hostfloats import HostFloats, Instruction, floating
from exuvia.codegen.instructions import host_instruction
from exuvia.dsl.record import COUNTS
from exuvia.dsl.trace import Function
from exuvia.dsl.values import Node, signed

ARITHMETIC = dict(add="add", sub="sub", mul="mul", xor="xor", udiv="udiv", urem="urem", sdiv="sdiv", srem="srem") | {
    "and": "and",
    "or": "or",
}
SHIFTS = dict(shl="shl", shr="lshr", sar="ashr")
COMPARE = dict(eq="eq", ult="ult", slt="slt")
FLOATS = {32: "float", 64: "double"}
LIKELY, UNLIKELY = ", !prof !0", ", !prof !1"
PROFILE = '!0 = !{!"branch_weights", i32 2000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 2000}\n!2 = !{}\n'
FIXED = ", !invariant.load !2"  # behind a load of what is never written again
LANE_INTRINSICS = {op: f"llvm.{op}" for op in ("umin", "umax", "smin", "smax", "uadd.sat", "sadd.sat", "usub.sat", "ssub.sat")}
LANE_COMPARE = {
    "eq": "icmp eq",
    "sgt": "icmp sgt",
    "ugt": "icmp ugt",
    "foeq": "fcmp oeq",
    "folt": "fcmp olt",
    "fole": "fcmp ole",
    "funo": "fcmp uno",
}


def vector(n: Node) -> bool:
    """Is this value best kept in a vector register?"""
    if n.w not in (128, 256):
        return False
    if n.op == "call":
        return host_instruction(n.attr.name) is not None
    if n.op in ("lanes", "lanes1", "insert", "load", "concat", "shuffle", "host"):
        return True
    if n.op == "get" or n.op == "lane":
        return True
    if n.op in ("and", "or", "xor"):
        return any(map(vector, n.args))
    if n.op in ("select", "merge"):
        return any(map(vector, n.args[1:]))
    return False


class Emitter(HostFloats):
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

    def value_lane(self, n: Node, i: Instruction) -> Any:
        x, w = n.args[0], n.w
        if x.w % w or not 8 <= w <= 64:
            return self.let(f"trunc i{x.w} {self.let(f'lshr i{x.w} {self.value(x, i)}, {n.attr * w}')} to i{w}")
        t = f"<{x.w // w} x i{w}>"
        return self.let(f"extractelement {t} {self.lanes(x, t, i)}, i64 {n.attr}")

    def value_insert(self, n: Node, i: Instruction) -> Any:  # 64 bits; 128 go through vec
        t = f"<{n.w // n.args[1].w} x i{n.args[1].w}>"
        v = self.let(f"insertelement {t} {self.lanes(n.args[0], t, i)}, i{n.args[1].w} {self.value(n.args[1], i)}, i64 {n.attr}")
        return self.let(f"bitcast {t} {v} to i{n.w}")

    def value_lanes(self, n: Node, i: Instruction) -> Any:
        t, v = self.lane_operation(n, i)
        return self.let(f"bitcast {t} {v} to i{n.w}")

    value_lanes1 = value_lanes

    def value_concat(self, n: Node, i: Instruction) -> Any:
        t, v = self.join(n, i)
        return self.let(f"bitcast {t} {v} to i{n.w}")

    def value_shuffle(self, n: Node, i: Instruction) -> Any:
        t, v = self.choose_lanes(n, i)
        return self.let(f"bitcast {t} {v} to i{n.w}")

    def value_lane_at(self, n: Node, i: Instruction) -> Any:
        x, index = n.args
        t = f"<{x.w // n.w} x i{n.w}>"
        return self.let(f"extractelement {t} {self.lanes(x, t, i)}, i64 {self.value(index, i)}")

    def value_signs(self, n: Node, i: Instruction) -> Any:
        t = f"<{n.w} x i{n.attr}>"
        c = self.let(f"icmp slt {t} {self.lanes(n.args[0], t, i)}, zeroinitializer")
        return self.let(f"bitcast <{n.w} x i1> {c} to i{n.w}")

    def value_float(self, n: Node, i: Instruction) -> Any:
        return self.let(f"bitcast {FLOATS[n.w]} {self.float(n, i)} to i{n.w}")

    def value_fcmp(self, n: Node, i: Instruction) -> Any:
        a, b = (self.scalar(x, i) for x in n.args)
        return self.let(f"fcmp {n.attr} {FLOATS[n.args[0].w]} {a}, {b}")

    def value_convert(self, n: Node, i: Instruction) -> Any:
        """attr: fptosi sitofp uitofp fpext fptrunc; the host's operation, saturating where LLVM's would be undefined."""
        x = n.args[0]
        if n.attr == "fptosi":
            return self.call_intrinsic(f"llvm.fptosi.sat.i{n.w}.f{x.w}", f"i{n.w}", (FLOATS[x.w], self.scalar(x, i)))
        return self.let(f"bitcast {FLOATS[n.w]} {self.float(n, i)} to i{n.w}")

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

    # -- floats: scalars stay in vector registers, lane 0 is read and written as a float, never as an integer on the way
    def float(self, n: Node, i: Instruction) -> Any:
        key = "f", id(n)
        if (v := i.memo.get(key)) is not None:
            return v
        t = FLOATS[n.w]
        if n.op == "convert":
            x = n.args[0]
            if n.attr in ("sitofp", "uitofp"):
                v = self.let(f"{n.attr} i{x.w} {self.value(x, i)} to {t}")
            else:
                v = self.let(f"{n.attr} {FLOATS[x.w]} {self.scalar(x, i)} to {t}")
        elif n.attr in ("sqrt", "fabs", "rint", "floor", "ceil", "trunc", "roundeven"):
            v = self.call_intrinsic(f"llvm.{n.attr}.f{n.w}", t, (t, self.scalar(n.args[0], i)))
        elif n.attr == "fma":
            v = self.call_intrinsic(f"llvm.fma.f{n.w}", t, *((t, self.scalar(x, i)) for x in n.args))
        else:
            v = self.let(f"{n.attr} {t} {', '.join(str(self.scalar(x, i)) for x in n.args)}")
        return self.remember(i.memo, key, v)

    def scalar(self, x: Node, i: Instruction) -> Any:
        x = self.settled(x, i)
        if floating(x) is not None:
            return i.memo["f", id(x)]
        if x.op == "float" or (x.op == "convert" and x.attr != "fptosi"):
            return self.float(x, i)
        t = FLOATS[x.w]
        if x.op == "trunc" and vector(x.args[0]) or x.op == "lane" and vector(x.args[0]):
            lanes = f"<{x.args[0].w // x.w} x {t}>"
            lane = x.attr if x.op == "lane" else 0
            return self.let(f"extractelement {lanes} {self.lanes(x.args[0], lanes, i)}, i64 {lane}")
        return self.let(f"bitcast i{x.w} {self.value(x, i)} to {t}")

    # -- vectors
    def vec(self, n: Node, i: Instruction) -> Any:
        """A value of 128 or 256 bits as so many i64."""
        n = self.settled(n, i)
        key = "v", id(n)
        if (v := i.memo.get(key)) is not None:
            return v
        i.keep.append(n)
        return self.remember(i.memo, key, self.compute_vec(n, i))

    def compute_vec(self, n: Node, i: Instruction) -> Any:
        t = quads(n.w)
        if n.op == "const":
            return f"<{', '.join(f'i64 {n.attr >> k & (1 << 64) - 1}' for k in range(0, n.w, 64))}>"
        if n.op == "get":
            return self.get(n, i)
        if n.op == "insert":
            old, x = n.args[0], self.settled(n.args[1], i)
            if x.op in ("float", "convert") or floating(x) is not None:
                of, v = f"<{n.w // x.w} x {FLOATS[x.w]}>", f"{FLOATS[x.w]} {self.scalar(x, i)}"
            else:
                of, v = f"<{n.w // x.w} x i{x.w}>", f"i{x.w} {self.value(x, i)}"
            return self.cast(of, self.let(f"insertelement {of} {self.lanes(old, of, i)}, {v}, i64 {n.attr}"), t)
        if n.op == "lane":
            return self.half(n.args[0], n.attr, i)
        if n.op == "concat" and n.args[0].w == 128:
            return self.halves(n.args[0], n.args[1], i)
        if n.op == "concat":
            return self.cast(*self.join(n, i), t)
        if n.op == "zext" and n.args[0].w <= 64:
            x = n.args[0]
            low = self.value(x, i)
            if x.w < 64 and not isinstance(low, int):
                low = self.let(f"zext i{x.w} {low} to i64")
            return self.let(f"insertelement {t} zeroinitializer, i64 {low}, i64 0")
        if n.op in ("and", "or", "xor"):
            return self.let(f"{n.op} {t} {self.vec(n.args[0], i)}, {self.vec(n.args[1], i)}")
        if n.op == "select":
            c = self.value(n.args[0], i)
            if isinstance(c, int):
                return self.vec(n.args[1 if c else 2], i)
            return self.let(f"select i1 {c}, {t} {self.vec(n.args[1], i)}, {t} {self.vec(n.args[2], i)}")
        if n.op in ("lanes", "lanes1"):
            return self.cast(*self.lane_operation(n, i), t)
        if n.op == "call" and (host := self.host_call(n, i)) is not None:
            return self.cast(*host, t)
        if n.op == "shuffle":
            return self.cast(*self.choose_lanes(n, i), t)
        if n.op in ("merge", "load") and id(n) not in i.memo:
            raise NotImplementedError(f"{n.op}: a value outside of its branch?")
        return self.let(f"bitcast i{n.w} {self.value(n, i)} to {t}")

    def cast(self, of: str, v: Any, t: str) -> Any:
        """A vector as another type of the same width."""
        return v if of == t else self.let(f"bitcast {of} {v} to {t}")

    def half(self, n: Node, which: int, i: Instruction) -> Any:
        """The low (0) or high (1) half of 256 bits."""
        return self.let(cut(self.vec(n, i), which))

    def halves(self, low: Node, high: Node, i: Instruction) -> Any:
        """256 bits of two halves."""
        return self.let(together(self.vec(low, i), self.vec(high, i)))

    def lanes(self, n: Node, t: str, i: Instruction) -> Any:
        """A value as a vector of type t."""
        if n.w >= 128:
            return self.cast(quads(n.w), self.vec(n, i), t)
        return self.let(f"bitcast i{n.w} {self.value(n, i)} to {t}")

    def join(self, n: Node, i: Instruction) -> tuple[str, Any]:
        w = n.args[0].w
        if w not in (8, 16, 32, 64):
            raise TypeError(f"concat of {w}-bit lanes: only 8, 16, 32 and 64")
        t = f"<{len(n.args)} x i{w}>"
        r: Any = "zeroinitializer" if all(x.op == "const" and x.attr == 0 for x in n.args) else "poison"
        if r == "zeroinitializer":
            return t, r
        for k, x in enumerate(n.args):
            r = self.let(f"insertelement {t} {r}, i{w} {self.value(x, i)}, i64 {k}")
        return t, r

    def choose_lanes(self, n: Node, i: Instruction) -> tuple[str, Any]:
        w, indices = n.attr
        t = f"<{n.args[0].w // w} x i{w}>"
        a, b = (self.lanes(x, t, i) for x in n.args)
        mask = ", ".join(f"i32 {k}" for k in indices)
        return f"<{len(indices)} x i{w}>", self.let(f"shufflevector {t} {a}, {t} {b}, <{len(indices)} x i32> <{mask}>")

    def lane_operation(self, n: Node, i: Instruction) -> tuple[str, Any]:
        op, w = n.attr
        count = n.w // w
        isfloat = op in ("fadd", "fsub", "fmul", "fdiv", "sqrt") or op in LANE_COMPARE and LANE_COMPARE[op][0] == "f"
        t = f"<{count} x {FLOATS[w] if isfloat else f'i{w}'}>"
        args = [self.lanes(x, t, i) for x in n.args]
        if op == "sqrt":
            return t, self.call_intrinsic(f"llvm.sqrt.v{count}f{w}", t, (t, args[0]))
        if op in LANE_COMPARE:
            c = self.let(f"{LANE_COMPARE[op]} {t} {args[0]}, {args[1]}")
            return f"<{count} x i{w}>", self.let(f"sext <{count} x i1> {c} to <{count} x i{w}>")
        if op in LANE_INTRINSICS:
            return t, self.call_intrinsic(f"{LANE_INTRINSICS[op]}.v{count}i{w}", t, (t, args[0]), (t, args[1]))
        return t, self.let(f"{op} {t} {args[0]}, {args[1]}")

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
        if t in FLOATS.values():
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
    if c.op == "const":
        return bool(c.attr < w)
    if c.op == "field":
        return c.attr in COUNTS and w == 64
    return False
