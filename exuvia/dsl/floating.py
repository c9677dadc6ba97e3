"""Binary floating point of any format in guest values (IEEE 754-2019, clauses 3 to 7): exact results and exception flags.

A number is unpacked to sign, biased exponent and a significand whose leading bit is the top bit of 32 or 64; results are made in twice
that width and rounded once. Exceptions have the bits that x86 gives them in MXCSR and the x87 status word (SDM vol. 1, 8.1.3, 10.2.3).
What depends on the processor is a parameter: which NaN comes out, what unmasked exceptions and denormals do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exuvia.dsl.trace import Var, loop, rarely, when
from exuvia.dsl.values import Value, lift

IE, DE, ZE, OE, UE, PE = (1 << i for i in range(6))
UP = 1 << 9
"""The magnitude was rounded up: where the x87 status word has C1."""
NEAREST, DOWN, UPWARD, TRUNCATE, AWAY = range(5)
"""Rounding modes, numbered as x86 does; the last, to nearest with ties away from zero, only where a mode has 3 bits."""
GREATER, LESS, EQUAL, UNORDERED = range(4)
"""Relations, as `compare` returns them."""
FAR = 0x10000  # below every exponent


@dataclass(frozen=True)
class Format:
    """`width` bits: sign, `exponent` bits of biased exponent, significand of `precision` bits whose first is stored only if `explicit`."""

    name: str
    width: int
    exponent: int
    precision: int
    explicit: bool = False

    @property
    def work(self) -> int:
        """Bits of an unpacked significand."""
        return 32 if self.precision <= 30 else 64

    @property
    def bias(self) -> int:
        """What is added to the exponent."""
        return (1 << self.exponent - 1) - 1

    @property
    def special(self) -> int:
        """The exponent of infinities and NaNs."""
        return (1 << self.exponent) - 1

    @property
    def quiet(self) -> int:
        """The bit that makes a NaN quiet."""
        return 1 << (self.precision - 2)

    @property
    def indefinite(self) -> int:
        """The NaN of invalid operations on x86: negative, quiet, no payload (SDM vol. 1, 4.8.3.7)."""
        return ((2 << self.exponent) - 1) << (self.width - 1 - self.exponent) | self.quiet | (1 << 63 if self.explicit else 0)


BINARY16 = Format("f16", 16, 5, 11)
BINARY32 = Format("f32", 32, 8, 24)
BINARY64 = Format("f64", 64, 11, 53)
EXTENDED = Format("f80", 80, 15, 64, explicit=True)


def flag(condition: Value, bits: int) -> Value:
    """These exception flags where the condition holds."""
    return condition.choose(lift(bits, 16), 0)


@dataclass
class Control:
    """How to round and what to do about exceptions.

    `wrap` is the exponent adjustment of a result whose overflow or underflow is unmasked (IEEE 754-1985, 7.3), 0 for none.
    `before`: a result is tiny if it is before rounding, and what is flushed is not inexact (Arm); else after it, and it is (x86).
    """

    rounding: Value
    daz: Value
    ftz: Value
    overflow_masked: Value
    underflow_masked: Value
    wrap: int = 0
    precision: Value | None = None
    """Bits of significand to round to (8 bits wide), None for the format's own."""
    before: bool = False


class Number:
    """An operand, unpacked. `significand` has its leading bit on top (0 for zero); `exponent` is biased, 32 bits."""

    def __init__(self, f: Format, x: Value, daz: Value | None = None) -> None:
        s = f.work
        self.format, self.raw = f, x
        self.sign = x.top
        field = x.bits(f.width - 2, f.width - 1 - f.exponent).zext(32)
        self.tiny = field == 0
        self.most = field == f.special
        if f.explicit:
            whole = x.low(s)
        else:
            whole = (x.low(f.precision - 1).zext(s) << (s - f.precision)) | ((~self.tiny).zext(s) << (s - 1))
        none = whole == 0
        denormal = self.tiny if daz is None else self.tiny & ~daz
        self.zero = self.tiny & none if daz is None else self.tiny & (none | daz)
        self.subnormal = denormal & ~none
        zeros = denormal.choose(whole.leading, 0)  # an unnormal stays as it is: it is never used as a number
        self.significand = self.zero.choose(0, whole << (zeros & (s - 1)))
        self.exponent = self.zero.choose(-FAR, (field | self.tiny.zext(32)) - zeros.low(32))
        fraction = whole << 1
        self.infinite = self.most & (fraction == 0)
        self.nan = self.most & (fraction != 0)
        self.signalling = self.nan & ~whole.bit(s - 2)
        self.unsupported = lift(0, 1)
        if f.explicit:
            self.unsupported = ~self.tiny & ~whole.top
            self.infinite, self.nan, self.signalling = (x & whole.top for x in (self.infinite, self.nan, self.signalling))

    @property
    def odd(self) -> Value:
        """Neither a number nor zero: infinity, NaN, or an encoding the x87 no longer supports."""
        return self.most | self.unsupported

    @property
    def quieted(self) -> Value:
        """This NaN, quiet."""
        return self.raw | self.format.quiet


@dataclass
class Result:
    """A packed number and the exceptions that it raised (16 bits)."""

    value: Var
    flags: Var

    def set(self, value: Any, flags: Any) -> None:
        """Replace both."""
        self.value.set(value)
        self.flags.set(flags)

    def packed(self, w: int) -> Value:
        """value | flags << width, as w bits."""
        return self.value.read().zext(w) | (self.flags.read().zext(w) << self.value.read().w)


NanRule = Callable[[Number, Number], Value]


def result(f: Format | int, value: Any, flags: Any = 0) -> Result:
    """A result that can still be replaced."""
    w = f if isinstance(f, int) else f.width
    return Result(Var(lift(value, w)), Var(lift(flags, 16)))


def pack(f: Format, sign: Value, exponent: Value, significand: Value) -> Value:
    """The number with this biased exponent and this significand (top-aligned, its leading bit in the top bit)."""
    w = f.width
    if f.explicit:
        return (((sign.zext(16) << 15) | exponent.low(16)).zext(w) << 64) | significand.zext(w)
    fraction = (significand << 1).high(f.precision - 1)
    return (sign.zext(w) << (w - 1)) | (exponent.low(f.exponent).zext(w) << (f.precision - 1)) | fraction.zext(w)


def infinity(f: Format, sign: Value) -> Value:
    """The infinity of this sign."""
    return pack(f, sign, lift(f.special, 32), lift(1 << f.work - 1, f.work))


def zero(f: Format, sign: Value) -> Value:
    """The zero of this sign."""
    return sign.zext(f.width) << (f.width - 1)


def jam(x: Value, count: Value) -> Value:
    """x >> count, where the lowest bit becomes one if a one was lost; `count` is 32 bits, unsigned."""
    n = (count.u < x.w).choose(count, x.w - 1).zext(x.w) & (x.w - 1)
    moved = x.u >> n
    return moved | ((moved << n) != x).zext(x.w)


def increments(mode: Value, sign: Value, rest: Value, half: Value | int, odd: Value) -> Value:
    """Whether the remainder `rest` makes the magnitude round up; `half` is half a unit, `odd` the last bit that is kept."""
    nearest = (rest.u > half) | ((rest == half) & odd)
    away = ((mode == DOWN) & sign) | ((mode == UPWARD) & ~sign)
    up = (mode == NEAREST).choose(nearest, away & (rest != 0))
    return up if mode.w == 2 else (mode == AWAY).choose(rest.u >= half, up)


def rounded(f: Format, sign: Value, exponent: Value, wide: Value, c: Control) -> Result:
    """Round `wide` (2 * work bits, the top bit set, biased exponent for it) to the format."""
    w, s = wide.w, f.work
    unit = lift(1, w) << (w - f.precision) if c.precision is None else lift(1, w) << (w - c.precision.zext(w))
    half = unit.u >> 1
    top = 1 << (w - 1)

    def cut(x: Value) -> tuple[Value, Value, Value]:
        rest = x & (unit - 1)
        up = increments(c.rounding, sign, rest, half, (x & unit) != 0)
        return (x ^ rest) + up.choose(unit, 0), up, rest != 0

    r, up, inexact = cut(wide)
    carried = up & (r == 0)
    e = exponent + carried.zext(32)
    r = carried.choose(top, r)
    out = result(f, pack(f, sign, e, r.high(s)), flag(inexact, PE) | flag(up, UP))
    beyond = (e - 1).u >= f.special - 1
    with rarely(beyond | (exponent.s <= 0) if c.before else beyond):
        over = (exponent if c.before else e).s > 0
        infinite = (c.rounding == NEAREST) | ((c.rounding == DOWN) & sign) | ((c.rounding == UPWARD) & ~sign)
        largest = pack(f, sign, lift(f.special - 1, 32), (~(unit - 1)).high(s))
        small, small_up, small_inexact = cut(jam(wide, 1 - exponent))
        small_value = pack(f, sign, small.top.zext(32), small.high(s))
        flushed = c.ftz & c.underflow_masked
        masked = over.choose(c.overflow_masked, c.underflow_masked)
        value = over.choose(infinite.choose(infinity(f, sign), largest), flushed.choose(zero(f, sign), small_value))
        flags = over.choose(
            flag(infinite, UP) | (OE | PE),
            flag(flushed, UE if c.before else UE | PE) | flag(~flushed & small_inexact, UE | PE) | flag(~flushed & small_up, UP),
        )
        wrapped = pack(f, sign, e + over.choose(lift(-c.wrap, 32), c.wrap), r.high(s))
        out.set(
            masked.choose(value, wrapped if c.wrap else value),
            masked.choose(flags, flag(over, OE) | flag(~over, UE) | flag(inexact, PE) | flag(up, UP)),
        )
    return out


@dataclass
class Term:
    """What is added: a significand with its leading bit on top of twice a format's working width, the last two bits zero; 0 for zero."""

    sign: Value
    exponent: Value
    significand: Value


def term(a: Number, sign: Value) -> Term:
    """A number, under a sign."""
    return Term(sign, a.exponent, a.significand.zext(2 * a.format.work) << a.format.work)


def total(f: Format, a: Term, b: Term, c: Control) -> tuple[Result, Value]:
    """The sum of two terms, rounded; and before that, which is 0 for a zero that still wants its sign."""
    w = 2 * f.work
    swap = (a.exponent.s < b.exponent) | ((a.exponent == b.exponent) & (a.significand.u < b.significand))
    exponent, other = swap.choose(b.exponent, a.exponent), swap.choose(a.exponent, b.exponent)
    big, small = (x.u >> 2 for x in (swap.choose(b.significand, a.significand), swap.choose(a.significand, b.significand)))
    small = jam(small, exponent - other)
    whole = (a.sign ^ b.sign).choose(big - small, big + small)
    zeros = whole.leading
    return rounded(f, swap.choose(b.sign, a.sign), exponent + 2 - zeros.low(32), whole << (zeros & (w - 1)), c), whole


def add(f: Format, a: Number, b: Number, c: Control, nan: NanRule, minus: bool = False) -> Result:
    """a + b, or a - b."""
    b_sign = ~b.sign if minus else b.sign
    r, whole = total(f, term(a, a.sign), term(b, b_sign), c)
    r.flags.set(r.flags | flag(a.subnormal | b.subnormal, DE))
    with rarely((whole == 0) | a.odd | b.odd):
        both = a.zero & b.zero
        none = ((a.sign ^ b_sign) == 0).choose(a.sign, c.rounding == DOWN)
        r.set(zero(f, none), flag(~both & (a.subnormal | b.subnormal), DE))
        with when(a.infinite | b.infinite):
            bad = a.infinite & b.infinite & (a.sign ^ b_sign)
            value = infinity(f, a.infinite.choose(a.sign, b_sign))
            r.set(bad.choose(f.indefinite, value), bad.choose(lift(IE, 16), flag(a.subnormal | b.subnormal, DE)))
        with when(~(a.infinite | b.infinite) & (whole != 0)):
            r.set(f.indefinite, IE)  # replaced below: only NaNs and unsupported encodings are left
        nans(f, a, b, nan, r)
    return r


def fused(f: Format, a: Number, b: Number, d: Number, c: Control, negative: bool = False, minus: bool = False) -> Result:
    """a * b + d, rounded once; `negative`: -(a * b), `minus`: - d. Of NaNs the first of a, b, d comes out, as it is."""
    s = f.work
    sign, d_sign = a.sign ^ b.sign, ~d.sign if minus else d.sign
    sign = ~sign if negative else sign
    product = a.significand.zext(2 * s) * b.significand.zext(2 * s)
    high = product.top
    exponent = a.exponent + b.exponent - f.bias + high.zext(32)
    r, whole = total(f, Term(sign, exponent, high.choose(product, product << 1)), term(d, d_sign), c)
    denormal = flag(a.subnormal | b.subnormal | d.subnormal, DE)
    r.flags.set(r.flags | denormal)
    with rarely((whole == 0) | a.odd | b.odd | d.odd):
        infinite = a.infinite | b.infinite
        bad = infinite & (a.zero | b.zero)
        with when(whole == 0):
            r.set(zero(f, (sign == d_sign).choose(sign, c.rounding == DOWN)), denormal)
        with when(infinite | d.infinite):
            wrong = bad | infinite & d.infinite & (sign ^ d_sign)
            r.set(wrong.choose(f.indefinite, infinity(f, infinite.choose(sign, d_sign))), wrong.choose(lift(IE, 16), denormal))
        with when(a.nan | b.nan | d.nan):
            value = a.nan.choose(a.quieted, b.nan.choose(b.quieted, d.quieted))
            r.set(value, flag(a.signalling | b.signalling | d.signalling, IE))
    return r


def nans(f: Format, a: Number, b: Number, rule: NanRule, r: Result) -> None:
    """Replace the result where an operand is a NaN or unsupported."""
    with when(a.nan | b.nan):
        r.set(rule(a, b), flag(a.signalling | b.signalling, IE))
    if f.explicit:
        with when(a.unsupported | b.unsupported):
            r.set(f.indefinite, IE)


def mul(f: Format, a: Number, b: Number, c: Control, nan: NanRule) -> Result:
    """a * b."""
    s = f.work
    sign = a.sign ^ b.sign
    product = a.significand.zext(2 * s) * b.significand.zext(2 * s)
    high = product.top
    r = rounded(f, sign, a.exponent + b.exponent - f.bias + high.zext(32), high.choose(product, product << 1), c)
    denormal = flag(a.subnormal | b.subnormal, DE)
    r.flags.set(r.flags | denormal)
    with rarely(a.zero | b.zero | a.odd | b.odd):
        infinite = a.infinite | b.infinite
        bad = infinite & (a.zero | b.zero)
        value = infinite.choose(infinity(f, sign), zero(f, sign))
        r.set(bad.choose(f.indefinite, value), bad.choose(IE, denormal))
        nans(f, a, b, nan, r)
    return r


def div(f: Format, a: Number, b: Number, c: Control, nan: NanRule) -> Result:
    """a / b."""
    s = f.work
    sign = a.sign ^ b.sign
    less = a.significand.u < b.significand
    if s == 32:
        n = a.significand.zext(64) << less.choose(lift(32, 64), 31)
        d = b.significand.zext(64)
        quotient = n.u // d
        rest = n - quotient * d
        q, rest = quotient.low(32), rest.low(32)
    else:
        q, rest = divide(less.choose(a.significand, a.significand.u >> 1), less.choose(0, a.significand << 63), b.significand)
    twice = rest.zext(2 * s) << 1
    more = twice.u >= b.significand.zext(2 * s)
    sticky = (rest != 0) & (twice != b.significand.zext(2 * s))
    wide = (q.zext(2 * s) << s) | (more.zext(2 * s) << (s - 1)) | sticky.zext(2 * s)
    r = rounded(f, sign, a.exponent - b.exponent + f.bias - less.zext(32), wide, c)
    denormal = flag(a.subnormal | b.subnormal, DE)
    r.flags.set(r.flags | denormal)
    with rarely(a.zero | b.zero | a.odd | b.odd):
        bad = (a.zero & b.zero) | (a.infinite & b.infinite)
        by_zero = b.zero & ~a.infinite
        value = (a.infinite | b.zero).choose(infinity(f, sign), zero(f, sign))
        r.set(bad.choose(f.indefinite, value), bad.choose(lift(IE, 16), by_zero.choose(lift(ZE, 16), denormal)))
        nans(f, a, b, nan, r)
    return r


def divide(high: Value, low: Value, d: Value) -> tuple[Value, Value]:
    """128 by 64 bits -> quotient and remainder of 64; d has its top bit set and is above `high` (Knuth, TAOCP 4.3.1, algorithm D)."""
    d1, d0 = d.u >> 32, d & 0xFFFF_FFFF

    def digit(rest: Value, following: Value) -> tuple[Value, Value]:
        """One 32-bit digit of the quotient: (rest:following) / d."""
        q = rest.u // d1
        r = rest - q * d1
        for _ in range(2):
            much = (r.u < 1 << 32) & ((q.u > 0xFFFF_FFFF) | ((q * d0).u > ((r << 32) | following)))
            q, r = q - much.zext(64), r + much.choose(d1, 0)
        return q, (rest << 32) + following - q * d

    q1, rest = digit(high, low.u >> 32)
    q0, rest = digit(rest, low & 0xFFFF_FFFF)
    return (q1 << 32) | q0, rest


def sqrt(f: Format, a: Number, c: Control, nan: NanRule) -> Result:
    """The square root."""
    s = f.work
    even = (a.exponent - f.bias).bit(0) == 0
    radicand = a.significand.zext(2 * s) << even.choose(lift(s - 1, 2 * s), s)
    root, rest, left = Var(lift(0, 2 * s)), Var(lift(0, 2 * s)), Var(radicand)
    with loop(s, root, rest, left):
        next_rest = (rest << 2) | (left.u >> (2 * s - 2))
        trial = (root << 2) | 1
        fits = next_rest.u >= trial
        rest.set(fits.choose(next_rest - trial, next_rest))
        root.set((root << 1) | fits.zext(2 * s))
        left.set(left << 2)
    more = (rest.u > root.read()).zext(2 * s)
    wide = (root << s) | (more << (s - 1)) | (rest != 0).zext(2 * s)
    exponent = ((a.exponent - f.bias).s >> 1) + f.bias
    r = rounded(f, a.sign, exponent, wide, c)
    r.flags.set(r.flags | flag(a.subnormal, DE))
    with rarely(a.zero | a.odd | a.sign):
        r.set(a.zero.choose(zero(f, a.sign), a.infinite.choose(a.raw, f.indefinite)), flag(~a.zero & a.sign, IE))
        with when(a.infinite & a.sign):
            r.value.set(f.indefinite)
        nans(f, a, a, nan, r)
    return r


def compare(a: Number, b: Number, quiet: bool) -> tuple[Value, Value]:
    """The relation (2 bits) and the exceptions; a quiet NaN is an invalid operand unless `quiet`."""
    unordered = a.nan | b.nan | a.unsupported | b.unsupported
    smaller = (a.exponent.s < b.exponent) | ((a.exponent == b.exponent) & (a.significand.u < b.significand))
    same = (a.exponent == b.exponent) & (a.significand == b.significand) & (a.zero | (a.sign == b.sign))
    less = (a.sign == b.sign).choose(smaller ^ a.sign, a.sign)
    relation = unordered.choose(lift(UNORDERED, 2), same.choose(lift(EQUAL, 2), less.choose(lift(LESS, 2), GREATER)))
    invalid = a.signalling | b.signalling | a.unsupported | b.unsupported if quiet else unordered
    return relation, flag(invalid, IE) | flag(~unordered & (a.subnormal | b.subnormal), DE)


def to_integer(a: Number, w: int, mode: Value) -> Result:
    """A signed integer of w bits (at most 64); the indefinite integer, 1 and then zeros, where it does not fit."""
    f = a.format
    wide = a.significand.zext(128) << (128 - f.work)
    e = a.exponent - f.bias
    x = jam(wide, 63 - e)
    up = increments(mode, a.sign, x.low(64), 1 << 63, x.bit(64))
    magnitude = x.high(64) + up.zext(64)
    limit = 1 << (w - 1)
    fits = (e.s < 64) & ~a.odd & ((magnitude.u < limit) | (a.sign & (magnitude == limit)))
    value = a.sign.choose(0 - magnitude, magnitude).low(w)
    flags = flag(x.low(64) != 0, PE) | flag(up, UP)
    return result(w, fits.choose(value, limit), fits.choose(flags, IE))


def from_integer(f: Format, x: Value, c: Control) -> Result:
    """The signed integer x as a number."""
    x = x.sext(64)
    magnitude = x.top.choose(0 - x, x)
    zeros = magnitude.leading
    wide = (magnitude << (zeros & 63)).zext(2 * f.work) << (2 * f.work - 64)
    r = rounded(f, x.top, f.bias + 63 - zeros.low(32), wide, c)
    with when(x == 0):
        r.set(0, 0)
    return r


def convert(f: Format, a: Number, c: Control) -> Result:
    """The number in another format; a NaN keeps its sign and as much of its payload as fits."""
    source = a.format
    exponent = a.exponent + (f.bias - source.bias)
    if f.precision > source.precision and f.exponent > source.exponent:
        r = result(f, pack(f, a.sign, exponent, a.significand.zext(f.work) << (f.work - source.work)), flag(a.subnormal, DE))
    else:
        narrow = a.significand.zext(2 * f.work) << (2 * f.work - source.work)
        r = rounded(f, a.sign, exponent, narrow, c)
        r.flags.set(r.flags | flag(a.subnormal, DE))
    with rarely(a.zero | a.odd):
        payload = a.significand.zext(64) << (64 - source.work) | 1 << 62
        quiet = pack(f, a.sign, lift(f.special, 32), payload.high(f.work))
        r.set(a.zero.choose(zero(f, a.sign), a.nan.choose(quiet, infinity(f, a.sign))), flag(a.signalling, IE))
        if source.explicit:
            with when(a.unsupported):
                r.set(f.indefinite, IE)
    return r


def to_integral(a: Number, mode: Value, nan: NanRule) -> Result:
    """The nearest number that is an integer, in the same format."""
    f = a.format
    s = f.work
    e = a.exponent - f.bias
    x = jam(a.significand.zext(2 * s) << s, s - 1 - e)
    up = increments(mode, a.sign, x.low(s), 1 << (s - 1), x.bit(s))
    whole = x.high(s) + up.zext(s)
    zeros = whole.leading
    value = pack(f, a.sign, f.bias + s - 1 - zeros.low(32), whole << (zeros & (s - 1)))
    none = whole == 0
    r = result(f, none.choose(zero(f, a.sign), value), flag(x.low(s) != 0, PE) | flag(up, UP))
    with rarely((e.s >= f.precision - 1) | a.zero | a.odd):
        r.set(a.zero.choose(zero(f, a.sign), a.raw), 0)
        nans(f, a, a, nan, r)
    return r
