"""Advanced SIMD two-register miscellaneous, across lanes, and scalar pairwise: integers (Arm ARM, C4.1.96.22, C4.1.96.23, C4.1.96.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import absolute, every, negated, shift
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fp_functions import function_of
from exuvia.isa.aarch64.simd_same import ALL, NO_64, sized
from exuvia.isa.aarch64.simd_shift import saturated_narrow
from exuvia.isa.aarch64.vectors import (
    bits_of,
    half,
    narrowed,
    note,
    pairs_added,
    reduced,
    set_half,
    simd,
    source,
    widened,
)

Text = Callable[..., Value]
"""Processor, operand of 128 bits, bits of a lane, bits that count."""


def misc(u: int, opcode: str, name: str, f: Text, sizes: str = ALL, scalar: str = "", **facts: Any) -> None:
    zero = ", #0" if name.startswith("cm") else ""

    def run(cpu: Cpu, bits: int) -> None:
        cpu.set_V("Vd", f(cpu, cpu.V("Vn"), 8 << cpu.size, bits).low(bits))

    simd(f"0 Q {u} 01110 size 10000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, bits_of(cpu)), where=sized(sizes),
         asm=("{Vd.P}, {Vn.T}" if name.endswith("lp") else "{Vd.T}, {Vn.T}") + zero, **facts)  # fmt: skip
    if scalar:
        simd(f"01 {u} 11110 size 10000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 8 << cpu.size), where=sized(scalar),
             asm="{Vd.E}, {Vn.E}" + zero)  # fmt: skip


def lanewise(f: Callable[..., Value]) -> Text:
    return lambda cpu, a, w, bits: f(a, w)


def reversed_in(container: int) -> Text:
    """The lanes of each container the other way round."""

    def text(cpu: Cpu, a: Value, w: int, bits: int) -> Value:
        n = container // w
        return a.shuffle(a, w, *(i ^ n - 1 for i in range(128 // w)))

    return text


def ones(v: Value) -> Value:
    """How many there are in each byte."""
    v = v.lanes("sub", shift(v, "lshr", 1, 8) & every(0x55, 8, 128), 8)
    v = (v & every(0x33, 8, 128)).lanes("add", shift(v, "lshr", 2, 8) & every(0x33, 8, 128), 8)
    return v.lanes("add", shift(v, "lshr", 4, 8), 8) & every(0x0F, 8, 128)


def leading_zeros(v: Value, w: int) -> Value:
    """The ones of what has a one wherever no one is above or there."""
    k = 1
    while k < w:
        v = v | shift(v, "lshr", k, w)
        k *= 2
    n = ones(~v)
    k = 8
    while k < w:
        n = n.lanes("add", shift(n, "lshr", k, w), w)
        k *= 2
    return n & every(2 * w - 1, w, 128) if w > 8 else n


def leading_signs(v: Value, w: int) -> Value:
    """How many bits behind the sign are like it."""
    return leading_zeros(v ^ shift(v, "ashr", w - 1, w), w).lanes("sub", every(1, w, 128), w)


def bits_reversed(v: Value) -> Value:
    """In each byte."""
    for k, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        m = every(mask, 8, 128)
        v = shift(v, "lshr", k, 8) & m | shift(v & m, "shl", k, 8)
    return v


def saturating(f: Callable[..., Value]) -> Text:
    """SQABS, SQNEG: the least number has no opposite."""

    def text(cpu: Cpu, a: Value, w: int, bits: int) -> Value:
        least = a.lanes("eq", every(1 << w - 1, w, 128), w)
        note(cpu, least.low(bits) != 0)
        return f(a, w) ^ least  # the most positive one is its inverse

    return text


def mixed_addition(signed: bool) -> Text:
    """SUQADD (to signed) and USQADD: the destination has the other signedness of the operand, and saturates as itself."""

    def text(cpu: Cpu, a: Value, w: int, bits: int) -> Value:
        d = cpu.V("Vd")
        top = every(1 << w - 1, w, 128)
        exact = d.lanes("add", a, w)
        if signed:  # as unsigned numbers with the sign turned: the order is the same
            r = (d ^ top).lanes("uadd.sat", a, w) ^ top
        else:
            minus = shift(a, "ashr", w - 1, w)
            r = d.lanes("usub.sat", negated(a, w), w) & minus | d.lanes("uadd.sat", a, w) & ~minus
        note(cpu, r.low(bits) != exact.low(bits))
        return r

    return text


# fmt: off
misc(0, "00000", "rev64", reversed_in(64), NO_64)
misc(0, "00001", "rev16", reversed_in(16), "b")
misc(1, "00000", "rev32", reversed_in(32), "bh")
misc(0, "00010", "saddlp", lanewise(lambda a, w: pairs_added(a, w, True)), NO_64)
misc(1, "00010", "uaddlp", lanewise(lambda a, w: pairs_added(a, w, False)), NO_64)
misc(0, "00110", "sadalp", lambda cpu, a, w, bits: cpu.V("Vd").lanes("add", pairs_added(a, w, True), 2 * w), NO_64)
misc(1, "00110", "uadalp", lambda cpu, a, w, bits: cpu.V("Vd").lanes("add", pairs_added(a, w, False), 2 * w), NO_64)
misc(0, "00011", "suqadd", mixed_addition(True), ALL, ALL)
misc(1, "00011", "usqadd", mixed_addition(False), ALL, ALL)
misc(0, "00100", "cls",    lanewise(leading_signs), NO_64)
misc(1, "00100", "clz",    lanewise(leading_zeros), NO_64)
misc(0, "00101", "cnt",    lanewise(lambda a, w: ones(a)), "b")
misc(1, "00101", "mvn",    lanewise(lambda a, w: ~a), "b")
misc(1, "00101", "rbit",   lanewise(lambda a, w: bits_reversed(a)), "h", lane=8)
misc(0, "00111", "sqabs",  saturating(absolute), ALL, ALL)
misc(1, "00111", "sqneg",  saturating(negated), ALL, ALL)
misc(0, "01000", "cmgt",   lanewise(lambda a, w: a.lanes("sgt", 0, w)), ALL, "d")
misc(1, "01000", "cmge",   lanewise(lambda a, w: ~shift(a, "ashr", w - 1, w)), ALL, "d")
misc(0, "01001", "cmeq",   lanewise(lambda a, w: a.lanes("eq", 0, w)), ALL, "d")
misc(1, "01001", "cmle",   lanewise(lambda a, w: ~a.lanes("sgt", 0, w)), ALL, "d")
misc(0, "01010", "cmlt",   lanewise(lambda a, w: shift(a, "ashr", w - 1, w)), ALL, "d")
misc(0, "01011", "abs",    lanewise(absolute), ALL, "d")
misc(1, "01011", "neg",    lanewise(negated), ALL, "d")
# fmt: on


def estimates(u: int, name: str, function: str) -> None:
    """URECPE, URSQRTE."""

    def run(cpu: Cpu) -> None:
        x = cpu.V("Vn")
        r = lift(0, 128)
        for i in range(bits_of(cpu) // 32):
            r = r.insert(i, function_of(function)(x.lane(i, 32)))
        cpu.set_V("Vd", r)

    simd(f"0 Q {u} 01110 10 10000 11100 10 Vn Vd", name, run, lane=32, asm="{Vd.T}, {Vn.T}")


estimates(0, "urecpe", "recip_estimate")
estimates(1, "ursqrte", "rsqrt_estimate")


NARROW = "{Vd.T}, {Vn.L}"


def narrow(cpu: Cpu, saturates: tuple[bool, bool] | None) -> None:
    w = 16 << cpu.size
    x = cpu.V("Vn")
    if saturates:
        x, over = saturated_narrow(x, w, *saturates)
        note(cpu, over != 0)
    set_half(cpu, narrowed(x, w))


def narrow_lane(cpu: Cpu, saturates: tuple[bool, bool]) -> None:
    w = 16 << cpu.size
    x, over = saturated_narrow(cpu.V("Vn"), w, *saturates)
    note(cpu, over.low(w) != 0)
    cpu.set_V("Vd", x.low(w // 2))


simd("0 Q 0 01110 size 10000 10010 10 Vn Vd", "xtn", lambda cpu: narrow(cpu, None), where=sized(NO_64), second=True, asm=NARROW)
for _u, _opcode, _name, _how in (
    (0, "10100", "sqxtn", (True, True)),
    (1, "10100", "uqxtn", (False, False)),
    (1, "10010", "sqxtun", (True, False)),
):
    simd(f"0 Q {_u} 01110 size 10000 {_opcode} 10 Vn Vd", _name, lambda cpu, how=_how: narrow(cpu, how),
         where=sized(NO_64), second=True, asm=NARROW)  # fmt: skip
    simd(f"01 {_u} 11110 size 10000 {_opcode} 10 Vn Vd", _name, lambda cpu, how=_how: narrow_lane(cpu, how),
         where=sized(NO_64), asm="{Vd.E}, {Vn.W}")  # fmt: skip


def shll(cpu: Cpu) -> None:
    w = 8 << cpu.size
    cpu.set_V("Vd", shift(widened(half(cpu, "Vn"), w, False), "shl", w, 2 * w))


simd("0 Q 1 01110 size 10000 10011 10 Vn Vd", "shll", shll, where=sized(NO_64), second=True, asm="{Vd.L}, {Vn.T}, {lane}")


# -- across lanes
def across(u: int, opcode: str, name: str, op: str, long: bool = False) -> None:
    def run(cpu: Cpu) -> None:
        w, x = 8 << cpu.size, source(cpu, "Vn")
        if long:
            x, w = pairs_added(x, w, u == 0), 2 * w
        cpu.set_V("Vd", reduced(x, w, lambda a, b, w: a.lanes(op, b, w)))

    simd(f"0 Q {u} 01110 size 11000 {opcode} 10 Vn Vd", name, run, where=lambda v: v["size"] < 2 or v["size"] == 2 and v["Q"] == 1,
         asm="{Vd.W}, {Vn.T}" if long else "{Vd.E}, {Vn.T}")  # fmt: skip


across(0, "00011", "saddlv", "add", long=True)
across(1, "00011", "uaddlv", "add", long=True)
across(0, "01010", "smaxv", "smax")
across(1, "01010", "umaxv", "umax")
across(0, "11010", "sminv", "smin")
across(1, "11010", "uminv", "umin")
across(0, "11011", "addv", "add")
simd("01 0 11110 11 11000 11011 10 Vn Vd", "addp", lambda cpu: cpu.set_V("Vd", cpu.V("Vn").lane(0, 64) + cpu.V("Vn").lane(1, 64)),
     lane=64, asm="{Vd.E}, {Vn.T}")  # fmt: skip
