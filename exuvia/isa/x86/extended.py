"""The x87's arithmetic on 80-bit values as functions, under a control word (SDM vol. 1, 8.1.5, 8.4, 8.5).

The last argument `fcw` is the x87 control word in 64 bits. With bit 16 (or 17) of it set the first (or second) operand counts as
denormal: it was, before it was widened. Every result is value | exceptions << width of the value, where the exceptions are bits of the
status word: IE DE ZE OE UE PE, and C1 (bit 9) where the magnitude was rounded up. A result whose unmasked overflow or underflow goes to a
register has its exponent wrapped by 24576 (SDM vol. 1, 8.5.4, 8.5.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl import floating
from exuvia.dsl.floating import (
    BINARY32,
    BINARY64,
    EXTENDED,
    FAR,
    IE,
    TRUNCATE,
    ZE,
    Control,
    Format,
    Number,
    Result,
    flag,
    pack,
    result,
    rounded,
)
from exuvia.dsl.ieee754 import define
from exuvia.dsl.trace import Function, Var, loop, rarely, when
from exuvia.dsl.values import Value, lift

INDEFINITE = EXTENDED.indefinite
BCD_INDEFINITE = 0xFFFF_C000 << 48
FIRST_DENORMAL, SECOND_DENORMAL = 1 << 16, 1 << 17
"""Set beside the control word: the operand was a denormal in its own format."""
C0, C1, C2, C3 = 1 << 8, 1 << 9, 1 << 10, 1 << 14


def controlled(fcw: Value, precision: bool = True) -> Control:
    """What a control word says; `precision`: whether precision control applies (SDM vol. 1, 8.1.5.2)."""
    pc = fcw.bits(9, 8)
    p = (pc == 0).choose(lift(24, 8), (pc == 2).choose(lift(53, 8), 64)) if precision else None
    off = lift(0, 1)
    return Control(fcw.bits(11, 10), off, off, fcw.bit(3), fcw.bit(4), wrap=0x6000, precision=p)


def larger_nan(a: Number, b: Number) -> Value:
    """The x87's rule: a quiet NaN before a signalling one, else the larger significand, else the positive one (SDM vol. 1, table 4-7)."""
    pick_a = (a.significand.u > b.significand) | ((a.significand == b.significand) & ~a.sign)
    pick_a = (a.signalling ^ b.signalling).choose(b.signalling, pick_a)
    return (a.nan & (~b.nan | pick_a)).choose(a.quieted, b.quieted)


def finish(r: Result, w: int = 0) -> Value:
    """Value and exceptions, packed."""
    return r.packed(w or (128 if r.value.w > 48 else 64))


def binary(name: str, operation: Callable[..., Result], **facts: Any) -> Function:
    """A function of two numbers."""

    def text(a: Value, b: Value, fcw: Value) -> Value:
        x, y = Number(EXTENDED, a), Number(EXTENDED, b)
        x.subnormal, y.subnormal = x.subnormal | fcw.bit(16), y.subnormal | fcw.bit(17)
        return finish(operation(EXTENDED, x, y, controlled(fcw), larger_nan, **facts))

    return define(f"f80_{name}", (80, 80, 64), 128, text)


def unary(name: str, operation: Callable[[Number, Value], Result], w: int = 80) -> Function:
    """A function of one 80-bit number that returns w bits."""

    def text(a: Value, fcw: Value) -> Value:
        return finish(operation(Number(EXTENDED, a), fcw))

    return define(name, (80, 64), 128 if w > 48 else 64, text)


def comparison(name: str, quiet: bool) -> Function:
    """C3, C2 and C0 of the relation, and exceptions (32 bits: a status word)."""

    def text(a: Value, b: Value, fcw: Value) -> Value:
        y = Number(EXTENDED, b)
        y.subnormal = y.subnormal | fcw.bit(17)
        relation, flags = floating.compare(Number(EXTENDED, a), y, quiet)
        codes = (lift(0x4500_4000_0100_0000, 64).u >> (relation.zext(64) << 4)).low(16)
        return (codes | flags).zext(32)

    return define(f"f80_{name}", (80, 80, 64), 32, text)


def store(f: Format) -> Callable[[Number, Value], Result]:
    """FST: the number in a shorter format. A denormal is no exception here (SDM vol. 2, FST), nor is an unmasked overflow inexact."""

    def operation(a: Number, fcw: Value) -> Result:
        r = floating.convert(f, a, controlled(fcw, precision=False))
        r.flags.set(r.flags & ~floating.DE)
        with rarely((r.flags.zext(64) & ~fcw & (floating.OE | floating.UE)) != 0):
            r.flags.set(r.flags & (floating.OE | floating.UE))
        return r

    return operation


def widening(f: Format) -> tuple[Function, Function]:
    """FLD: the number in 80 bits, with its exceptions; and as an operand: signalling NaNs stay such, bit 80 says that it was a denormal."""

    def loaded(a: Value, fcw: Value) -> Value:
        return finish(floating.convert(EXTENDED, Number(f, a), controlled(fcw)))

    def operand(a: Value) -> Value:
        x = Number(f, a)
        exponent = x.most.choose(lift(EXTENDED.special, 32), x.zero.choose(0, x.exponent + (EXTENDED.bias - f.bias)))
        value = pack(EXTENDED, x.sign, exponent, x.significand.zext(64) << (64 - f.work))
        return value.zext(128) | (x.subnormal.zext(128) << 80)

    return define(f"{f.name}_to_f80", (f.width, 64), 128, loaded), define(f"{f.name}_operand", (f.width,), 128, operand)


def scale(f: Format, a: Number, b: Number, c: Control, nan: floating.NanRule) -> Result:
    """FSCALE: a * 2 ** trunc(b)."""
    e = b.exponent - f.bias
    whole = (e.s < 0).choose(0, (b.significand.u >> ((63 - e).zext(64) & 63)).low(32) & 0x1FFFF)
    whole = (e.s > 16).choose(FAR, whole)
    exponent = a.exponent + b.sign.choose(0 - whole, whole)
    r = rounded(f, a.sign, exponent, a.significand.zext(128) << 64, c)
    denormal = flag(a.subnormal | b.subnormal, floating.DE)
    with rarely((exponent + c.wrap).u >= f.special + 2 * c.wrap):
        # too far for a wrapped exponent: processors then give the infinity or the zero
        with when((exponent.s > 0) & ~c.overflow_masked):
            r.set(floating.infinity(f, a.sign), floating.OE | floating.PE | floating.UP)
        with when((exponent.s < 0) & ~c.underflow_masked):
            r.set(floating.zero(f, a.sign), floating.UE | floating.PE)
    r.flags.set(r.flags | denormal)
    with rarely(a.zero | a.odd | b.odd):
        with when(a.zero | a.infinite):
            r.set(a.raw, denormal)
        with when(b.infinite):
            bad = b.sign.choose(a.infinite, a.zero)
            value = b.sign.choose(floating.zero(f, a.sign), floating.infinity(f, a.sign))
            r.set(bad.choose(INDEFINITE, value), bad.choose(IE, denormal))
        floating.nans(f, a, b, nan, r)
    return r


def integral(a: Number, fcw: Value) -> Result:
    """FRNDINT; unlike SSE's rounding it knows denormals (SDM vol. 2, FRNDINT)."""
    r = floating.to_integral(a, fcw.bits(11, 10), larger_nan)
    r.flags.set(r.flags | flag(a.subnormal, floating.DE))
    return r


def significand(a: Number, fcw: Value) -> Result:
    """FXTRACT: the significand, as a number between 1 and 2."""
    f = EXTENDED
    r = result(f, pack(f, a.sign, lift(f.bias, 32), a.significand), flag(a.subnormal, floating.DE))
    with rarely(a.zero | a.odd):
        r.set(a.raw, flag(a.zero, ZE))
        floating.nans(f, a, a, larger_nan, r)
    return r


def exponent(a: Number, fcw: Value) -> Result:
    """FXTRACT: the exponent, as a number; its exceptions are those of `significand`."""
    f = EXTENDED
    r = floating.from_integer(f, a.exponent - f.bias, controlled(fcw, precision=False))
    with rarely(a.zero | a.odd):
        r.set(floating.infinity(f, a.zero), 0)
        floating.nans(f, a, a, larger_nan, r)
    return r


def remainder(f: Format, a: Number, b: Number, c: Control, nan: floating.NanRule, nearest: bool) -> Result:
    """FPREM and FPREM1: a - b * quotient, C0 C3 C1 the quotient's bits 2 1 0; C2 where it is only part of the way (SDM vol. 2, FPREM)."""
    distance = a.exponent - b.exponent
    partial = distance.s >= 64
    steps = partial.choose((distance & 31) | 32, (distance.s < 0).choose(-1, distance)) + 1
    rest, quotient = Var(a.significand.zext(128)), Var(lift(0, 64))
    with loop(steps.zext(64), rest, quotient):
        fits = rest.u >= b.significand.zext(128)
        left = fits.choose(rest - b.significand.zext(128), rest.read())
        rest.set(left << 1)
        quotient.set((quotient << 1) | fits.zext(64))
    # rest is twice the remainder in units of b's last place (of a's where there was no step)
    scaled = (distance.s < 0).choose(rest << 1, rest)
    unit = (distance.s < 0).choose(a.exponent, a.exponent - steps + 1)
    sign = Var(a.sign)
    left = Var(lift(scaled))
    if nearest:
        divisor = b.significand.zext(128) << 1
        close = ((distance + 1) == 0).choose(b.significand.zext(128) << 2, divisor)
        below = ((distance + 1).s < 0) | b.infinite
        more = ~partial & ~below & ((left << 1).u > close)
        tie = ~partial & ~below & ((left << 1) == close) & quotient.bit(0)
        with when(more | tie):
            left.set(close - left)
            sign.set(~sign)
            quotient.set(quotient + 1)
    zeros = left.leading
    r = rounded(f, sign.read(), unit + 63 - zeros.low(32), left << (zeros & 127), c)
    low = quotient.low(16)
    codes = ((low & 4) << 6) | ((low & 2) << 13) | ((low & 1) << 9)
    codes = partial.choose(lift(C2, 16), codes)
    denormal = flag(a.subnormal | b.subnormal, floating.DE)
    r.flags.set((r.flags & ~(1 << 9)) | codes | denormal)
    with rarely((left == 0) | a.odd | b.odd | b.zero | a.zero):
        with when((left == 0) | a.zero):
            r.set(floating.zero(f, a.sign), denormal | a.zero.choose(0, codes))
        with when(a.infinite | b.zero):
            r.set(INDEFINITE, IE)
        floating.nans(f, a, b, nan, r)
    return r


def remainder_function(name: str, nearest: bool) -> Function:
    def text(a: Value, b: Value, fcw: Value) -> Value:
        c = controlled(fcw, precision=False)
        return finish(remainder(EXTENDED, Number(EXTENDED, a), Number(EXTENDED, b), c, larger_nan, nearest))

    return define(name, (80, 80, 64), 128, text)


def from_bcd(a: Value) -> Value:
    """FBLD: 18 decimal digits and a sign in bit 79."""
    value, left = Var(lift(0, 64)), Var(a.low(72).zext(128))
    with loop(9, value, left):
        byte = left.bits(71, 64).zext(64)
        value.set(value * 100 + (byte.u >> 4) * 10 + (byte & 15))
        left.set(left << 8)
    zeros = value.leading
    number = pack(EXTENDED, a.top, EXTENDED.bias + 63 - zeros.low(32), value << (zeros & 63))
    return (value == 0).choose(floating.zero(EXTENDED, a.top), number).zext(128)


def to_bcd(a: Number, fcw: Value) -> Result:
    """FBSTP: the number, rounded to an integer of 18 digits."""
    r = floating.to_integer(a, 64, fcw.bits(11, 10))
    negative = r.value.top
    magnitude = negative.choose(0 - r.value, r.value.read())
    digits, left = Var(lift(0, 80)), Var(magnitude)
    with loop(18, digits, left):
        tenth = left.u // 10
        digits.set((digits.u >> 4) | ((left - tenth * 10).zext(80) << 68))
        left.set(tenth)
    fits = ((r.flags & IE) == 0) & (magnitude.u < 10**18)
    value = digits | (a.sign.zext(80) << 79)
    return result(80, fits.choose(value, BCD_INDEFINITE), fits.choose(r.flags.read(), IE))


f80_add, f80_mul = binary("add", floating.add), binary("mul", floating.mul)
f80_sub, f80_div = binary("sub", floating.add, minus=True), binary("div", floating.div)
f80_compare, f80_compare_quiet = comparison("compare", False), comparison("compare_quiet", True)
f80_sqrt = unary("f80_sqrt", lambda a, fcw: floating.sqrt(EXTENDED, a, controlled(fcw), larger_nan))
f80_round = unary("f80_round", integral)
f80_significand, f80_exponent = unary("f80_significand", significand), unary("f80_exponent", exponent)
f80_to_f32, f80_to_f64 = unary("f80_to_f32", store(BINARY32), 32), unary("f80_to_f64", store(BINARY64), 64)
f80_to_bcd = unary("f80_to_bcd", to_bcd)
bcd_to_f80 = define("bcd_to_f80", (80,), 128, from_bcd)
f80_prem, f80_prem1 = remainder_function("f80_prem", False), remainder_function("f80_prem1", True)
f80_scale = define(
    "f80_scale", (80, 80, 64), 128,
    lambda a, b, fcw: finish(scale(EXTENDED, Number(EXTENDED, a), Number(EXTENDED, b), controlled(fcw, precision=False), larger_nan)),
)  # fmt: skip
f32_to_f80, f32_operand = widening(BINARY32)
f64_to_f80, f64_operand = widening(BINARY64)
i64_to_f80 = define("i64_to_f80", (64,), 128, lambda a: finish(floating.from_integer(EXTENDED, a, controlled(lift(0x37F, 64), False))))


def integers(name: str, truncate: bool) -> dict[int, Function]:
    """FIST or FISTTP by width; 16 and 32 bits come in 64 with the exceptions, 64 in 128."""

    def one(w: int) -> Function:
        return unary(f"f80_to_i{w}{name}", lambda a, fcw: floating.to_integer(a, w, lift(TRUNCATE, 2) if truncate else fcw.bits(11, 10)), w)

    return {w: one(w) for w in (16, 32, 64)}


f80_to_integer, f80_to_integer_truncate = integers("", False), integers("_truncate", True)
