"""Arithmetic and comparison of floats from SSE to AVX (SDM vol. 1, 10.4, 11.4, 11.5, 14.1, appendix E; vol. 2).

What MXCSR, rounding, NaNs and denormals ask for is said once, by the functions of `dsl.ieee754`. Where the host computes as the guest does
and everything is masked, its instruction is asked instead (`direct`). Elsewhere the common case stands in front of the functions:
rounding to nearest, everything masked and PE already set, operands normal or zero and results normal, or exactly zero. There
the host's operation gives the same value and no new flag, so one test of exponents decides for all lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl import ieee754
from exuvia.dsl.hostfloats import host_floats, on_host, set_vector_control, vector_control
from exuvia.dsl.lanes import choose, every, spread
from exuvia.dsl.trace import Var, function, rarely, seldom, when
from exuvia.dsl.values import Value, concat, lift, node
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.mxcsr import MASKED
from exuvia.isa.x86.state import CR4_OSXMMEXCPT, UD, XM
from exuvia.isa.x86.vector import even, odd

SCALAR = {32: "ss", 64: "sd"}
PREFIX = {("x", 32): "NP", ("x", 64): "66", ("s", 32): "F3", ("s", 64): "F2"}
SINCE = {32: "sse", 64: "sse2"}
FRACTION = {32: 23, 64: 52}
ONE = {32: 0x3F80_0000, 64: 0x3FF0_0000_0000_0000}
INDEFINITE = {32: 0xFFC0_0000, 64: 0xFFF8_0000_0000_0000}
BEFORE = 7  # IE, DE and ZE are found before computing: one of them unmasked, and the others are not looked for
ROUND_MAGIC = 0x4338_0000_0000_0000  # 1.5 * 2**52: added to a smaller number, it leaves the nearest integer in the low bits

Lanes = list[Value]


def exponent(w: int) -> int:
    """The mask of the exponent's bits."""
    return (1 << w - 1) - (1 << FRACTION[w])


def raised(cpu: Cpu, found: Value) -> None:
    """Note exceptions in MXCSR; an unmasked one is #XM, or #UD where the system does not know #XM (SDM vol. 1, 11.5.2, 11.5.3)."""
    found, mxcsr = found.zext(64), cpu.mxcsr
    unmasked = found & ~(mxcsr.u >> 7)
    with when(unmasked != 0):
        cpu.put_at("mxcsr", lift(0, 64), mxcsr | ((unmasked & BEFORE) != 0).choose(found & BEFORE, found))
        with when((cpu.cr4 & CR4_OSXMMEXCPT) == 0):
            raise_(UD)
        raise_(XM)
    cpu.put_at("mxcsr", lift(0, 64), mxcsr | found)


def packed(lanes: Lanes, w: int) -> tuple[Value, Value]:
    """Values and exceptions of several results of the functions."""
    flags = lanes[0].bits(w + 5, w)
    for x in lanes[1:]:
        flags = flags | x.bits(w + 5, w)
    values = [x.low(w) for x in lanes]
    return (concat(*values) if len(values) > 1 else values[0]), flags


def guarded(cpu: Cpu, fast: Value, safe: Value, w: int, slow: Callable[[Value], Lanes]) -> Value:
    """`fast` where it is safe; else what the functions say, lane by lane of w bits, with their exceptions."""
    r = Var(fast)
    with rarely(~(~host_floats() & safe)):
        v, flags = packed(slow(cpu.mxcsr.low(32)), w)
        r.set(v)
        raised(cpu, flags)
    return r.read()


def direct(
    cpu: Cpu, instruction: str, w: int, operands: list[Value], otherwise: Callable[[], Value], feature: str = "avx"
) -> Value:
    """What the host's own instruction gives (w bits) where that is the guest's and everything is masked; else what the text says."""
    r = Var(lift(0, w), w)
    own = host_floats(feature) & ((cpu.mxcsr & MASKED) == MASKED)
    with seldom(~own):
        r.set(otherwise())
    with when(own):
        r.set(on_host(instruction, w, *operands))
    return r.read()


def kind(total: int, w: int) -> str:
    """The suffix of an instruction on a scalar or on all lanes."""
    return SCALAR[w] if total == w else "p" + SCALAR[w][1]


def calm(cpu: Cpu) -> Any:
    """MXCSR: nearest, all masked, PE set. DAZ and FTZ may be as they like, for denormals do not come this way."""
    return (cpu.mxcsr & 0x7FA0) == 0x1FA0


def f(operation: str, a: Value, b: Value | None = None) -> Value:
    """The host's operation on scalars."""
    return Value(node("float", a.w, a.n, *([b.n] if b is not None else []), attr=operation))


def converted(how: str, a: Value, w: int) -> Value:
    """The host's conversion."""
    return Value(node("convert", w, a.n, attr=how))


class Tests:
    """Questions about floats of w bits, asked of one scalar or of all lanes of a vector at once; answers are masks."""

    def __init__(self, w: int, total: int) -> None:
        self.w, self.total = w, total

    def const(self, lane: int) -> Value:
        return lift(every(lane, self.w, self.total), self.total)

    def equal(self, a: Value, lane: int) -> Value:
        if self.total == self.w:
            return a == lane
        return a.lanes("eq", self.const(lane), self.w)

    def twice(self, a: Value) -> Value:
        """Without the sign."""
        return a + a if self.total == self.w else a.lanes("add", a, self.w)

    def zero(self, a: Value) -> Value:
        return self.equal(self.twice(a), 0)

    def denormal(self, a: Value) -> Value:
        """Below the least normal number, less one so that zero is the greatest; biased, for vectors compare signed numbers."""
        bias, limit = (1 << self.w - 1) - 1, (1 << FRACTION[self.w] + 1) - 1
        if self.total == self.w:
            return (self.twice(a) - 1).u < limit
        return self.const(limit - bias - 1).lanes("sgt", self.twice(a).lanes("add", self.const(bias), self.w), self.w)

    def special(self, a: Value) -> Value:
        """An infinity or a NaN."""
        return self.equal(a & self.const(exponent(self.w)), exponent(self.w))

    def small(self, a: Value) -> Value:
        """Zero, denormal, or in the least binade, where a result may have been rounded up from a tiny one."""
        return self.equal(a & self.const(exponent(self.w) & ~(1 << FRACTION[self.w])), 0)

    def none(self, mask: Value) -> Value:
        """No lane is."""
        return ~mask if self.total == self.w else mask.signs(self.w) == 0


# -- arithmetic
def odd_results(t: Tests, operation: str, a: Value, b: Value | None, r: Value) -> Value:
    """Where the host's result may not be what the functions say."""
    doubtful = t.denormal(a) | t.special(r)
    if b is not None:
        doubtful = doubtful | t.denormal(b)
    if operation in ("fadd", "fsub"):
        return doubtful | t.denormal(r)
    if operation == "fmul":
        return doubtful | (t.small(r) & ~(t.zero(a) | t.zero(lift(b))))
    return doubtful | (t.small(r) & ~t.zero(a)) if operation == "fdiv" else doubtful


def computed(cpu: Cpu, operation: str, a: Value, b: Value, w: int, name: str) -> Value:
    """A two-operand operation on a scalar or on all lanes."""

    def otherwise() -> Value:
        t = Tests(w, a.w)
        r = f(operation, a, b) if a.w == w else a.lanes(operation, b, w)
        safe = calm(cpu) & t.none(odd_results(t, operation, a, b, r))
        return guarded(cpu, r, safe, w, each(w, (name,), a, b))

    return direct(cpu, name + kind(a.w, w), a.w, [a, b], otherwise)


def each(w: int, names: tuple[str, ...], a: Value, b: Value) -> Callable[[Value], Lanes]:
    """Lane by lane what the functions say; their names in turn."""
    return lambda control: [function_of(w, names[i % len(names)])(x, y, control) for i, (x, y) in enumerate(pairs(a, b, w))]


def function_of(w: int, name: str) -> Any:
    return getattr(ieee754, f"f{w}_{name}")


def pairs(a: Value, b: Value, w: int) -> list[tuple[Value, Value]]:
    """Lane by lane."""
    if a.w == w:
        return [(a, b)]
    return [(a.lane(i, w), b.lane(i, w)) for i in range(a.w // w)]


def four_forms(code: str, name: str, text: Callable[..., None], widths: tuple[int, ...] = (32, 64), second: str = "Hx,") -> None:
    """ps, pd, ss and sd of one instruction; the text gets the width of a lane. `second`: the packed ones' first of two sources."""
    for w in widths:
        for kind in "xs":
            operands = f"Vx,{second}Wx" if kind == "x" else f"V{SCALAR[w]},H{SCALAR[w]},W{SCALAR[w]}"
            suffix = SCALAR[w] if kind == "s" else "p" + SCALAR[w][1]
            vex = "avx" if kind == "x" else "LIG"
            op(f"{PREFIX[kind, w]} 0F {code} {operands}", name + suffix, sse=True, feature=SINCE[w], vex=vex)(
                lambda cpu, *o, w=w: text(cpu, *o, w)
            )


def arithmetic(operation: str, name: str) -> Callable[[Cpu, Any, Any, Any, int], None]:
    return lambda cpu, d, a, b, w: d.set(computed(cpu, operation, a.read(), b.read(), w, name))


four_forms("58", "add", arithmetic("fadd", "add"))
four_forms("59", "mul", arithmetic("fmul", "mul"))
four_forms("5C", "sub", arithmetic("fsub", "sub"))
four_forms("5E", "div", arithmetic("fdiv", "div"))


def sqrt(cpu: Cpu, d: Any, *o: Any) -> None:
    x, w = o[-2].read(), o[-1]

    def otherwise() -> Value:
        t = Tests(w, x.w)
        r = f("sqrt", x) if x.w == w else Value(node("lanes1", x.w, x.n, attr=("sqrt", w)))
        safe = calm(cpu) & t.none(odd_results(t, "sqrt", x, None, r))
        return guarded(cpu, r, safe, w, lambda control: [function_of(w, "sqrt")(y, control) for y, _ in pairs(x, x, w)])

    d.set(direct(cpu, "sqrt" + kind(x.w, w), x.w, [x], otherwise))


four_forms("51", "sqrt", sqrt, second="")


def extreme(name: str) -> Callable[[Cpu, Any, Any, Any, int], None]:
    """The second operand unless the first is beyond it."""

    def text(cpu: Cpu, d: Any, a: Any, b: Any, w: int) -> None:
        x, y = a.read(), b.read()

        def otherwise() -> Value:
            t = Tests(w, x.w)
            first, second = (x, y) if name == "min" else (y, x)
            if x.w == w:
                r = Value(node("fcmp", 1, first.n, second.n, attr="olt")).choose(x, y)
            else:
                r = choose(first.lanes("folt", second, w), x, y)
            safe = t.none(t.denormal(x) | t.denormal(y) | t.special(x) | t.special(y))
            return guarded(cpu, r, safe, w, each(w, (name,), x, y))

        d.set(direct(cpu, name + kind(x.w, w), x.w, [x, y], otherwise))

    return text


four_forms("5D", "min", extreme("min"))
four_forms("5F", "max", extreme("max"))


# -- SSE3
def alternating(w: int) -> Callable[[Cpu, Any, Any, Any], None]:
    """Differences in even lanes, sums in odd ones."""

    def text(cpu: Cpu, d: Any, a: Any, b: Any) -> None:
        x, y = a.read(), b.read()

        def otherwise() -> Value:
            t = Tests(w, x.w)
            r = x.lanes("fadd", y ^ every(1 << w - 1, 2 * w, x.w), w)
            safe = calm(cpu) & t.none(odd_results(t, "fadd", x, y, r))
            return guarded(cpu, r, safe, w, each(w, ("sub", "add"), x, y))

        d.set(direct(cpu, "addsub" + kind(x.w, w), x.w, [x, y], otherwise))

    return text


def horizontal(operation: str, name: str, w: int) -> Callable[[Cpu, Any, Any, Any], None]:
    def text(cpu: Cpu, d: Any, a: Any, b: Any) -> None:
        x, y = a.read(), b.read()
        d.set(computed(cpu, operation, even(x, y, w), odd(x, y, w), w, name))

    return text


for _w, _prefix in ((32, "F2"), (64, "66")):
    _facts: dict[str, Any] = {"sse": True, "feature": "pni", "vex": "avx"}
    op(f"{_prefix} 0F D0 Vx,Hx,Wx", f"addsub{kind(128, _w)}", **_facts)(alternating(_w))
    op(f"{_prefix} 0F 7C Vx,Hx,Wx", f"hadd{kind(128, _w)}", **_facts)(horizontal("fadd", "add", _w))
    op(f"{_prefix} 0F 7D Vx,Hx,Wx", f"hsub{kind(128, _w)}", **_facts)(horizontal("fsub", "sub", _w))


# -- comparison
def predicate(imm: Value, equal: Value, less: Value, unordered: Value) -> Value:
    """eq lt le unord; bit 2 for their opposites, bit 3 for the other answer where a NaN is (SDM vol. 2, CMPPS, table 3-1)."""

    def wide(bit: Value) -> Value:
        return spread(bit.sext(64), equal.w) if equal.w >= 128 else bit.sext(equal.w)

    low, high = imm.bit(0), imm.bit(1)
    r = (equal & wide(~low)) | (less & wide(low ^ high)) | (unordered & wide((low & high) ^ imm.bit(3)))
    return r ^ wide(imm.bit(2))


def compared(w: int) -> Any:
    """A comparison's mask and exceptions; lt and le, and their opposites, do not like any NaN: or the others, with bit 4."""
    quiet, signalling = function_of(w, "compare_quiet"), function_of(w, "compare")

    def text(a: Value, b: Value, imm: Value, control: Value) -> Any:
        relation = Var(quiet(a, b, control))
        with rarely(imm.bit(0) ^ imm.bit(1) ^ imm.bit(4)):
            relation.set(signalling(a, b, control))
        v = relation.low(w)
        masks = ((v == n).choose(lift(-1, w), lift(0, w)) for n in (2, 1, 3))
        return predicate(imm, *masks).zext(2 * w) | (relation.high(w).zext(2 * w) << w)

    text.__name__ = f"f{w}_predicate"
    return function(w, w, 8, 32, returns=2 * w)(text)


COMPARED = {32: compared(32), 64: compared(64)}


def cmp(cpu: Cpu, d: Any, a: Any, b: Any, i: Any, w: int) -> None:
    x, y, imm = a.read(), b.read(), i & (31 if cpu.row.vex else 7)

    def otherwise() -> Value:
        t = Tests(w, x.w)
        if x.w == w:
            equal, less = (Value(node("fcmp", 1, x.n, y.n, attr=p)).sext(w) for p in ("oeq", "olt"))
        else:
            equal, less = x.lanes("foeq", y, w), x.lanes("folt", y, w)
        safe = t.none(t.denormal(x) | t.denormal(y) | t.special(x) | t.special(y))
        fast = predicate(imm, equal, less, lift(0, x.w))
        return guarded(cpu, fast, safe, w, lambda control: [COMPARED[w](p, q, imm, control) for p, q in pairs(x, y, w)])

    d.set(direct(cpu, ("vcmp" if cpu.row.vex else "cmp") + kind(x.w, w), x.w, [x, y, imm], otherwise))


for _w in (32, 64):
    for _kind, _operands, _vex in (("x", "Vx,Hx,Wx,Ib", "avx"), ("s", f"V{SCALAR[_w]},H{SCALAR[_w]},W{SCALAR[_w]},Ib", "LIG")):
        _name = "cmp" + (SCALAR[_w] if _kind == "s" else "p" + SCALAR[_w][1])
        op(f"{PREFIX[_kind, _w]} 0F C2 {_operands}", _name, sse=True, feature=SINCE[_w], vex=_vex)(
            lambda cpu, d, a, b, i, w=_w: cmp(cpu, d, a, b, i, w)
        )


def comis(w: int, name: str) -> Callable[[Cpu, Any, Any], None]:
    """ZF, PF, CF: greater 000, less 001, equal 100, unordered 111."""

    def text(cpu: Cpu, a: Any, b: Any) -> None:
        x, y, no = a.read(), b.read(), lift(0, 1)

        def otherwise() -> Value:
            t = Tests(w, w)
            zf, cf = (Value(node("fcmp", 1, x.n, y.n, attr=p)) for p in ("oeq", "olt"))
            fast = (cf.zext(w) << 2) | zf.zext(w)
            safe = ~(t.denormal(x) | t.denormal(y) | t.special(x) | t.special(y))

            def slow(control: Value) -> Lanes:
                r = function_of(w, name)(x, y, control)
                zcp = r.bit(1).zext(2 * w) | ((r.low(2) == 3).zext(2 * w) << 1) | (r.bit(0).zext(2 * w) << 2)
                return [(r & ~3) | zcp]

            return guarded(cpu, fast, safe, w, slow).low(8)

        zpc = direct(cpu, ("ucomi" if name == "compare_quiet" else "comi") + SCALAR[w], 8, [x, y], otherwise)
        cpu.set_flags("six", zpc.bit(2), zpc.bit(1), no, zpc.bit(0), no, no)

    return text


op("NP 0F 2E Vss,Wss", "ucomiss", sse=True, feature="sse", vex="LIG")(comis(32, "compare_quiet"))
op("66 0F 2E Vsd,Wsd", "ucomisd", sse=True, feature="sse2", vex="LIG")(comis(64, "compare_quiet"))
op("NP 0F 2F Vss,Wss", "comiss", sse=True, feature="sse", vex="LIG")(comis(32, "compare"))
op("66 0F 2F Vsd,Wsd", "comisd", sse=True, feature="sse2", vex="LIG")(comis(64, "compare"))


def undisturbed(host: Callable[[], Value], otherwise: Callable[[], Value]) -> Value:
    """32 bits, computed as a processor begins; MXCSR and the host's flags stay as they are."""
    r = Var(lift(0, 32), 32)
    with when(host_floats()):
        kept = vector_control()
        set_vector_control(lift(MASKED, 32))
        r.set(host())
        set_vector_control(kept)
    with when(~host_floats()):
        r.set(otherwise())
    return r.read()


# -- approximations: MXCSR neither changes nor is changed; denormals count and come as zeros (SDM vol. 2, RCPPS, RSQRTPS)
def approximate(root: bool) -> Callable[..., None]:
    t = Tests(32, 32)

    def one_lane(x: Value) -> Value:
        sign = x & 0x8000_0000
        flat = (x & exponent(32)) == 0
        r = undisturbed(lambda: on_host("divss", 32, lift(ONE[32], 32), on_host("sqrtss", 32, x) if root else x),
                        lambda: f("fdiv", lift(ONE[32], 32), f("sqrt", x) if root else x))  # fmt: skip
        nan = t.special(x) & ((x & 0x7F_FFFF) != 0)
        r = ((r & exponent(32)) == 0).choose(sign, r)
        r = (root & (x.top != 0) if root else lift(0, 1)).choose(lift(INDEFINITE[32], 32), r)
        return nan.choose(x | 0x40_0000, flat.choose(sign | exponent(32), r))

    def text(cpu: Cpu, d: Any, *o: Any) -> None:
        x, w = o[-2].read(), o[-1]
        lanes = [one_lane(p) for p, _ in pairs(x, x, w)]
        d.set(concat(*lanes) if x.w > w else lanes[0])

    return text


four_forms("52", "rsqrt", approximate(True), (32,), "")
four_forms("53", "rcp", approximate(False), (32,), "")
