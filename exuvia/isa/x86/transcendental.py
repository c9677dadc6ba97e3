"""The x87's transcendental functions on 80-bit values (SDM vol. 1, 8.3.7, 8.3.10): within one unit in the last place.

Everything is fixed point of 128 bits. A positive number is (significand, exponent): significand / 2**127 * 2**exponent, the top bit set; a
fraction is a number of 128 bits over 2**128. Series are cut where their terms fall below 2**-76, so nearly all results round correctly.
Angles are reduced by the 66 bits of pi that processors use.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import factorial

from exuvia.dsl.floating import DE, EXTENDED, IE, PE, UE, ZE, Number, Result, flag, infinity, nans, pack, rounded, zero
from exuvia.dsl.ieee754 import define
from exuvia.dsl.trace import Function, Var, loop, rarely, when
from exuvia.dsl.values import Value, const, lift
from exuvia.isa.x86.extended import C2, INDEFINITE, controlled, finish, larger_nan, unary

PI = 0xC90FDAA22168C234C4C6628B80DC1CD1  # over 2**126
HALF_PI_66 = 0xC90FDAA22168C234C >> 2  # pi / 2 in 66 bits, over 2**65
LN2 = Fraction(0xB17217F7D1CF79ABC9E3B39803F2F6AF, 1 << 128)
ONE = 0x3FFF << 64 | 1 << 63
ARCTANGENTS = (  # of k / 8, over 2**128
    0, 0x1FD5BA9AAC2F6DC65912F313E7D111DE, 0x3EB6EBF25901BAC55B71E7BD7DE885F9, 0x5BD86507937BC239C55190916E7F2241,
    0x76B19C1586ED3DA2B7F222F65E1D4681, 0x8F005D5EF7F59F9B5C835E1665C43747, 0xA4BC7D1934F7092419A87F2A457DAC9E,
    0xB8053E2BC2319E73CB2DA55210A4443D, PI,
)  # fmt: skip
Positive = tuple[Value, Value]


def fraction(x: Fraction) -> Value:
    """The constant below 1 as 128 bits."""
    return Value(const(int(x * (1 << 128)), 128))


def times(a: Value, b: Value) -> Value:
    """The high half of a product of two values of 128 bits; up to three units too small."""
    ah, al, bh, bl = a.high(64).zext(128), a.low(64).zext(128), b.high(64).zext(128), b.low(64).zext(128)
    return ah * bh + ((ah * bl).u >> 64) + ((al * bh).u >> 64)


def series(x: Value, coefficients: list[Fraction], alternating: bool) -> Value:
    """c1 x -+ c2 x**2 + c3 x**3 ... as a fraction, by Horner's rule; the coefficients fall."""
    total = fraction(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        term = times(x, total)
        total = fraction(c) - term if alternating else fraction(c) + term
    return times(x, total)


def normal(x: Value, exponent: Value) -> Positive:
    """The number x / 2**127 * 2**exponent with its top bit set."""
    zeros = x.leading
    return x << (zeros & 127), exponent - zeros.low(32)


def product(a: Positive, b: Value) -> Positive:
    """A number times a fraction."""
    return normal(times(a[0], b), a[1])


def fixed(a: Positive, scale: int = 0) -> Value:
    """The number as a fraction, over 2**(128 - scale)."""
    down = scale - 1 - a[1]
    n = (down.u < 128).choose(down, 127).zext(128) & 127
    return a[0].u >> n


def ratio(a: Positive, b: Positive) -> Positive:
    """a / b to 100 bits, the lowest set where it is not exact."""
    rest, quotient = Var(a[0].u >> 1), Var(lift(0, 128))
    divisor = b[0].u >> 1
    with loop(100, rest, quotient):
        fits = rest.u >= divisor
        quotient.set((quotient << 1) | fits.zext(128))
        rest.set(fits.choose(rest - divisor, rest.read()) << 1)
    return normal((quotient << 28) | (rest != 0).zext(128), a[1] - b[1])


def of(a: Number) -> Positive:
    """The magnitude of an operand."""
    return a.significand.zext(128) << 64, a.exponent - EXTENDED.bias


def inexactly(sign: Value, x: Positive, fcw: Value) -> Result:
    """The number, rounded to 64 bits; never exact."""
    return rounded(EXTENDED, sign, x[1] + EXTENDED.bias, x[0] | 1, controlled(fcw, precision=False))


# --- angles
SINE = [Fraction(1, factorial(2 * k + 1)) for k in range(1, 14)]
COSINE = [Fraction(1, factorial(2 * k)) for k in range(1, 14)]


def sine_and_cosine(a: Number) -> tuple[tuple[Value, Positive], tuple[Value, Positive]]:
    """Sign and magnitude of both, for a below 2**63."""
    e = a.exponent - EXTENDED.bias
    steps = ((e + 2).s > 0).choose(e + 2, 0)
    rest, quarter = Var(a.significand.zext(128)), Var(lift(0, 64))
    with loop(steps.zext(64) & 127, rest, quarter):
        twice = rest << 1
        fits = twice.u >= HALF_PI_66
        rest.set(fits.choose(twice - HALF_PI_66, twice))
        quarter.set((quarter << 1) | fits.zext(64))
    beyond = (rest << 1).u > HALF_PI_66
    reduced = normal(beyond.choose(HALF_PI_66 - rest, rest.read()), lift(62, 32))
    small = (e + 2).s <= 0
    beyond = beyond & ~small
    whole = of(a)
    r = small.choose(whole[0], reduced[0]), small.choose(whole[1], reduced[1])
    x = fixed(r)
    square = times(x, x)
    sine = product(r, ~series(square, SINE, True))
    cosine = normal(~series(square, COSINE, True), lift(-1, 32))
    q = small.choose(0, quarter.low(2) + beyond.zext(2))
    swap = q.bit(0)
    minus = beyond ^ a.sign  # the sign of what was left of the angle, with the operand's own
    sin_sign = swap.choose(q.bit(1) ^ a.sign, q.bit(1) ^ minus)
    cos_sign = swap.choose(~q.bit(1) ^ beyond, q.bit(1))
    sin = tuple(swap.choose(c, s) for s, c in zip(sine, cosine, strict=True))
    cos = tuple(swap.choose(s, c) for s, c in zip(sine, cosine, strict=True))
    return (sin_sign, (sin[0], sin[1])), (cos_sign, (cos[0], cos[1]))


def angle(name: str, f: Callable[[Number, Value], Result], at_zero: int | None) -> Function:
    """FSIN, FCOS, FPTAN: C2 and the operand itself where it is 2**63 or more."""

    def operation(a: Number, fcw: Value) -> Result:
        r = f(a, fcw)
        r.flags.set(r.flags | flag(a.subnormal, DE))
        with rarely(a.zero | a.odd | (a.exponent.s >= EXTENDED.bias + 63)):
            r.set(a.raw, C2)
            with when(a.zero):
                r.set(a.raw if at_zero is None else at_zero, 0)
            with when(a.infinite):
                r.set(INDEFINITE, IE)
            nans(EXTENDED, a, a, larger_nan, r)
        return r

    return unary(f"f80_{name}", operation)


def tangent(a: Number, fcw: Value) -> Result:
    (sin_sign, sin), (cos_sign, cos) = sine_and_cosine(a)
    return inexactly(sin_sign ^ cos_sign, ratio(sin, cos), fcw)


def sine(a: Number, fcw: Value) -> Result:
    sign, x = sine_and_cosine(a)[0]
    return inexactly(sign, x, fcw)


def cosine(a: Number, fcw: Value) -> Result:
    sign, x = sine_and_cosine(a)[1]
    return inexactly(sign, x, fcw)


f80_sin, f80_cos, f80_tan = angle("sin", sine, None), angle("cos", cosine, ONE), angle("tan", tangent, None)

# --- FPATAN
ARCTANGENT = [Fraction(1, 2 * k + 1) for k in range(1, 12)]


def arctangent(x: Value, y: Value, fcw: Value) -> Value:
    """The angle of the point (x, y): FPATAN with x in ST(0) and y in ST(1)."""
    a, b = Number(EXTENDED, x), Number(EXTENDED, y)
    steep = (a.exponent.s < b.exponent) | ((a.exponent == b.exponent) & (a.significand.u < b.significand))
    large, small = steep.choose(b.significand, a.significand), steep.choose(a.significand, b.significand)
    distance = steep.choose(b.exponent - a.exponent, a.exponent - b.exponent)
    near = distance.u < 5
    big = large.zext(128) << 58
    little = (small.zext(128) << 58).u >> (near.choose(distance, 0).zext(128) & 7)
    # k / 8 is close to the tangent; what is left is (8 y - k x) / (8 x + k y)
    estimate = (little.u >> 90).low(64) << 4  # 32 bits, times 16
    k = near.choose(((estimate.u // (big.u >> 90).low(64)) + 1).u >> 1, 0).zext(128) & 15
    above, beside = little << 3, big * k
    minus = above.u < beside
    left = normal(minus.choose(beside - above, above - beside), lift(0, 32))
    direct = near & (k != 0)
    bottom = normal((big << 3) + little * k, lift(0, 32))
    top = direct.choose(left[0], small.zext(128) << 64), direct.choose(left[1], 0 - distance)
    under = direct.choose(bottom[0], large.zext(128) << 64), direct.choose(bottom[1], 0)
    t = ratio(top, under)
    f = fixed(t)
    t = product(t, ~series(times(f, f), ARCTANGENT, True))
    part = fixed(t, 2)  # over 2**126, as are the sums
    part = (top[0] == 0).choose(0, part)
    base = Var(lift(0, 128))
    for i, v in enumerate(ARCTANGENTS):
        with when(k == i):
            base.set(v >> 2)
    total = direct.choose(minus.choose(base - part, base + part), part)
    total = steep.choose((PI >> 1) - total, total)
    total = a.sign.choose(PI - total, total)
    number = normal(total, lift(1, 32))
    plain = ~direct & ~steep & ~a.sign
    number = plain.choose(t[0], number[0]), plain.choose(t[1], number[1])
    r = inexactly(b.sign, number, fcw)
    denormal = flag(a.subnormal | b.subnormal, DE)
    r.flags.set(r.flags | denormal)
    with rarely(a.zero | b.zero | a.odd | b.odd):

        def fraction_of_pi(parts: int, of: int) -> Value:
            """pi * parts / of, rounded."""
            n = normal(lift(PI // of * parts, 128), lift(1, 32))
            return inexactly(b.sign, n, fcw).packed(128)

        def put(packed: Value) -> None:
            r.set(packed.low(80), packed.bits(95, 80) | denormal)

        none = (b.zero & ~a.sign) | (a.infinite & ~b.infinite & ~a.sign)
        with when(b.zero | a.infinite):
            put(fraction_of_pi(1, 1))
        with when(none):
            r.set(zero(EXTENDED, b.sign), denormal)
        with when((a.zero & ~b.zero) | (b.infinite & ~a.infinite)):
            put(fraction_of_pi(1, 2))
        with when(a.infinite & b.infinite):
            put(a.sign.choose(fraction_of_pi(3, 4), fraction_of_pi(1, 4)))
        nans(EXTENDED, a, b, larger_nan, r)
    return finish(r)


f80_atan = define("f80_atan", (80, 80, 64), 128, arctangent)

# --- F2XM1
GROWING = [Fraction(1, factorial(k + 1)) for k in range(1, 24)]


def power(a: Number, fcw: Value) -> Result:
    """2**a - 1, for a between -1 and 1; the operand itself outside (SDM vol. 2, F2XM1: undefined)."""
    y = product(of(a), fraction(LN2))
    f = fixed(y)
    growing = series(f, [c / 2 for c in GROWING], False) + (1 << 127)  # half of it
    falling = ~series(f, GROWING, True)
    x = product(y, a.sign.choose(falling, growing))
    r = inexactly(a.sign, (x[0], a.sign.choose(x[1], x[1] + 1)), fcw)
    one = (a.exponent == EXTENDED.bias) & (a.significand == 1 << 63)
    r.flags.set(r.flags | flag(a.subnormal, DE))
    with rarely(a.zero | a.odd | (a.exponent.s >= EXTENDED.bias)):
        r.set(a.raw, flag(~a.zero, PE))
        with when(one & a.sign):
            r.set(pack(EXTENDED, a.sign, lift(EXTENDED.bias - 1, 32), lift(1 << 63, 64)), PE)
        with when(a.infinite):
            r.set(a.sign.choose(lift(1 << 79 | ONE, 80), a.raw), 0)
        nans(EXTENDED, a, a, larger_nan, r)
    return r


f80_2xm1 = unary("f80_2xm1", power)

# --- logarithms
ODD = [Fraction(1, 2 * k + 1) for k in range(1, 17)]


def logarithm(s: Positive) -> Positive:
    """log2 of (1 + s) / (1 - s), which is 2 / ln 2 times the area tangent of s."""
    f = fixed(s)
    a = series(times(f, f), ODD, False)
    k = fraction(Fraction(1, 2) / LN2)
    x = product(s, k + times(a, k))
    return x[0], x[1] + 2


def scaled(b: Number, negative: Value, x: Positive, exact: Value, fcw: Value) -> Result:
    """b times a logarithm; inexact to processors even where it is not."""
    p = normal(times(b.significand.zext(128) << 64, x[0]), x[1] + b.exponent - EXTENDED.bias + 1)
    exponent = p[1] + EXTENDED.bias
    r = rounded(EXTENDED, negative ^ b.sign, exponent, p[0] | (~exact).zext(128), controlled(fcw, precision=False))
    r.flags.set(r.flags | PE | flag(exact & (exponent.s < 1), UE))
    return r


def of_number(x: Positive, direct: Value | None = None, s: tuple[Positive, Positive] | None = None) -> tuple[Value, Positive, Value, Value]:
    """log2 of a number: whether negative, magnitude, whether a whole number, whether below 1/2 in magnitude.

    Where `direct`, it is the logarithm that `s`, a numerator and a denominator, stand for.
    """
    high = x[0].u > 0xB504_F333_F9DE_6484_597D_89B3_754A_BE9F  # sqrt 2
    m = high.choose(x[0].u >> 1, x[0])
    k = x[1] + high.zext(32)
    n = high.choose((1 << 127) - m, m - (1 << 127))
    top, bottom = normal(n, lift(0, 32)), normal((m.u >> 1) + (1 << 126), lift(1, 32))
    whole, alone = n == 0, k == 0
    if direct is not None and s is not None:
        top, bottom = (((direct.choose(a[0], b[0]), direct.choose(a[1], b[1]))) for a, b in zip(s, (top, bottom), strict=True))
        whole, alone = whole & ~direct, alone | direct
    log = logarithm(ratio(top, bottom))
    # with an integer part: 112 bits behind the point
    sign = k.top
    part = whole.choose(0, fixed(log, 16))
    units = sign.choose(0 - k, k).zext(128) << 112
    total = normal((sign ^ high).choose(units - part, units + part), lift(15, 32))
    return alone.choose(high, sign), (alone.choose(log[0], total[0]), alone.choose(log[1], total[1])), whole, alone


def y_log2_x(x: Value, y: Value, fcw: Value) -> Value:
    """y * log2(x): FYL2X with x in ST(0) and y in ST(1)."""
    a, b = Number(EXTENDED, x), Number(EXTENDED, y)
    negative, log, whole, alone = of_number(of(a))
    r = scaled(b, negative, log, whole, fcw)
    denormal = flag(a.subnormal | b.subnormal, DE)
    r.flags.set(r.flags | denormal)
    one = whole & alone
    with rarely(a.zero | b.zero | a.odd | b.odd | a.sign | one):
        below = negative | a.zero
        with when(b.zero | one):
            r.set(zero(EXTENDED, b.sign ^ (b.zero & below & ~one)), denormal)
        with when(a.infinite | b.infinite | a.zero):
            r.set(infinity(EXTENDED, (a.infinite | ~below).choose(b.sign, ~b.sign)), (a.zero & ~b.infinite).choose(ZE, denormal))
        bad = (a.sign & ~a.zero) | (a.zero & b.zero) | (one & b.infinite) | (a.infinite & b.zero)
        with when(bad):
            r.set(INDEFINITE, IE)
        nans(EXTENDED, a, b, larger_nan, r)
    return finish(r)


def y_log2_x_plus_1(x: Value, y: Value, fcw: Value) -> Value:
    """y * log2(x + 1): FYL2XP1. Below -1 processors give x (the manual defines it from sqrt 1/2 - 1 to 1 - sqrt 1/2 only)."""
    a, b = Number(EXTENDED, x), Number(EXTENDED, y)
    m, e = of(a)
    # small: s = a / (2 + a); else the logarithm of the sum
    half = fixed((m, e - 1), 1)  # of a, over 2**127
    bottom = normal(a.sign.choose((1 << 127) - half, (1 << 127) + half), lift(1, 32))
    most = (e.s < 0).choose(0, e)
    one, addend = fixed((lift(1 << 127, 128), 0 - most), 1).u >> 1, fixed((m, e - most), 1).u >> 1
    total = normal(a.sign.choose(one - addend, one + addend), most + 1)
    small = e.s < -2
    negative, log, _, _ = of_number(total, small, ((m, e), bottom))
    r = scaled(b, small.choose(a.sign, negative), log, lift(0, 1), fcw)
    with rarely(a.sign & (e.s >= 0)):
        r.set(a.raw, PE)
    denormal = flag(a.subnormal | b.subnormal, DE)
    r.flags.set(r.flags | denormal)
    with rarely(a.zero | b.zero | a.odd | b.odd):
        sign = a.sign ^ b.sign
        r.set(zero(EXTENDED, sign), denormal)
        with when(a.infinite | b.infinite):
            r.set(infinity(EXTENDED, sign), denormal)
        with when((a.infinite & (b.zero | a.sign)) | (b.infinite & a.zero)):
            r.set(INDEFINITE, IE)
        nans(EXTENDED, a, b, larger_nan, r)
    return finish(r)


f80_yl2x = define("f80_yl2x", (80, 80, 64), 128, y_log2_x)
f80_yl2xp1 = define("f80_yl2xp1", (80, 80, 64), 128, y_log2_x_plus_1)
