"""Floating point of AArch64 as functions (Arm ARM, J1.3: shared/functions/float), controlled by FPCR.

Names: `arm64_add`, `arm32_sqrt`, `arm16_max` ... the number is the format's width. The last argument is FPCR (32 bits); a result is
value | flags << its width in twice that width, flags as FPSR's cumulative ones: IOC DZC OFC UFC IXC in bits 0 to 4, IDC in bit 7.

    armN_add sub mul mulx div max min maxnm minnm recps rsqrts (a, b, fpcr)     armN_madd (addend, a, b, fpcr)
    armN_sqrt recpe rsqrte recpx (a, fpcr)       armN_round (a, mode, fpcr)      mode: `floating`'s, and 8: inexact is noticed
    armN_compare, armN_compare_signalling (a, b, fpcr)                           0 greater, 1 less, 2 equal, 3 unordered
    armN_to_sM, armN_to_uM (a, fraction bits, mode, fpcr)                        saturating
    s64_to_armN, u64_to_armN (x, fraction bits, fpcr)
    armN_to_armM (a, fpcr), arm64_to_arm32_odd (a, fpcr)
    recip_estimate, rsqrt_estimate (32 bits): of unsigned fixed point
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exuvia.dsl import floating
from exuvia.dsl.floating import (
    BINARY16,
    BINARY32,
    BINARY64,
    IE,
    LESS,
    OE,
    PE,
    TRUNCATE,
    UE,
    ZE,
    Control,
    Format,
    Number,
    Result,
    flag,
    jam,
    result,
)
from exuvia.dsl.ieee754 import define
from exuvia.dsl.trace import Function, rarely, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.fpcr import AHP, DN, FZ, FZ16, IDC, rounding

FORMATS = {16: BINARY16, 32: BINARY32, 64: BINARY64}
ALL = lift(1, 1)


class Alternative(Format):
    """Half precision without infinities and NaNs (FPCR.AHP): the greatest exponent is one like any other (Arm ARM, A1.4.2)."""

    @property
    def special(self) -> int:
        return 1 << self.exponent


ALTERNATIVE = Alternative("f16", 16, 5, 11)


@dataclass
class Fpcr(Control):
    """What FPCR says about one format."""

    default_nan: Value | None = None


def controlled(f: Format, word: Value, flushes: bool = True) -> Fpcr:
    """The control of a format; conversions do not flush half precision."""
    flush = word.bit(FZ16 if f.width == 16 else FZ) if flushes else lift(0, 1)
    return Fpcr(rounding(word), flush, flush, ALL, ALL, before=True, default_nan=word.bit(DN))


def default_nan(f: Format) -> int:
    """Positive, quiet, no payload."""
    return f.special << (f.precision - 1) | f.quiet


def is_nan(f: Format, x: Value) -> Value:
    return (x << 1).u > (f.special << f.precision) & ((1 << f.width) - 1)


def nan_of(f: Format, c: Fpcr, *operands: Number) -> Value:
    """The first signalling operand, else the first quiet one, made quiet, else the default (FPProcessNaNs)."""
    value = lift(default_nan(f), f.width)
    for x in reversed(operands):
        value = x.nan.choose(x.quieted, value)
    for x in reversed(operands):
        value = x.signalling.choose(x.quieted, value)
    assert c.default_nan is not None
    return c.default_nan.choose(default_nan(f), value)


def settle(f: Format, r: Result, c: Fpcr, *operands: Number) -> Value:
    """The result with Arm's choice of NaNs; `operands` in the order in which their NaNs count."""
    with rarely(is_nan(f, r.value.read())):
        r.value.set(nan_of(f, c, *operands))
    return finish(r, *operands)


def flushed(x: Number) -> Value:
    """A denormal operand was taken for zero; of half precision nobody is told."""
    return x.zero & ((x.raw << 1) != 0) if x.format.width > 16 else lift(0, 1)


def finish(r: Result, *operands: Number) -> Value:
    """Value and flags, packed."""
    x = r.flags.read()
    flags = x & 1 | (x.u >> 1) & 0x1E
    for n in operands:
        flags = flags | flag(flushed(n), IDC)
    r.flags.set(flags)
    return r.packed(2 * r.value.w)


def first(a: Number, b: Number) -> Value:
    """Any NaN: `settle` replaces it."""
    return a.nan.choose(a.quieted, b.quieted)


def binary(f: Format, name: str, operation: Callable[..., Result], negate: bool = False) -> Function:
    """A function of two numbers; `negate`: the first one's sign is turned before anything else."""

    def text(a: Value, b: Value, word: Value) -> Value:
        c = controlled(f, word)
        x, y = Number(f, a ^ (1 << f.width - 1) if negate else a, c.daz), Number(f, b, c.daz)
        return settle(f, operation(f, x, y, c), c, x, y)

    return define(f"arm{f.width}_{name}", (f.width, f.width, 32), 2 * f.width, text)


def sub(f: Format, x: Number, y: Number, c: Fpcr) -> Result:
    return floating.add(f, x, y, c, first, minus=True)


def power_of_two(f: Format, sign: Value, exponent: int, fraction: int = 0) -> Value:
    """A constant's magnitude under a sign; `fraction`: the bit below the leading one."""
    return floating.pack(f, sign, lift(f.bias + exponent, 32), lift(2 + fraction << f.work - 2, f.work))


def unless_undefined(f: Format, r: Result, x: Number, y: Number, value: Value) -> Result:
    """`value`, and nothing raised, where infinity is multiplied by zero."""
    with rarely(x.infinite & y.zero | x.zero & y.infinite):
        r.set(value, 0)
    return r


def mulx(f: Format, x: Number, y: Number, c: Fpcr) -> Result:
    return unless_undefined(f, floating.mul(f, x, y, c, first), x, y, power_of_two(f, x.sign ^ y.sign, 1))


def recps(f: Format, x: Number, y: Number, c: Fpcr) -> Result:
    """2 + x * y, where x is minus the first operand."""
    two = power_of_two(f, lift(0, 1), 1)
    return unless_undefined(f, floating.fused(f, x, y, Number(f, two), c), x, y, two)


def rsqrts(f: Format, x: Number, y: Number, c: Fpcr) -> Result:
    """(3 + x * y) / 2, where x is minus the first operand."""
    three_halves = power_of_two(f, lift(0, 1), 0, 1)
    whole, x.exponent = x.exponent, x.exponent - 1
    r = floating.fused(f, x, y, Number(f, three_halves), c)
    x.exponent = whole
    return unless_undefined(f, r, x, y, three_halves)


def value_of(x: Number) -> Value:
    """The operand as it counts: a flushed one is zero."""
    return x.zero.choose(floating.zero(x.format, x.sign), x.raw)


def extreme(least: bool, numeric: bool) -> Callable[..., Result]:
    """FPMax, FPMin; `numeric`: a number is preferred to a quiet NaN."""

    def text(f: Format, x: Number, y: Number, c: Fpcr) -> Result:
        relation, _ = floating.compare(x, y, quiet=True)
        a, b = value_of(x), value_of(y)
        sign = x.sign | y.sign if least else x.sign & y.sign
        chosen = ((relation == LESS) ^ (not least)).choose(a, b)
        r = result(f, (x.zero & y.zero).choose(floating.zero(f, sign), chosen))
        with rarely(x.nan | y.nan):
            r.set(first(x, y), flag(x.signalling | y.signalling, IE))
            if numeric:
                with when(x.nan & ~x.signalling & ~y.nan):
                    r.value.set(b)
                with when(y.nan & ~y.signalling & ~x.nan):
                    r.value.set(a)
        return r

    return text


def madd(f: Format) -> Function:
    """FPMulAdd. A quiet NaN that is added to infinity times zero is not what comes out."""

    def text(addend: Value, a: Value, b: Value, word: Value) -> Value:
        c = controlled(f, word)
        d, x, y = (Number(f, v, c.daz) for v in (addend, a, b))
        r = floating.fused(f, x, y, d, c)
        with rarely(is_nan(f, r.value.read())):
            undefined = (x.infinite & y.zero | x.zero & y.infinite) & ~d.signalling
            r.value.set(undefined.choose(default_nan(f), nan_of(f, c, d, x, y)))
            r.flags.set(r.flags | flag(undefined, IE))
        return finish(r, d, x, y)

    return define(f"arm{f.width}_madd", (f.width,) * 3 + (32,), 2 * f.width, text)


def unary(f: Format, name: str, operation: Callable[..., Result]) -> Function:
    def text(a: Value, word: Value) -> Value:
        c = controlled(f, word)
        x = Number(f, a, c.daz)
        r = operation(f, x, c)
        with rarely(x.nan):
            r.set(x.quieted, flag(x.signalling, IE))
        return settle(f, r, c, x)

    return define(f"arm{f.width}_{name}", (f.width, 32), 2 * f.width, text)


def square_root(f: Format, x: Number, c: Fpcr) -> Result:
    return floating.sqrt(f, x, c, first)


def recip_of(scaled: Value) -> Value:
    """RecipEstimate: 9 bits 256..511 to 9 bits, as 32."""
    b = lift(1 << 19, 32).u // (scaled * 2 + 1)
    return (b + 1).u >> 1


def rsqrt_of(scaled: Value) -> Value:
    """RecipSqrtEstimate: 9 bits 128..511 to 9 bits, as 32. The greatest b of 10 bits with a * b * b below 2**28, a bit at a time."""
    a = (scaled.u < 256).choose(scaled * 2 + 1, ((scaled | 1) ^ 1) + 1 << 1)
    b = lift(512, 32)
    for k in range(8, -1, -1):
        more = b | 1 << k
        b = ((a * more * more).u < 1 << 28).choose(more, b)
    return (b + 1).u >> 1


def estimated(f: Format, sign: Value, exponent: Value, estimate: Value) -> Value:
    """A number with the 8 fraction bits of an estimate; an exponent of 0 or -1 makes it a denormal."""
    fraction = estimate.low(8).zext(f.width) << (f.precision - 9)
    half, quarter = lift(f.quiet, f.width) | fraction.u >> 1, lift(f.quiet >> 1, f.width) | fraction.u >> 2
    fraction = (exponent == 0).choose(half, (exponent == -1).choose(quarter, fraction))
    field = (exponent.s > 0).choose(exponent, 0)
    return floating.zero(f, sign) | field.low(f.exponent).zext(f.width) << (f.precision - 1) | fraction


def recip_estimate(f: Format, x: Number, c: Fpcr) -> Result:
    twice = 2 * f.bias - 1
    value = estimated(f, x.sign, twice - x.exponent, recip_of(x.significand.high(9).zext(32)))
    r = result(f, value)
    with rarely(x.zero | x.infinite | (x.exponent.s < -1) | (x.exponent.s >= twice)):
        with when(c.ftz & (x.exponent.s >= twice)):
            r.set(floating.zero(f, x.sign), UE)
        with when(x.infinite):
            r.set(floating.zero(f, x.sign), 0)
        with when(~x.zero & (x.exponent.s < -1)):
            away = (c.rounding == floating.NEAREST) | (c.rounding == floating.DOWN) & x.sign | (c.rounding == floating.UPWARD) & ~x.sign
            greatest = floating.pack(f, x.sign, lift(f.special - 1, 32), lift((1 << f.work) - 1, f.work))
            r.set(away.choose(floating.infinity(f, x.sign), greatest), OE | PE)
        with when(x.zero):
            r.set(floating.infinity(f, x.sign), ZE)
    return r


def rsqrt_estimate(f: Format, x: Number, c: Fpcr) -> Result:
    nine = x.significand.high(9).zext(32)
    even = x.exponent.bit(0) == 0
    exponent = (3 * f.bias - 1 - x.exponent).s >> 1
    r = result(f, estimated(f, lift(0, 1), exponent, rsqrt_of(even.choose(nine, nine.u >> 1))))
    with rarely(x.zero | x.infinite | x.sign):
        with when(x.infinite):
            r.set(0, 0)
        with when(x.sign & ~x.zero):
            r.set(default_nan(f), IE)
        with when(x.zero):
            r.set(floating.infinity(f, x.sign), ZE)
    return r


def recip_exponent(f: Format, x: Number, c: Fpcr) -> Result:
    """FRECPX: the exponent turned over, no fraction."""
    field = x.raw.bits(f.width - 2, f.precision - 1).zext(32)
    turned = (field == 0).choose(f.special - 1, field ^ f.special)
    return result(f, floating.zero(f, x.sign) | turned.zext(64).low(f.exponent).zext(f.width) << (f.precision - 1))


def comparison(f: Format, name: str, quiet: bool) -> Function:
    def text(a: Value, b: Value, word: Value) -> Value:
        c = controlled(f, word)
        x, y = Number(f, a, c.daz), Number(f, b, c.daz)
        relation, flags = floating.compare(x, y, quiet)
        return finish(result(f, relation.zext(f.width), flags), x, y)

    return define(f"arm{f.width}_{name}", (f.width, f.width, 32), 2 * f.width, text)


def round_to_integral(f: Format) -> Function:
    def text(a: Value, mode: Value, word: Value) -> Value:
        c = controlled(f, word)
        x = Number(f, a, c.daz)
        r = floating.to_integral(x, mode.low(3), first)
        with when(mode.bit(3) == 0):
            r.flags.set(r.flags & ~PE)
        return settle(f, r, c, x)

    return define(f"arm{f.width}_round", (f.width, 8, 32), 2 * f.width, text)


def to_fixed(f: Format, w: int, unsigned: bool) -> Function:
    """FPToFixed: NaNs give 0, what does not fit the nearest that does."""

    def text(a: Value, fraction: Value, mode: Value, word: Value) -> Value:
        c = controlled(f, word)
        x = Number(f, a, c.daz)
        e = x.exponent - f.bias + fraction.zext(32)
        moved = jam(x.significand.zext(128) << (128 - f.work), 63 - e)
        up = floating.increments(mode.low(3), x.sign, moved.low(64), 1 << 63, moved.bit(64))
        magnitude = moved.high(64) + up.zext(64)
        large = (e.s >= 64) | x.infinite
        if unsigned:
            least, most = 0, (1 << w) - 1
            fits = ~large & (magnitude.u <= most) & (~x.sign | (magnitude == 0))
        else:
            least, most = 1 << w - 1, (1 << w - 1) - 1
            fits = ~large & ((magnitude.u <= most) | x.sign & (magnitude == least))
        value = x.sign.choose(0 - magnitude, magnitude).low(w)
        r = result(w, value, flag(moved.low(64) != 0, PE))
        with rarely(~fits | x.nan):
            r.set(x.nan.choose(lift(0, w), x.sign.choose(lift(least, w), most)), IE)
        return finish(r, x)

    return define(f"arm{f.width}_to_{'su'[unsigned]}{w}", (f.width, 8, 8, 32), 2 * w, text)


def from_fixed(f: Format, unsigned: bool) -> Function:
    """FixedToFP."""

    def text(a: Value, fraction: Value, word: Value) -> Value:
        c = controlled(f, word)
        sign = lift(0, 1) if unsigned else a.top
        magnitude = sign.choose(0 - a, a)
        zeros = magnitude.leading
        wide = (magnitude << (zeros & 63)).zext(2 * f.work) << (2 * f.work - 64)
        r = floating.rounded(f, sign, f.bias + 63 - zeros.low(32) - fraction.zext(32), wide, c)
        with when(a == 0):
            r.set(0, 0)
        return finish(r)

    return define(f"{'su'[unsigned]}64_to_arm{f.width}", (64, 8, 32), 2 * f.width, text)


def conversion(source: Format, f: Format, odd: bool = False) -> Function:
    """FPConvert; `odd`: inexact results get an odd last bit."""

    def between(source: Format, f: Format, a: Value, word: Value) -> tuple[Result, Number, Fpcr]:
        c, from_ = controlled(f, word, f.width > 16), controlled(source, word, source.width > 16)
        if odd:
            c.rounding = lift(TRUNCATE, 2)
        x = Number(source, a, from_.daz)
        r = floating.convert(f, x, c)
        if odd:
            r.value.set(r.value | ((r.flags & PE) != 0).zext(f.width))
        return r, x, c

    def text(a: Value, word: Value) -> Value:
        r, x, c = between(source, f, a, word)
        with rarely(x.nan):
            assert c.default_nan is not None
            r.value.set(c.default_nan.choose(default_nan(f), r.value))
        if source is BINARY16:
            with rarely(word.bit(AHP)):
                other, _, _ = between(ALTERNATIVE, f, a, word)
                r.set(other.value, other.flags)
        if f is BINARY16:
            with rarely(word.bit(AHP)):
                other, y, _ = between(source, ALTERNATIVE, a, word)
                r.set(other.value, other.flags)
                with when(((other.flags & OE) != 0) | y.infinite):
                    r.set(floating.zero(f, y.sign) | 0x7FFF, IE)
                with when(y.nan):
                    r.set(floating.zero(f, y.sign), IE)
        return finish(r, x)

    return define(f"arm{source.width}_to_arm{f.width}" + "_odd" * odd, (source.width, 32), 2 * f.width, text)


BINARY: dict[str, tuple[Callable[..., Result], bool]] = {
    "add": (lambda f, x, y, c: floating.add(f, x, y, c, first), False),
    "sub": (sub, False),
    "mul": (lambda f, x, y, c: floating.mul(f, x, y, c, first), False),
    "div": (lambda f, x, y, c: floating.div(f, x, y, c, first), False),
    "mulx": (mulx, False),
    "max": (extreme(False, False), False),
    "min": (extreme(True, False), False),
    "maxnm": (extreme(False, True), False),
    "minnm": (extreme(True, True), False),
    "recps": (recps, True),
    "rsqrts": (rsqrts, True),
}
UNARY: dict[str, Callable[..., Result]] = {
    "sqrt": square_root, "recpe": recip_estimate, "rsqrte": rsqrt_estimate, "recpx": recip_exponent,
}  # fmt: skip
FUNCTIONS: dict[str, Function] = {}
"""All of them by name."""


def _all() -> list[Function]:
    made = [binary(f, name, *how) for f in FORMATS.values() for name, how in BINARY.items()]
    made += [unary(f, name, how) for f in FORMATS.values() for name, how in UNARY.items()]
    for f in FORMATS.values():
        made += [madd(f), round_to_integral(f), comparison(f, "compare", True), comparison(f, "compare_signalling", False)]
        made += [from_fixed(f, unsigned) for unsigned in (False, True)]
        made += [to_fixed(f, w, unsigned) for w in sorted({f.width, 32, 64}) for unsigned in (False, True)]
        made += [conversion(f, g) for g in FORMATS.values() if g is not f]
    return [*made, conversion(BINARY64, BINARY32, odd=True)]


def function_of(name: str) -> Any:
    """One of them."""
    return FUNCTIONS[name]


def unsigned_recip(x: Value) -> Value:
    return x.top.choose(recip_of(x.high(9).zext(32)) << 23, 0xFFFF_FFFF)


def unsigned_rsqrt(x: Value) -> Value:
    return (x.high(2) != 0).choose(rsqrt_of(x.high(9).zext(32)) << 23, 0xFFFF_FFFF)


FUNCTIONS.update({f.name: f for f in _all()})
FUNCTIONS["recip_estimate"] = define("recip_estimate", (32,), 32, unsigned_recip)
FUNCTIONS["rsqrt_estimate"] = define("rsqrt_estimate", (32,), 32, unsigned_rsqrt)
