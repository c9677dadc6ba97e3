"""binary32 and binary64 against exact arithmetic on fractions, on the definition of the language and compiled by LLVM."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import pytest

from exuvia.dsl import ieee754
from exuvia.dsl.floating import BINARY16, BINARY32, BINARY64, DE, IE, OE, PE, UE, ZE, Format
from exuvia.dsl.trace import Function
from exuvia.vcpu.evaluate import call
from tests.dsl.compiled import compiled
from tests.oracle import values

NEAREST, DOWN, UPWARD, TRUNCATE = range(4)
MASKED = 0x1F80
Native = dict[str, Callable[..., int]]
FORMATS = {32: BINARY32, 64: BINARY64}
WHOLE = [f for f in vars(ieee754).values() if isinstance(f, Function)]


@pytest.fixture(scope="module")
def native() -> Native:
    return compiled(WHOLE)


def reference(f: Function, *args: int) -> int:
    """The function by the definition of the language."""
    return call(f.trace, None, list(args))  # type: ignore[arg-type]


class Answer(NamedTuple):
    """Bits and exceptions."""

    bits: int
    flags: int


def number(f: Format, bits: int) -> Fraction | None:
    """The value; None of an infinity or NaN."""
    fraction_bits = f.precision - 1
    field, fraction = bits >> fraction_bits & f.special, bits & (1 << fraction_bits) - 1
    if field == f.special:
        return None
    significand = fraction | (1 << fraction_bits if field else 0)
    value = Fraction(significand) * Fraction(2) ** (max(field, 1) - f.bias - fraction_bits)
    return -value if bits >> f.width - 1 else value


def whole(x: Fraction, mode: int) -> int:
    """The integer that x rounds to."""
    return (round(x), math.floor(x), math.ceil(x), math.trunc(x))[mode]


def expected(f: Format, x: Fraction, mode: int) -> Answer:
    """x (not zero) rounded once; tininess is detected after rounding, as x86 does."""
    magnitude, sign = abs(x), x < 0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    least, most = 1 - f.bias, f.bias
    unbounded = Fraction(2) ** (exponent - f.precision + 1)
    tiny = abs(whole(x / unbounded, mode)) * unbounded < Fraction(2) ** least
    step = Fraction(2) ** (max(exponent, least) - f.precision + 1)
    n = whole(x / step, mode)
    value = n * step
    top = f.special << f.precision - 1
    if abs(value) >= Fraction(2) ** (most + 1):
        infinite = mode == NEAREST or mode == (DOWN if sign else UPWARD)
        return Answer(sign << f.width - 1 | (top if infinite else top - 1), OE | PE)
    flags = PE if value != x else 0
    if tiny and flags:
        flags |= UE
    units = abs(n)
    biased = max(exponent, least) + f.bias
    bits = units + (biased - 1 << f.precision - 1)  # a carry out of the significand lands in the exponent
    return Answer(sign << f.width - 1 | bits, flags)


def operand(random: random.Random, w: int) -> int:
    """Finite, often a denormal or close to the ends of the range."""
    f = FORMATS[w]
    while True:
        bits = values.single(random) if w == 32 else values.double(random)
        kind = random.random()
        field = random.choice((0, 1, 2, f.precision, f.special - 1, f.special - 2, f.bias, f.bias + f.precision))
        if kind < 0.4:
            bits = bits & (1 << f.precision - 1) - 1 | field << f.precision - 1 | random.getrandbits(1) << w - 1
        if number(f, bits) is not None:
            return bits


def denormal(f: Format, *operands: int) -> int:
    """DE if an operand is one."""
    top = f.special << f.precision - 1
    return DE if any(not x & top and x & top | x & (1 << f.precision - 1) - 1 for x in operands) else 0


def samples(count: int, w: int, arity: int) -> Iterator[tuple[int, ...]]:
    """Rounding mode and operands."""
    r = random.Random(count * w + arity)
    for i in range(count):
        first = operand(r, w)
        second = first ^ r.choice((0, 1, 1 << w - 1, 3)) if r.random() < 0.2 else operand(r, w)
        if number(FORMATS[w], second) is None:
            second = 0
        yield (i & 3, first, second)[: arity + 1]


EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


@pytest.mark.parametrize("w", [32, 64])
@pytest.mark.parametrize("name", list(EXACT))
def test_arithmetic_is_exact(native: Native, name: str, w: int) -> None:
    f, function = FORMATS[w], getattr(ieee754, f"f{w}_{name}")
    seen = 0
    for mode, a, b in samples(1500, w, 2):
        x, y = number(f, a), number(f, b)
        assert x is not None and y is not None
        got = native[function.name](a, b, MASKED | mode << 13)
        if name == "div" and y == 0:
            bits = f.indefinite if x == 0 else (a ^ b) & 1 << w - 1 | f.special << f.precision - 1
            assert got == bits | (IE if x == 0 else ZE) << w
            continue
        z = EXACT[name](x, y)
        if z == 0:
            assert got & (1 << w - 1) - 1 == 0 and got >> w == denormal(f, a, b), (hex(a), hex(b))
            continue
        want = expected(f, z, mode)
        assert (got & (1 << w) - 1, got >> w) == (want.bits, want.flags | denormal(f, a, b)), (mode, hex(a), hex(b), hex(got))
        seen |= want.flags
    assert seen & (PE | (UE if name in ("mul", "div") else OE))


FUSED: dict[str, Callable[[Fraction, Fraction, Fraction], Fraction]] = {
    "fmadd": lambda a, b, c: a * b + c,
    "fmsub": lambda a, b, c: a * b - c,
    "fnmadd": lambda a, b, c: c - a * b,
    "fnmsub": lambda a, b, c: -(a * b) - c,
}


@pytest.mark.parametrize("w", [32, 64])
@pytest.mark.parametrize("name", list(FUSED))
def test_fused_multiplication_is_exact(native: Native, name: str, w: int) -> None:
    f, function = FORMATS[w], getattr(ieee754, f"f{w}_{name}")
    r, seen = random.Random(w), 0
    for mode, a, b in samples(1500, w, 2):
        x, y = number(f, a), number(f, b)
        assert x is not None and y is not None
        c = operand(r, w)
        if r.random() < 0.5 and x * y:  # the addend near the product, so that much cancels
            near = expected(f, x * y, mode).bits ^ 1 << w - 1 ^ r.choice((0, 1, 3))
            c = near if number(f, near) is not None else c
        z = number(f, c)
        assert z is not None
        got, exact = native[function.name](a, b, c, MASKED | mode << 13), FUSED[name](x, y, z)
        if exact == 0:
            assert got & (1 << w - 1) - 1 == 0 and got >> w == denormal(f, a, b, c), (hex(a), hex(b), hex(c))
            continue
        want = expected(f, exact, mode)
        assert (got & (1 << w) - 1, got >> w) == (want.bits, want.flags | denormal(f, a, b, c)), (mode, hex(a), hex(b), hex(c), hex(got))
        seen |= want.flags
    assert seen & (PE | OE | UE) == PE | OE | UE


def test_half_precision(native: Native) -> None:
    """Every half float to a single and back; singles to halves in every rounding mode."""
    for half in range(1 << 16):
        got = native["f16_to_f32"](half, MASKED)
        x = number(BINARY16, half)
        if x is None:
            assert got >> 32 == (IE if half & 0x3FF and not half & 0x200 else 0)
            assert got & 0xFFFFFFFF == (half & 0x8000) << 16 | 0x7F800000 | (half & 0x3FF) << 13 | (bool(half & 0x3FF) << 22)
            continue
        assert number(BINARY32, got & 0xFFFFFFFF) == x and got >> 32 == 0 and got >> 31 & 1 == half >> 15
        assert native["f32_to_f16"](got & 0xFFFFFFFF, 4, MASKED) == half
    r, seen = random.Random(16), 0
    for i in range(4000):
        bits = operand(r, 32) if i & 1 else r.getrandbits(1) << 31 | 127 + r.randrange(-26, 18) << 23 | r.getrandbits(23)
        x = number(BINARY32, bits)
        assert x is not None
        if x:
            mode = i >> 1 & 3
            got, want = native["f32_to_f16"](bits, mode, MASKED), expected(BINARY16, x, mode)
            assert (got & 0xFFFF, got >> 16) == (want.bits, want.flags | denormal(BINARY32, bits)), (hex(bits), mode)
            seen |= want.flags
    assert seen & (PE | OE | UE) == PE | OE | UE


@pytest.mark.parametrize("w", [32, 64])
def test_square_roots(native: Native, w: int) -> None:
    f, root = FORMATS[w], native[f"f{w}_sqrt"]
    for mode, a in samples(1500, w, 1):
        x = number(f, a)
        assert x is not None
        got = root(a, MASKED | mode << 13)
        if x < 0:
            assert got == f.indefinite | IE << w
            continue
        if x == 0:
            assert got == a
            continue
        scale = 4 ** (w * 20)  # so many bits that what lies below decides nothing but exactness
        near = Fraction(math.isqrt(x.numerator * scale * scale // x.denominator), scale)
        want = expected(f, near if near * near == x else near + Fraction(1, 2 * scale), mode)
        assert (got & (1 << w) - 1, got >> w) == (want.bits, want.flags | denormal(f, a)), (mode, hex(a))


@pytest.mark.parametrize("w", [32, 64])
@pytest.mark.parametrize("to", [32, 64])
def test_conversion_to_integers(native: Native, w: int, to: int) -> None:
    f = FORMATS[w]
    for mode, a in samples(1000, w, 1):
        x = number(f, a)
        assert x is not None
        for name, how in (("", mode), ("_truncate", TRUNCATE)):
            n = whole(x, how)
            fits = -(1 << to - 1) <= n < 1 << to - 1
            want = (n & (1 << to) - 1) | (PE if n != x else 0) << to if fits else 1 << to - 1 | IE << to
            assert native[f"f{w}_to_i{to}{name}"](a, MASKED | mode << 13) == want, (mode, hex(a))


@pytest.mark.parametrize("w", [32, 64])
@pytest.mark.parametrize("source", [32, 64])
def test_conversion_from_integers(native: Native, w: int, source: int) -> None:
    r = random.Random(3)
    for i in range(1000):
        n = values.integer(r) >> r.randrange(64) & (1 << source) - 1
        signed = n - (1 << source) if n >> source - 1 else n
        want = expected(FORMATS[w], Fraction(signed), i & 3) if n else Answer(0, 0)
        assert native[f"i{source}_to_f{w}"](n, MASKED | (i & 3) << 13) == want.bits | want.flags << w


def test_conversion_between_formats(native: Native) -> None:
    for mode, a in samples(3000, 64, 1):
        x = number(BINARY64, a)
        assert x is not None
        want = expected(BINARY32, x, mode) if x else Answer(a >> 32, 0)
        assert native["f64_to_f32"](a, MASKED | mode << 13) == want.bits | (want.flags | denormal(BINARY64, a)) << 32, (mode, hex(a))
    for mode, a in samples(1000, 32, 1):
        x = number(BINARY32, a)
        assert x is not None
        got = native["f32_to_f64"](a, MASKED | mode << 13)
        assert number(BINARY64, got & (1 << 64) - 1) == x
        assert got >> 63 & 1 == a >> 31
        assert got >> 64 == denormal(BINARY32, a)


@pytest.mark.parametrize("w", [32, 64])
def test_rounding_to_integers(native: Native, w: int) -> None:
    f = FORMATS[w]
    for mode, a in samples(1500, w, 1):
        x = number(f, a)
        assert x is not None
        n = whole(x, mode)
        for imm, control, flags in ((mode, MASKED, PE), (mode | 8, MASKED, 0), (4 | ~mode & 3, MASKED | mode << 13, PE)):
            got = native[f"f{w}_round"](a, imm, control)
            assert number(f, got & (1 << w) - 1) == n
            assert got >> w - 1 & 1 == a >> w - 1
            assert got >> w == (flags if n != x else 0)


@pytest.mark.parametrize("w", [32, 64])
def test_comparison(native: Native, w: int) -> None:
    f = FORMATS[w]
    quiet = f.special << f.precision - 1 | f.quiet
    signalling = f.special << f.precision - 1 | 1
    for _, a, b in samples(1500, w, 2):
        x, y = number(f, a), number(f, b)
        assert x is not None and y is not None
        want = 2 if x == y else 1 if x < y else 0
        for name in ("compare", "compare_quiet"):
            assert native[f"f{w}_{name}"](a, b, MASKED) == want | denormal(f, a, b) << w
        assert native[f"f{w}_compare"](quiet, a, MASKED) == 3 | IE << w
        assert native[f"f{w}_compare_quiet"](quiet, a, MASKED) == 3
        assert native[f"f{w}_compare_quiet"](a, signalling, MASKED) == 3 | IE << w
        assert native[f"f{w}_min"](a, b, MASKED) & (1 << w) - 1 == (a if x < y else b)
        assert native[f"f{w}_max"](a, b, MASKED) & (1 << w) - 1 == (a if x > y else b)


@pytest.mark.parametrize("w", [32, 64])
def test_nans_infinities_and_denormals_as_zero(native: Native, w: int) -> None:
    f = FORMATS[w]
    infinite, sign = f.special << f.precision - 1, 1 << w - 1
    quiet, signalling = infinite | f.quiet | 5, infinite | 9
    one, tiny = f.bias << f.precision - 1, 3
    add, mul = native[f"f{w}_add"], native[f"f{w}_mul"]
    assert add(quiet, signalling, MASKED) == quiet | IE << w
    assert add(signalling, quiet, MASKED) == signalling | f.quiet | IE << w
    assert add(one, quiet | sign, MASKED) == quiet | sign
    assert add(infinite, infinite | sign, MASKED) == f.indefinite | IE << w
    assert mul(infinite, 0, MASKED) == f.indefinite | IE << w
    assert mul(infinite, one | sign, MASKED) == infinite | sign
    assert add(tiny, tiny, MASKED) == 6 | DE << w
    assert add(tiny, tiny, MASKED | 0x40) == 0  # DAZ
    assert mul(one - (1 << f.precision - 1), 1 << f.precision - 1, MASKED | 0x8000) == (UE | PE) << w  # FTZ, of an exact result too
    assert mul(one - (1 << f.precision - 1), 1 << f.precision - 1, MASKED) == 1 << f.precision - 2
    assert mul(one - (1 << f.precision - 1), 1 << f.precision - 1, MASKED & ~0x800) >> w == UE  # unmasked: exact results underflow too


@pytest.mark.parametrize("f", WHOLE, ids=lambda f: f.name)
def test_the_compiled_function_is_the_defined_one(native: Native, f: Function) -> None:
    r = random.Random(f.name)
    for _ in range(25):
        args = [values.single(r) if w == 32 else values.double(r) if w == 64 else r.randrange(16) for w in f.widths]
        args[-1] = values.mxcsr(r) & ~0x3F
        assert native[f.name](*args) == reference(f, *args), [hex(x) for x in args]
