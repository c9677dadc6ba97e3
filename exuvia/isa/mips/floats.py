"""Arithmetic of the floating point unit as functions (vol. I, chapter 5): those of dsl/ieee754.py under MIPS's control word and NaNs.

Their names are `mips_f32_add`, `mips_f64_cvt_i32` and so on; the last argument is FCSR. A result is value | exceptions << its width, in
twice that width; the exceptions are those of the instruction, as FCSR has them: Inexact, Underflow, Overflow, Zero divide, Invalid from
the lowest bit on.

A NaN is a signalling one if the first bit of its fraction is set, and a quiet one if not: the reverse of what IEEE 754-2008 recommends.
A signalling NaN cannot become quiet by a bit, so an invalid operation's result is always the same one (vol. I, 5.2.4, 5.8.1).
"""

from __future__ import annotations

from typing import Any

from exuvia.dsl import ieee754
from exuvia.dsl.floating import BINARY32, BINARY64, IE, OE, PE, UE, ZE, Format
from exuvia.dsl.ieee754 import define
from exuvia.dsl.trace import Function, Var, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.state import F_FS

INEXACT, UNDERFLOW, OVERFLOW, ZERO_DIVIDE, INVALID = (1 << i for i in range(5))
NEAREST, TO_ZERO, UP, DOWN = range(4)
"""FCSR.RM"""
FORMATS = {"s": BINARY32, "d": BINARY64}
SIZES = {"w": 32, "l": 64}


def default_nan(f: Format) -> int:
    """What invalid operations give: positive, quiet, the rest ones."""
    return f.special << f.precision - 1 | f.quiet - 1


def control(fcsr: Value, rounding: int | None = None) -> Value:
    """FCSR as the functions want it: laid out like MXCSR."""
    mode = (0 - fcsr) & 3 if rounding is None else lift(-rounding & 3, 32)
    masks = (~fcsr & 0x200) << 1 | (~fcsr & 0x100) << 3  # of overflow and underflow
    return mode << 13 | masks | ((fcsr & F_FS) != 0).choose(lift(1 << 15, 32), 0)


class Computed:
    """A value and its exceptions that can still be replaced."""

    def __init__(self, packed: Value, w: int) -> None:
        self.w = w
        found = packed.bits(w + 5, w).zext(8)
        self.value, self.flags = Var(packed.low(w)), Var(lift(0, 8))
        for bit, ours in ((PE, INEXACT), (UE, UNDERFLOW), (OE, OVERFLOW), (ZE, ZERO_DIVIDE), (IE, INVALID)):
            self.flags.set(self.flags | ((found & bit) != 0).choose(lift(ours, 8), 0))

    def set(self, value: Any, flags: Any) -> None:
        """Replace both."""
        self.value.set(value)
        self.flags.set(flags)

    def invalid(self, value: int) -> None:
        """What an invalid operation gives."""
        with when((self.flags & INVALID) != 0):
            self.value.set(value)

    def packed(self, also: Value | None = None) -> Value:
        """As the functions return it, with exceptions of an operation before."""
        flags: Value = self.flags.read() if also is None else self.flags | also
        r: Value = self.value.zext(2 * self.w) | flags.zext(2 * self.w) << self.w
        return r


def is_nan(f: Format, x: Value) -> Value:
    """Of either kind."""
    return (x << 1).u > f.special << f.precision


def signals(f: Format, x: Value) -> Value:
    """Is it a signalling NaN?"""
    return (x << 1).u >= (f.special << f.precision) + 2 * f.quiet


def operation(f: Format, name: str, operands: tuple[Value, ...], fcsr: Value) -> Computed:
    """One of dsl/ieee754.py, with MIPS's NaNs: of quiet ones the first operand's comes out."""
    packed = getattr(ieee754, f"{f.name}_{name}")(*operands, control(fcsr))
    r = Computed(packed, f.width)
    r.invalid(default_nan(f))
    first, any_nan, any_signal = operands[-1], lift(0, 1), lift(0, 1)
    for x in reversed(operands):
        first = is_nan(f, x).choose(x, first)
        any_nan, any_signal = any_nan | is_nan(f, x), any_signal | signals(f, x)
    with when(any_nan):
        r.set(any_signal.choose(default_nan(f), first), any_signal.choose(lift(INVALID, 8), 0))
    return r


def arithmetic(f: Format, name: str, count: int) -> Function:
    def text(*args: Value) -> Value:
        return operation(f, name, args[:-1], args[-1]).packed()

    return define(f"mips_{f.name}_{name}", (f.width,) * count + (32,), 2 * f.width, text)


def one(f: Format) -> Value:
    """The number 1."""
    return lift(f.bias << f.precision - 1, f.width)


def reciprocal(f: Format) -> Function:
    def text(a: Value, fcsr: Value) -> Value:
        return operation(f, "div", (one(f), a), fcsr).packed()

    return define(f"mips_{f.name}_recip", (f.width, 32), 2 * f.width, text)


def reciprocal_root(f: Format) -> Function:
    """Rounded twice, which the manual allows (vol. II, RSQRT.fmt)."""

    def text(a: Value, fcsr: Value) -> Value:
        root = operation(f, "sqrt", (a,), fcsr)
        return operation(f, "div", (one(f), root.value.read()), fcsr).packed(root.flags.read())

    return define(f"mips_{f.name}_rsqrt", (f.width, 32), 2 * f.width, text)


def multiply_add(f: Format, name: str, then: str, negative: bool) -> Function:
    """a * b, rounded, plus or minus d, rounded (vol. II, MADD.fmt)."""

    def text(a: Value, b: Value, d: Value, fcsr: Value) -> Value:
        product = operation(f, "mul", (a, b), fcsr)
        r = operation(f, then, (product.value.read(), d), fcsr)
        if negative:
            r.value.set(r.value ^ 1 << f.width - 1)
        return r.packed(product.flags.read())

    return define(f"mips_{f.name}_{name}", (f.width,) * 3 + (32,), 2 * f.width, text)


def to_integer(f: Format, w: int, name: str, rounding: int | None) -> Function:
    """What does not fit is invalid, and gives the largest positive integer."""

    def text(a: Value, fcsr: Value) -> Value:
        r = Computed(getattr(ieee754, f"{f.name}_to_i{w}")(a, control(fcsr, rounding)), w)
        r.invalid((1 << w - 1) - 1)
        return r.packed()

    return define(f"mips_{f.name}_{name}_i{w}", (f.width, 32), 2 * w, text)


def from_integer(f: Format, w: int) -> Function:
    def text(a: Value, fcsr: Value) -> Value:
        return Computed(getattr(ieee754, f"i{w}_to_{f.name}")(a, control(fcsr)), f.width).packed()

    return define(f"mips_i{w}_cvt_{f.name}", (w, 32), 2 * f.width, text)


def conversion(source: Format, f: Format) -> Function:
    """A quiet NaN keeps its sign and of its payload what fits."""

    def text(a: Value, fcsr: Value) -> Value:
        r = Computed(getattr(ieee754, f"{source.name}_to_{f.name}")(a, control(fcsr)), f.width)
        wide = a.zext(64) << 64 - source.width
        fraction = (wide << 1 + source.exponent).u >> (64 - f.precision + 1)
        quiet = (wide.u >> 63) << f.width - 1 | lift(f.special << f.precision - 1, 64) | fraction
        bad = signals(source, a)
        value = (bad | (fraction == 0)).choose(lift(default_nan(f), 64), quiet)
        with when(is_nan(source, a)):
            r.set(value.low(f.width), bad.choose(lift(INVALID, 8), 0))
        return r.packed()

    return define(f"mips_{source.name}_cvt_{f.name}", (source.width, 32), 2 * f.width, text)


def comparison(f: Format) -> Function:
    """The relation in FCSR's terms: unordered, equal, less from the lowest bit on; and whether an operand signals, as Invalid."""

    def text(a: Value, b: Value, fcsr: Value) -> Value:
        relation = getattr(ieee754, f"{f.name}_compare_quiet")(a, b, control(fcsr)).low(2)
        nan = is_nan(f, a) | is_nan(f, b)
        bits = nan.choose(lift(1, 8), (relation == 2).choose(lift(2, 8), (relation == 1).choose(lift(4, 8), 0)))
        return (bits.zext(32) | (signals(f, a) | signals(f, b)).zext(32) << 8).zext(2 * f.width)

    return define(f"mips_{f.name}_compare", (f.width, f.width, 32), 2 * f.width, text)


OPERATIONS: dict[tuple[str, str], Function] = {}
"""Mnemonic and format of the operands -> function."""
ROUNDINGS = {"round": NEAREST, "trunc": TO_ZERO, "ceil": UP, "floor": DOWN, "cvt": None}
FUSED = {"madd": ("add", False), "msub": ("sub", False), "nmadd": ("add", True), "nmsub": ("sub", True)}
for _letter, _format in FORMATS.items():
    for _name in ("add", "sub", "mul", "div", "sqrt"):
        OPERATIONS[_name, _letter] = arithmetic(_format, _name, 1 if _name == "sqrt" else 2)
    OPERATIONS["recip", _letter], OPERATIONS["rsqrt", _letter] = reciprocal(_format), reciprocal_root(_format)
    OPERATIONS["c", _letter] = comparison(_format)
    for _name, (_then, _negative) in FUSED.items():
        OPERATIONS[_name, _letter] = multiply_add(_format, _name, _then, _negative)
    for _size, _w in SIZES.items():
        OPERATIONS[f"cvt.{_letter}", _size] = from_integer(_format, _w)
        for _name, _mode in ROUNDINGS.items():
            OPERATIONS[f"{_name}.{_size}", _letter] = to_integer(_format, _w, _name, _mode)
OPERATIONS["cvt.d", "s"], OPERATIONS["cvt.s", "d"] = conversion(BINARY32, BINARY64), conversion(BINARY64, BINARY32)
