"""binary32 and binary64 as functions (IEEE 754-2019), controlled by a word laid out like x86's MXCSR (SDM vol. 1, 10.2.3).

Names: `f32_add`, `f64_sqrt`, `f32_to_i64` and so on. Every function's last argument is the 32-bit `control`: rounding mode in bits 14:13,
FTZ in bit 15, DAZ in bit 6, exception masks in bits 12:7 (an unmasked underflow is one even where the result is exact). Every result is
value | exceptions << width of the value, in twice that width; the exceptions are IE DE ZE OE UE
PE in bits 0 to 5, new ones only. NaN results follow SSE: the first operand's if it is one, else the second's, made quiet (SDM vol. 1,
table 4-7).

    fN_add sub mul div min max (a, b, control)        fN_sqrt (a, control)
    fN_compare, fN_compare_quiet (a, b, control)      0 greater, 1 less, 2 equal, 3 unordered; quiet: only a signalling NaN is invalid
    fN_round (a, imm, control)                        ROUNDSS: imm (8 bits) 1:0 mode, 2 take the mode from control, 3 no PE
    fN_to_i32, fN_to_i64, fN_to_iM_truncate (a, control)
    iM_to_fN (a, control), f32_to_f64, f64_to_f32 (a, control)
    fN_fmadd fmsub fnmadd fnmsub (a, b, c, control)   a * b + c and so on, rounded once; n: minus the product
    f16_to_f32 (a, control), f32_to_f16 (a, mode, control)    without DAZ and FTZ of binary16; mode as fN_round's imm 2:0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl import floating
from exuvia.dsl.floating import BINARY16, BINARY32, BINARY64, DE, PE, TRUNCATE, Control, Format, Number, Result, result
from exuvia.dsl.trace import Function, function, when
from exuvia.dsl.values import Value, lift


def controlled(word: Value) -> Control:
    """What an MXCSR says."""
    return Control(word.bits(14, 13), word.bit(6), word.bit(15), word.bit(10), word.bit(11))


def first_nan(a: Number, b: Number) -> Value:
    """SSE's rule: the first operand's NaN, else the second's."""
    return a.nan.choose(a.quieted, b.quieted)


def finish(r: Result) -> Value:
    """Value and exceptions, packed."""
    r.flags.set(r.flags & 0x3F)
    return r.packed(2 * r.value.w)


def define(name: str, widths: tuple[int, ...], returns: int, text: Callable[..., Value]) -> Function:
    """The function of this name."""
    text.__name__ = name
    return function(*widths, returns=returns)(text)


def binary(f: Format, name: str, operation: Callable[..., Result], **facts: Any) -> Function:
    """A function of two numbers."""

    def text(a: Value, b: Value, control: Value) -> Value:
        c = controlled(control)
        return finish(operation(f, Number(f, a, c.daz), Number(f, b, c.daz), c, first_nan, **facts))

    return define(f"{f.name}_{name}", (f.width, f.width, 32), 2 * f.width, text)


def square_root(f: Format) -> Function:
    def text(a: Value, control: Value) -> Value:
        c = controlled(control)
        return finish(floating.sqrt(f, Number(f, a, c.daz), c, first_nan))

    return define(f"{f.name}_sqrt", (f.width, 32), 2 * f.width, text)


def comparison(f: Format, name: str, quiet: bool) -> Function:
    def text(a: Value, b: Value, control: Value) -> Value:
        c = controlled(control)
        relation, flags = floating.compare(Number(f, a, c.daz), Number(f, b, c.daz), quiet)
        return finish(result(f, relation.zext(f.width), flags))

    return define(f"{f.name}_{name}", (f.width, f.width, 32), 2 * f.width, text)


def extreme(f: Format, name: str, wanted: int) -> Function:
    """MINSS, MAXSS: the second operand unless the first is surely beyond it (SDM vol. 2, MINSS)."""

    def text(a: Value, b: Value, control: Value) -> Value:
        c = controlled(control)
        x, y = Number(f, a, c.daz), Number(f, b, c.daz)
        relation, flags = floating.compare(x, y, quiet=False)
        first = (relation == wanted) & ~(x.zero & y.zero)
        value = first.choose(x.zero.choose(floating.zero(f, x.sign), a), y.zero.choose(floating.zero(f, y.sign), b))
        return finish(result(f, value, flags))

    return define(f"{f.name}_{name}", (f.width, f.width, 32), 2 * f.width, text)


def rounding(f: Format) -> Function:
    def text(a: Value, imm: Value, control: Value) -> Value:
        c = controlled(control)
        r = floating.to_integral(Number(f, a, c.daz), imm.bit(2).choose(c.rounding, imm.low(2)), first_nan)
        with when(imm.bit(3)):
            r.flags.set(r.flags & ~PE)
        return finish(r)

    return define(f"{f.name}_round", (f.width, 8, 32), 2 * f.width, text)


def to_integer(f: Format, w: int, name: str, truncate: bool) -> Function:
    def text(a: Value, control: Value) -> Value:
        c = controlled(control)
        return finish(floating.to_integer(Number(f, a, c.daz), w, lift(TRUNCATE, 2) if truncate else c.rounding))

    return define(f"{f.name}_to_i{w}{name}", (f.width, 32), 2 * w, text)


def from_integer(f: Format, w: int) -> Function:
    def text(a: Value, control: Value) -> Value:
        return finish(floating.from_integer(f, a, controlled(control)))

    return define(f"i{w}_to_{f.name}", (w, 32), 2 * f.width, text)


def conversion(source: Format, f: Format) -> Function:
    def text(a: Value, control: Value) -> Value:
        c = controlled(control)
        return finish(floating.convert(f, Number(source, a, c.daz), c))

    return define(f"{source.name}_to_{f.name}", (source.width, 32), 2 * f.width, text)


def fused(f: Format, name: str, negative: bool, minus: bool) -> Function:
    def text(a: Value, b: Value, d: Value, control: Value) -> Value:
        c = controlled(control)
        x, y, z = (Number(f, v, c.daz) for v in (a, b, d))
        return finish(floating.fused(f, x, y, z, c, negative, minus))

    return define(f"{f.name}_{name}", (f.width,) * 3 + (32,), 2 * f.width, text)


def from_half(a: Value, control: Value) -> Value:
    r = floating.convert(BINARY32, Number(BINARY16, a), controlled(control))
    r.flags.set(r.flags & ~DE)
    return finish(r)


def to_half(a: Value, mode: Value, control: Value) -> Value:
    c = controlled(control)
    c.rounding, c.ftz = mode.bit(2).choose(c.rounding, mode.low(2)), lift(0, 1)
    return finish(floating.convert(BINARY16, Number(BINARY32, a, c.daz), c))


f32_add, f64_add = (binary(f, "add", floating.add) for f in (BINARY32, BINARY64))
f32_sub, f64_sub = (binary(f, "sub", floating.add, minus=True) for f in (BINARY32, BINARY64))
f32_mul, f64_mul = (binary(f, "mul", floating.mul) for f in (BINARY32, BINARY64))
f32_div, f64_div = (binary(f, "div", floating.div) for f in (BINARY32, BINARY64))
f32_sqrt, f64_sqrt = (square_root(f) for f in (BINARY32, BINARY64))
f32_min, f64_min = (extreme(f, "min", floating.LESS) for f in (BINARY32, BINARY64))
f32_max, f64_max = (extreme(f, "max", floating.GREATER) for f in (BINARY32, BINARY64))
f32_compare, f64_compare = (comparison(f, "compare", quiet=False) for f in (BINARY32, BINARY64))
f32_compare_quiet, f64_compare_quiet = (comparison(f, "compare_quiet", quiet=True) for f in (BINARY32, BINARY64))
f32_round, f64_round = (rounding(f) for f in (BINARY32, BINARY64))
f32_to_i32, f64_to_i32 = (to_integer(f, 32, "", False) for f in (BINARY32, BINARY64))
f32_to_i64, f64_to_i64 = (to_integer(f, 64, "", False) for f in (BINARY32, BINARY64))
f32_to_i32_truncate, f64_to_i32_truncate = (to_integer(f, 32, "_truncate", True) for f in (BINARY32, BINARY64))
f32_to_i64_truncate, f64_to_i64_truncate = (to_integer(f, 64, "_truncate", True) for f in (BINARY32, BINARY64))
i32_to_f32, i32_to_f64 = (from_integer(f, 32) for f in (BINARY32, BINARY64))
i64_to_f32, i64_to_f64 = (from_integer(f, 64) for f in (BINARY32, BINARY64))
f32_to_f64, f64_to_f32 = conversion(BINARY32, BINARY64), conversion(BINARY64, BINARY32)
f32_fmadd, f64_fmadd = (fused(f, "fmadd", False, False) for f in (BINARY32, BINARY64))
f32_fmsub, f64_fmsub = (fused(f, "fmsub", False, True) for f in (BINARY32, BINARY64))
f32_fnmadd, f64_fnmadd = (fused(f, "fnmadd", True, False) for f in (BINARY32, BINARY64))
f32_fnmsub, f64_fnmsub = (fused(f, "fnmsub", True, True) for f in (BINARY32, BINARY64))
f16_to_f32 = define("f16_to_f32", (16, 32), 64, from_half)
f32_to_f16 = define("f32_to_f16", (32, 8, 32), 32, to_half)
