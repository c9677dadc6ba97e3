"""Conversions between floats and integers, ROUND and DPP (SDM vol. 1, 11.4.1.6, 12.8; vol. 2, CVT*, ROUND*, DPP*)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl import ieee754
from exuvia.dsl.trace import Var, function
from exuvia.dsl.values import Value, concat, lift, node
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import enter_mmx, op
from exuvia.isa.x86.sse_float import (
    FRACTION,
    ONE,
    ROUND_MAGIC,
    SCALAR,
    Lanes,
    Tests,
    calm,
    converted,
    direct,
    f,
    function_of,
    guarded,
    kind,
    packed,
    pairs,
    raised,
)  # fmt: skip
from exuvia.isa.x86.vector import halves

BIAS = {32: 127, 64: 1023}
INEXACT_KNOWN = 0x1020  # PE masked, and set already


def whole_lanes(v: Value, w: int, count: int) -> Lanes:
    """The low `count` lanes."""
    return [v.lane(i, w) if v.w > w else v for i in range(count)]


def joined(lanes: Lanes) -> Value:
    return concat(*lanes) if len(lanes) > 1 else lanes[0]


def all_of(conditions: list[Value]) -> Value:
    r = conditions[0]
    for c in conditions[1:]:
        r = r & c
    return r


# -- to integers
def below(a: Value, power: int) -> Value:
    """Is the magnitude below 2**power? Not so for infinities and NaNs."""
    return (a << 1).u < ((BIAS[a.w] + power) << (FRACTION[a.w] + 1))


def truncated(a: Value, w: int) -> tuple[Value, Value]:
    """The host's integer, and whether it is right."""
    return converted("fptosi", a, w), below(a, w - 1)


def rounded(a: Value, w: int) -> tuple[Value, Value]:
    """To nearest, by adding 1.5 * 2**52 as a double; right below 2**51 and within the integer's range."""
    double = converted("fpext", a, 64) if a.w == 32 else a
    r = f("fadd", double, lift(ROUND_MAGIC, 64)) - ROUND_MAGIC
    return r.low(w), below(a, min(w - 2, 50))


def to_integers(cpu: Cpu, lanes: Lanes, w: int, truncate: bool) -> Value:
    """Integers of w bits from floats."""
    fast = [(truncated if truncate else rounded)(x, w) for x in lanes]
    known = (cpu.mxcsr & INEXACT_KNOWN) == INEXACT_KNOWN if truncate else calm(cpu)
    name = f"to_i{w}" + ("_truncate" if truncate else "")
    return guarded(
        cpu, joined([v for v, _ in fast]), known & all_of([fits for _, fits in fast]), w,
        lambda control: [function_of(x.w, name)(x, control) for x in lanes],
    )  # fmt: skip


# -- from integers and between formats
def from_integers(cpu: Cpu, lanes: Lanes, w: int) -> Value:
    """Floats of w bits from integers; 32 bits always fit a double, and what fits the significand is exact under any MXCSR."""
    fast = joined([converted("sitofp", x, w) for x in lanes])
    if (lanes[0].w, w) == (32, 64):
        return fast
    convert = getattr(ieee754, f"i{lanes[0].w}_to_f{w}")
    most = 1 << FRACTION[w]
    exact = all_of([(x + most).u <= 2 * most for x in lanes])
    return guarded(cpu, fast, calm(cpu) | exact, w, lambda control: [convert(x, control) for x in lanes])


def widened(cpu: Cpu, lanes: Lanes) -> Value:
    """Singles to doubles: exact for zeros and normal numbers."""
    t = Tests(32, 32)
    safe = all_of([~(t.denormal(x) | t.special(x)) for x in lanes])
    fast = joined([converted("fpext", x, 64) for x in lanes])
    return guarded(cpu, fast, safe, 64, lambda control: [ieee754.f32_to_f64(x, control) for x in lanes])


def narrowed(cpu: Cpu, lanes: Lanes) -> Value:
    """Doubles to singles."""
    t, wide = Tests(32, 32), Tests(64, 64)
    fast = [converted("fptrunc", x, 32) for x in lanes]
    safe = all_of([calm(cpu), *(~t.special(r) & (~t.small(r) | wide.zero(x)) for x, r in zip(lanes, fast, strict=True))])
    return guarded(cpu, joined(fast), safe, 32, lambda control: [ieee754.f64_to_f32(x, control) for x in lanes])


Conversion = Callable[[Cpu, Lanes], Value]


def packed_conversion(rows: str, name: str, source: int, how: Conversion) -> None:
    """All lanes of `source` bits; what the results leave of an xmm register is zero."""

    def text(cpu: Cpu, a: Any, b: Any) -> None:
        x = b.read()

        def otherwise() -> Value:
            r = how(cpu, whole_lanes(x, source, x.w // source))
            return r.zext(128) if r.w < 128 else r

        a.set(direct(cpu, name, a.w, [x.zext(128) if x.w < 128 else x], otherwise))

    op(rows, name, sse=True, feature="sse2", vex="avx")(text)


def scalar_conversion(rows: str, name: str, how: Callable[[Cpu, Value, int], Value], feature: str = "sse2") -> None:
    """One value, to the width of the destination."""

    def text(cpu: Cpu, a: Any, *sources: Any) -> None:
        x = sources[-1].read()
        instruction = name + (f".{x.w}" if "si2" in name else f".{a.w}" if "2si" in name else "")
        a.set(direct(cpu, instruction, a.w, [x], lambda: how(cpu, x, a.w)))

    op(rows, name, sse=True, feature=feature, vex="LIG")(text)


def mmx_conversion(rows: str, name: str, source: int, how: Conversion, feature: str) -> None:
    """To or from an mmx register. The x87 becomes MMX state, but not where the mmx operand is in memory."""

    def text(cpu: Cpu, a: Any, b: Any) -> None:
        mmx = cpu.row.operands[0][0] == "P" or not cpu.mem
        if mmx:
            enter_mmx(cpu)
        x = b.read()
        if mmx:
            for word in ("top", "ftw"):  # they stay also where #XM follows: so processors do
                cpu.put_at(word, lift(0, 64), lift(0, 64))
        wide = name.replace("pi2", "dq2").replace("2pi", "2dq")
        a.set(direct(cpu, wide, 128, [x.zext(128)], lambda: how(cpu, whole_lanes(x, source, 2)).zext(128)).low(a.w))

    op(rows, name, sse=True, feature=feature, keeps=True)(text)


# fmt: off
mmx_conversion("NP 0F 2A Vq,Qq", "cvtpi2ps",  32, lambda cpu, x: from_integers(cpu, x, 32),       "sse")
mmx_conversion("66 0F 2A Vx,Qq", "cvtpi2pd",  32, lambda cpu, x: from_integers(cpu, x, 64),       "sse2")
mmx_conversion("NP 0F 2C Pq,Wq", "cvttps2pi", 32, lambda cpu, x: to_integers(cpu, x, 32, True),   "sse")
mmx_conversion("NP 0F 2D Pq,Wq", "cvtps2pi",  32, lambda cpu, x: to_integers(cpu, x, 32, False),  "sse")
mmx_conversion("66 0F 2C Pq,Wx", "cvttpd2pi", 64, lambda cpu, x: to_integers(cpu, x, 32, True),   "sse2")
mmx_conversion("66 0F 2D Pq,Wx", "cvtpd2pi",  64, lambda cpu, x: to_integers(cpu, x, 32, False),  "sse2")

scalar_conversion("F3 0F 2A Vss,Hss,Ey",  "cvtsi2ss",  lambda cpu, x, w: from_integers(cpu, [x], w), "sse")
scalar_conversion("F2 0F 2A Vsd,Hsd,Ey",  "cvtsi2sd",  lambda cpu, x, w: from_integers(cpu, [x], w))
scalar_conversion("F3 0F 2C Gy,Wss",  "cvttss2si", lambda cpu, x, w: to_integers(cpu, [x], w, True), "sse")
scalar_conversion("F2 0F 2C Gy,Wsd",  "cvttsd2si", lambda cpu, x, w: to_integers(cpu, [x], w, True))
scalar_conversion("F3 0F 2D Gy,Wss",  "cvtss2si",  lambda cpu, x, w: to_integers(cpu, [x], w, False), "sse")
scalar_conversion("F2 0F 2D Gy,Wsd",  "cvtsd2si",  lambda cpu, x, w: to_integers(cpu, [x], w, False))
scalar_conversion("F3 0F 5A Vsd,Hsd,Wss", "cvtss2sd",  lambda cpu, x, w: widened(cpu, [x]))
scalar_conversion("F2 0F 5A Vss,Hss,Wsd", "cvtsd2ss",  lambda cpu, x, w: narrowed(cpu, [x]))

packed_conversion("NP 0F 5A Vx,Wxh", "cvtps2pd",  32, widened)
packed_conversion("66 0F 5A Vdq,Wx", "cvtpd2ps",  64, narrowed)
packed_conversion("NP 0F 5B Vx,Wx", "cvtdq2ps",  32, lambda cpu, x: from_integers(cpu, x, 32))
packed_conversion("66 0F 5B Vx,Wx", "cvtps2dq",  32, lambda cpu, x: to_integers(cpu, x, 32, False))
packed_conversion("F3 0F 5B Vx,Wx", "cvttps2dq", 32, lambda cpu, x: to_integers(cpu, x, 32, True))
packed_conversion("F3 0F E6 Vx,Wxh", "cvtdq2pd",  32, lambda cpu, x: from_integers(cpu, x, 64))
packed_conversion("F2 0F E6 Vdq,Wx", "cvtpd2dq",  64, lambda cpu, x: to_integers(cpu, x, 32, False))
packed_conversion("66 0F E6 Vdq,Wx", "cvttpd2dq", 64, lambda cpu, x: to_integers(cpu, x, 32, True))
# fmt: on


# -- SSE4.1
def less(a: Value, b: Value) -> Value:
    return Value(node("fcmp", 1, a.n, b.n, attr="olt"))


def integral(x: Value, mode: Value) -> Value:
    """The host's way to round a number below 2**51: to nearest, then one up or down, under the sign of the number."""
    w, one, magic = x.w, lift(ONE[64], 64), lift(ROUND_MAGIC, 64)
    d = converted("fpext", x, 64) if w == 32 else x
    n = f("fsub", f("fadd", d, magic), magic)
    down, up = (mode == 1) | (mode == 3) & (x.top == 0), (mode == 2) | (mode == 3) & (x.top != 0)
    n = (down & less(d, n)).choose(f("fsub", n, one), (up & less(n, d)).choose(f("fadd", n, one), n))
    return (converted("fptrunc", n, 32) if w == 32 else n) | (x & (1 << w - 1))


def round_(cpu: Cpu, d: Any, b: Any, i: Any, w: int) -> None:
    """To an integral value, in the mode of the immediate or of MXCSR."""
    x, imm = b.read(), i.read()

    def otherwise() -> Value:
        quiet = (imm.bit(3) != 0) | ((cpu.mxcsr & INEXACT_KNOWN) == INEXACT_KNOWN)
        fast, safe = x, lift(0, 1)
        if x.w == w:
            fast, safe = integral(x, imm.low(2)), quiet & (imm.bit(2) == 0) & below(x, 50) & ~Tests(w, w).denormal(x)
        return guarded(cpu, fast, safe, w, lambda control: [function_of(w, "round")(p, imm, control) for p, _ in pairs(x, x, w)])

    d.set(direct(cpu, "round" + kind(x.w, w), x.w, [x, imm], otherwise))


for _w, _kind, _code in ((32, "x", "08"), (64, "x", "09"), (32, "s", "0A"), (64, "s", "0B")):
    _operands = "Vx,Wx,Ib" if _kind == "x" else f"V{SCALAR[_w]},H{SCALAR[_w]},W{SCALAR[_w]},Ib"
    _name = "round" + (SCALAR[_w] if _kind == "s" else "p" + SCALAR[_w][1])
    op(f"66 0F3A {_code} {_operands}", _name, sse=True, feature="sse4_1", vex="avx" if _kind == "x" else "LIG")(
        lambda cpu, d, *o, w=_w: round_(cpu, d, o[-2], o[-1], w)
    )


def dot_product(w: int) -> Any:
    """The chosen products, summed as a tree; bits 7:4 of the immediate choose products, 3:0 destinations."""
    add, mul, count = function_of(w, "add"), function_of(w, "mul"), 128 // w

    def text(a: Value, b: Value, imm: Value, control: Value) -> Any:
        flags = Var(lift(0, 8))
        terms = []
        for i, (x, y) in enumerate(pairs(a, b, w)):
            wanted = imm.bit(4 + i)
            r = mul(wanted.choose(x, lift(0, w)), wanted.choose(y, lift(0, w)), control)
            terms.append(r.low(w))
            flags.set(flags | r.bits(w + 7, w))
        while len(terms) > 1:
            sums = [add(x, y, control) for x, y in zip(terms[::2], terms[1::2], strict=True)]
            for r in sums:
                flags.set(flags | r.bits(w + 7, w))
            terms = [r.low(w) for r in sums]
        return terms[0].zext(2 * w) | (flags.zext(2 * w) << w)

    text.__name__ = f"f{w}_dot_product"
    call = function(128, 128, 8, 32, returns=2 * w)(text)

    def run(cpu: Cpu, d: Any, a: Any, b: Any, i: Any) -> None:
        imm = i.read()
        results = [call(x, y, imm, cpu.mxcsr.low(32)) for x, y in zip(halves(a), halves(b), strict=True)]
        raised(cpu, packed(results, w)[1])
        d.set(joined([concat(*(imm.bit(k).choose(r.low(w), lift(0, w)) for k in range(count))) for r in results]))

    return run


op("66 0F3A 40 Vx,Hx,Wx,Ib", "dpps", sse=True, feature="sse4_1", vex="avx")(dot_product(32))
op("66 0F3A 41 Vx,Hx,Wx,Ib", "dppd", sse=True, feature="sse4_1", vex="128")(dot_product(64))
