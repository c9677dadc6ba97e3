"""How texts compute floats: the host's own instruction where it gives what Arm's does, the functions elsewhere.

The host's word rounds as FPCR says and collects its flags (fpcr.py). Its instruction is right unless the guest flushes denormals, which x86
does in another way, or the result is a NaN, of which another would be chosen. Where tiny results are inexact x86 looks for tininess after
rounding and Arm before it: the value is the same, and only a result that is the least normal number may lack UFC. In those cases the
functions say what comes out; the flags that they raise are the host's, or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from exuvia.dsl.hostfloats import host_floats, on_host
from exuvia.dsl.lanes import every, shift
from exuvia.dsl.trace import Var, rarely, seldom, when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fp_functions import FORMATS, function_of
from exuvia.isa.aarch64.fpcr import FZ, FZ16, rounding
from exuvia.isa.aarch64.vectors import even, odd

SCALAR = {32: "ss", 64: "sd"}
AWAY = 4
CURRENT = -1
"""Rounding mode: FPCR's."""


def lanes_of(v: Value, w: int) -> list[Value]:
    return [v.lane(i, w) for i in range(v.w // w)] if v.w > w else [v]


def joined(lanes: list[Value]) -> Value:
    return concat(*lanes) if len(lanes) > 1 else lanes[0]


def raised(cpu: Cpu, flags: Value) -> None:
    """Set flags of FPSR; nothing may fault afterwards."""
    zero = lift(0, 64)
    cpu.put_at("fpsr", zero, cpu.get_at("fpsr", zero, 64) | flags.zext(64))


def by_function(cpu: Cpu, name: str, w: int, operands: Sequence[Value], *constants: Any, to: int = 0) -> Value:
    """Lane by lane, from w bits to as many or `to`; with flags."""
    f, to = function_of(name), to or w
    results = [f(*lanes, *constants, cpu.fpcr.low(32)) for lanes in zip(*(lanes_of(v, w) for v in operands), strict=True)]
    flags = results[0].bits(to + 7, to)
    for r in results[1:]:
        flags = flags | r.bits(to + 7, to)
    raised(cpu, flags)
    return joined([r.low(to) for r in results])


def flushes(cpu: Cpu, w: int) -> Value:
    """Are denormals zeros?"""
    fpcr: Value = cpu.fpcr
    return fpcr.bit(FZ16 if w == 16 else FZ)


def infinity(w: int) -> int:
    return FORMATS[w].special << FORMATS[w].precision - 1


def least_normal(w: int) -> int:
    return 1 << FORMATS[w].precision - 1


def doubtful(r: Value, w: int, tiny: bool) -> Value:
    """Is there a NaN, or with `tiny` the least normal number?"""
    if r.w == w:
        twice = r + r
        nan = twice.u > 2 * infinity(w)
        return nan | (twice == 2 * least_normal(w)) if tiny else nan
    magnitude = r & every((1 << w - 1) - 1, w, r.w)
    found = magnitude.lanes("sgt", every(infinity(w), w, r.w), w)
    if tiny:
        found = found | magnitude.lanes("eq", every(least_normal(w), w, r.w), w)
    return found.signs(w) != 0


def direct(
    cpu: Cpu, instruction: str, w: int, operands: list[Value], otherwise: Callable[[], Value], tiny: bool = False, feature: str = "avx",
    looks: bool = True, total: int = 0,
) -> Value:  # fmt: skip
    """What the host's instruction gives in lanes of w bits, as many bits as the first operand has or `total`; `looks`: results are looked
    at, `tiny`: for the least normal number too. Two singles count twice, so that nothing else raises flags."""
    double = not total and (operands[0].w, w) == (64, 32)
    asked = [concat(v, v) if double and v.w == 64 else v for v in operands]
    total = total or operands[0].w
    r = Var(lift(0, total), total)
    own = host_floats(feature) & ~flushes(cpu, w)
    with seldom(~own):
        r.set(otherwise())
    with when(own):
        wide = on_host(instruction, 128 if double else total, *asked)
        r.set(wide.low(total))
        if looks:
            with rarely(doubtful(wide, w, tiny)):
                r.set(otherwise())
    return r.read()


def kind(total: int, w: int) -> str:
    """The suffix of the host's instruction on one lane or all."""
    return SCALAR[w] if total == w else "p" + SCALAR[w][1]


def arithmetic(cpu: Cpu, name: str, a: Value, b: Value, w: int) -> Value:
    """add sub mul div."""

    def otherwise() -> Value:
        return by_function(cpu, f"arm{w}_{name}", w, [a, b])

    return otherwise() if w == 16 else direct(cpu, name + kind(a.w, w), w, [a, b], otherwise, tiny=name in ("mul", "div"))


def square_root(cpu: Cpu, a: Value, w: int) -> Value:
    def otherwise() -> Value:
        return by_function(cpu, f"arm{w}_sqrt", w, [a])

    return otherwise() if w == 16 else direct(cpu, "sqrt" + kind(a.w, w), w, [a], otherwise)


FUSED = {(False, False): "fmadd231", (True, False): "fnmadd231", (False, True): "fmsub231", (True, True): "fnmsub231"}


def fused(cpu: Cpu, addend: Value, a: Value, b: Value, w: int, minus_product: bool = False, minus_addend: bool = False) -> Value:
    """a * b + addend, rounded once. A sign is an operand's, so NaNs change theirs."""

    def otherwise() -> Value:
        x, d = negated(a, w) if minus_product else a, negated(addend, w) if minus_addend else addend
        return by_function(cpu, f"arm{w}_madd", w, [d, x, b])

    if w == 16:
        return otherwise()
    return direct(cpu, FUSED[minus_product, minus_addend] + kind(a.w, w), w, [addend, a, b], otherwise, tiny=True, feature="fma")


def negated(a: Value, w: int) -> Value:
    return a ^ every(1 << w - 1, w, a.w)


def absolute(a: Value, w: int) -> Value:
    return a & every((1 << w - 1) - 1, w, a.w)


def ordered(a: Value, w: int) -> Value:
    """Signed integers that are in the order of the numbers, -0 below 0; and back."""
    if a.w == w:
        return a ^ (a.s >> w - 1).u >> 1
    return a ^ shift(shift(a, "ashr", w - 1, w), "lshr", 1, w)


def extreme(cpu: Cpu, name: str, a: Value, b: Value, w: int) -> Value:
    """max min maxnm minnm: of numbers by their order."""
    x, y, least = ordered(a, w), ordered(b, w), name.startswith("min")
    if a.w == w:
        chosen = (x.s < y).choose(a, b) if least else (x.s < y).choose(b, a)
    else:
        chosen = ordered(x.lanes("smin" if least else "smax", y, w), w)
    r = Var(chosen)
    with rarely(flushes(cpu, w) | doubtful(a, w, False) | doubtful(b, w, False)):
        r.set(by_function(cpu, f"arm{w}_{name}", w, [a, b]))
    return r.read()


# relation -> the predicate of VCMPPS with its operands turned, and which of greater, less, equal, unordered it is (SDM vol. 2, CMPPD)
PREDICATES = {"eq": (0, 0b0100, "compare"), "ge": (2, 0b0101, "compare_signalling"), "gt": (1, 0b0001, "compare_signalling")}


def compared(cpu: Cpu, relation: str, a: Value, b: Value, w: int) -> Value:
    """All ones where it holds."""
    predicate, wanted, function = PREDICATES[relation]

    def otherwise() -> Value:
        r = by_function(cpu, f"arm{w}_{function}", w, [a, b])
        return joined([(lift(wanted, w).u >> x).low(1).sext(w) for x in lanes_of(r, w)])

    if w == 16:
        return otherwise()
    return direct(cpu, "vcmp" + kind(a.w, w), w, [b, a, lift(predicate, 8)], otherwise, looks=False)


def rounded(cpu: Cpu, a: Value, w: int, mode: int, exact: bool) -> Value:
    """To an integral number; `exact`: inexactness is noticed."""

    def otherwise() -> Value:
        m = mode_of(cpu, mode)
        return by_function(cpu, f"arm{w}_round", w, [a], m | 8 if exact else m)

    if w == 16 or mode == AWAY:
        return otherwise()
    imm = (4 if mode == CURRENT else mode) | (0 if exact else 8)
    return direct(cpu, "round" + kind(a.w, w), w, [a, lift(imm, 8)], otherwise)


def mode_of(cpu: Cpu, mode: int) -> Value:
    """As the functions number it."""
    if mode != CURRENT:
        return lift(mode, 8)
    return rounding(cpu.fpcr).zext(8)


def tree(x: Value, w: int, f: Callable[[Value, Value], Value]) -> Value:
    """All lanes, neighbours first."""
    while x.w > w:
        if x.w > 2 * w:
            lanes = x.w // w
            x = f(x.shuffle(x, w, *range(0, lanes, 2)), x.shuffle(x, w, *range(1, lanes, 2)))
        else:
            x = f(x.low(w), x.high(w))
    return x


def pairs(a: Value, b: Value, w: int, f: Callable[[Value, Value], Value]) -> Value:
    """Neighbours of both operands, one behind the other."""
    return f(even(a, b, w), odd(a, b, w))


def set_scalar(cpu: Cpu, r: Value) -> None:
    """Write Vd: zeros above."""
    cpu.set_V("Vd", lift(0, 128).insert(0, r) if r.w in (32, 64) else r)
