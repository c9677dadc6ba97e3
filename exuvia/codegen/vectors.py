"""LLVM text for vectors and the floats in them: 128 and 256 bits are kept as so many i64, a float in lane 0 of a vector register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.codegen.floats import cut, quads, together
from exuvia.codegen.hostfloats import HostFloats, Instruction, floating
from exuvia.codegen.instructions import host_instruction
from exuvia.dsl.values import Node

SCALARS = {32: "float", 64: "double"}
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


class Vectors(HostFloats):
    """What an emitter knows of them."""

    compute: Callable[[Node, Instruction], Any]
    call_intrinsic: Callable[..., str]
    get: Callable[[Node, Instruction], Any]
    host_call: Callable[[Node, Instruction], tuple[str, Any] | None]

    # -- values of at most 64 bits
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
        return self.let(f"bitcast {SCALARS[n.w]} {self.float(n, i)} to i{n.w}")

    def value_fcmp(self, n: Node, i: Instruction) -> Any:
        a, b = (self.scalar(x, i) for x in n.args)
        return self.let(f"fcmp {n.attr} {SCALARS[n.args[0].w]} {a}, {b}")

    def value_convert(self, n: Node, i: Instruction) -> Any:
        """attr: fptosi sitofp uitofp fpext fptrunc; the host's operation, saturating where LLVM's would be undefined."""
        x = n.args[0]
        if n.attr == "fptosi":
            return self.call_intrinsic(f"llvm.fptosi.sat.i{n.w}.f{x.w}", f"i{n.w}", (SCALARS[x.w], self.scalar(x, i)))
        return self.let(f"bitcast {SCALARS[n.w]} {self.float(n, i)} to i{n.w}")

    # -- floats: scalars stay in vector registers, lane 0 is read and written as a float, never as an integer on the way
    def float(self, n: Node, i: Instruction) -> Any:
        key = "f", id(n)
        if (v := i.memo.get(key)) is not None:
            return v
        t = SCALARS[n.w]
        if n.op == "convert":
            x = n.args[0]
            if n.attr in ("sitofp", "uitofp"):
                v = self.let(f"{n.attr} i{x.w} {self.value(x, i)} to {t}")
            else:
                v = self.let(f"{n.attr} {SCALARS[x.w]} {self.scalar(x, i)} to {t}")
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
        t = SCALARS[x.w]
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
                of, v = f"<{n.w // x.w} x {SCALARS[x.w]}>", f"{SCALARS[x.w]} {self.scalar(x, i)}"
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
        t = f"<{count} x {SCALARS[w] if isfloat else f'i{w}'}>"
        args = [self.lanes(x, t, i) for x in n.args]
        if op == "sqrt":
            return t, self.call_intrinsic(f"llvm.sqrt.v{count}f{w}", t, (t, args[0]))
        if op in LANE_COMPARE:
            c = self.let(f"{LANE_COMPARE[op]} {t} {args[0]}, {args[1]}")
            return f"<{count} x i{w}>", self.let(f"sext <{count} x i1> {c} to <{count} x i{w}>")
        if op in LANE_INTRINSICS:
            return t, self.call_intrinsic(f"{LANE_INTRINSICS[op]}.v{count}i{w}", t, (t, args[0]), (t, args[1]))
        return t, self.let(f"{op} {t} {args[0]}, {args[1]}")
