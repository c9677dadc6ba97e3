"""SSSE3 (SDM vol. 1, 12.6; vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.lanes import absolute, add, bytes_picked, every, low_signed, pick_bytes_128, shift
from exuvia.dsl.trace import function
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.forms import pure
from exuvia.isa.x86.vector import both, by_half, even, odd

SSSE3 = ("ssse3", "ssse3")


@function(64, 64, returns=64)
def pick_bytes_64(v: Value, order: Value) -> Value:
    return bytes_picked(v, order)


def horizontal(what: str, w: int) -> Any:
    """Neighbouring lanes with each other: the destination's pairs below, the source's above."""
    return lambda a, b: even(a, b, w).lanes(what, odd(a, b, w), w)


def with_sign_of(w: int) -> Any:
    """Negated, kept or zeroed as the source's lane is negative, positive or zero."""

    def text(a: Any, b: Any) -> Any:
        b = lift(b)
        minus = b.lanes("ashr", every(w - 1, w, b.w), w)
        return (a ^ minus).lanes("sub", minus, w) & ~b.lanes("eq", 0, w)

    return text


def pmaddubsw(a: Any, b: Any) -> Any:
    """Unsigned bytes times signed bytes, neighbours added with saturation."""
    a, b = lift(a), lift(b)
    evens = (a & every(0xFF, 16, a.w)).lanes("mul", low_signed(b, 16), 16)
    return evens.lanes("sadd.sat", shift(a, "lshr", 8, 16).lanes("mul", shift(b, "ashr", 8, 16), 16), 16)


def pmulhrsw(a: Any, b: Any) -> Value:
    """Bits 30..15 of products of 16 bits, rounded."""
    a, b = lift(a), lift(b)
    one = every(1, 32, a.w)
    evens = shift(low_signed(a, 32).lanes("mul", low_signed(b, 32), 32), "ashr", 14, 32)
    odds = shift(shift(a, "ashr", 16, 32).lanes("mul", shift(b, "ashr", 16, 32), 32), "ashr", 14, 32)
    low, high = (shift(add(x, one, 32), "ashr", 1, 32) for x in (evens, odds))
    return (low & every(0xFFFF, 32, a.w)) | shift(high, "shl", 16, 32)


# fmt: off
both("0F38 00", "pshufb",    by_half(lambda a, b: (pick_bytes_64 if a.w == 64 else pick_bytes_128)(a, b)), SSSE3)
both("0F38 01", "phaddw",    horizontal("add", 16),      SSSE3)
both("0F38 02", "phaddd",    horizontal("add", 32),      SSSE3)
both("0F38 03", "phaddsw",   horizontal("sadd.sat", 16), SSSE3)
both("0F38 04", "pmaddubsw", pmaddubsw,                  SSSE3)
both("0F38 05", "phsubw",    horizontal("sub", 16),      SSSE3)
both("0F38 06", "phsubd",    horizontal("sub", 32),      SSSE3)
both("0F38 07", "phsubsw",   horizontal("ssub.sat", 16), SSSE3)
both("0F38 08", "psignb",    with_sign_of(8),            SSSE3)
both("0F38 09", "psignw",    with_sign_of(16),           SSSE3)
both("0F38 0A", "psignd",    with_sign_of(32),           SSSE3)
both("0F38 0B", "pmulhrsw",  pmulhrsw,                   SSSE3)
both("0F38 1C", "pabsb",     lambda a, b: absolute(b.read(), 8),  SSSE3, "Vx,Wx")
both("0F38 1D", "pabsw",     lambda a, b: absolute(b.read(), 16), SSSE3, "Vx,Wx")
both("0F38 1E", "pabsd",     lambda a, b: absolute(b.read(), 32), SSSE3, "Vx,Wx")
# fmt: on


def joined(a: Value, b: Value, count: Value) -> Value:
    """First operand above second, shifted right by bytes."""
    bits = count.zext(2 * a.w) << 3
    return ((a.zext(2 * a.w) << a.w | b.zext(2 * a.w)).u >> bits).low(a.w)


pure("NP 0F3A 0F Pq,Qq,Ib", by_half(joined), "palignr", mmx=True, feature="ssse3")
pure("66 0F3A 0F Vx,Hx,Wx,Ib", by_half(joined), "palignr", sse=True, feature="ssse3", vex="avx2")
