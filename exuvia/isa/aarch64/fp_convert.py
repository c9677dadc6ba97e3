"""Conversions between floats and integers, and between formats, of one lane or more (Arm ARM, C3.6.7, C3.6.8; FPToFixed, FixedToFP)."""

from __future__ import annotations

from exuvia.dsl.floating import TRUNCATE
from exuvia.dsl.hostfloats import host_floats, on_host
from exuvia.dsl.lanes import every
from exuvia.dsl.trace import Var, rarely, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fp_functions import FORMATS
from exuvia.isa.aarch64.fp_lanes import (
    AWAY,
    SCALAR,
    by_function,
    direct,
    flushes,
    joined,
    lanes_of,
    mode_of,
)


def below(x: Value, power: int, unsigned: bool) -> Value:
    """Is the magnitude less than 2**power, and if `unsigned` the number positive?"""
    f = FORMATS[x.w]
    limit = min(power + f.bias, f.special) << f.precision - 1
    return x.u < limit if unsigned else (x + x).u < 2 * limit


def places(fraction: Value | None) -> Value:
    """How many bits stand behind the point."""
    return lift(0, 8) if fraction is None else fraction


def to_integer(cpu: Cpu, x: Value, w: int, unsigned: bool, mode: int, fraction: Value | None = None) -> Value:
    """One number to an integer of w bits. The host does what surely fits."""

    def otherwise() -> Value:
        return by_function(cpu, f"arm{x.w}_to_{'su'[unsigned]}{w}", x.w, [x], places(fraction), mode_of(cpu, mode), to=w)

    if x.w == 16 or mode == AWAY or fraction is not None:
        return otherwise()
    sure = w if unsigned and w == 32 else w - 1  # what is less than this power of two fits
    power = sure if mode == TRUNCATE else sure - 1
    r = Var(lift(0, w), w)
    own = host_floats() & ~flushes(cpu, x.w) & below(x, power, unsigned)
    with rarely(~own):
        r.set(otherwise())
    with when(own):
        whole = x if mode == TRUNCATE else on_host("round" + SCALAR[x.w], x.w, x, lift(mode, 8))
        r.set(on_host(f"cvtt{SCALAR[x.w]}2si.64", 64, whole).low(w))
    return r.read()


def from_integer(cpu: Cpu, x: Value, w: int, unsigned: bool, fraction: Value | None = None) -> Value:
    """One integer to a float of w bits."""
    wide = x.zext(64) if unsigned else x.sext(64)

    def otherwise() -> Value:
        return by_function(cpu, f"{'su'[unsigned]}64_to_arm{w}", 64, [wide], places(fraction), to=w)

    if w == 16 or fraction is not None:
        return otherwise()
    r = Var(lift(0, w), w)
    own = host_floats() & ~wide.top if unsigned and x.w == 64 else host_floats()
    with rarely(~own):
        r.set(otherwise())
    with when(own):
        r.set(on_host(f"cvtsi2{SCALAR[w]}.64", w, wide))
    return r.read()


def to_integers(cpu: Cpu, x: Value, w: int, unsigned: bool, mode: int, fraction: Value | None = None) -> Value:
    """Lane by lane to integers as wide."""
    if w == 32 and x.w == 128 and mode == TRUNCATE and not unsigned and fraction is None:
        top, r = every(1 << 31, 32, 128), Var(lift(0, 128), 128)
        limit = every(2 * (158 << 23), 32, 128) ^ top  # of magnitudes, 2**31
        fits = lift(limit, 128).lanes("sgt", x.lanes("add", x, 32) ^ top, 32).signs(32) == 0xF
        own = host_floats() & ~flushes(cpu, 32) & fits
        with rarely(~own):
            r.set(by_function(cpu, "arm32_to_s32", 32, [x], lift(0, 8), lift(mode, 8)))
        with when(own):
            r.set(on_host("cvttps2dq", 128, x))
        return r.read()
    return joined([to_integer(cpu, v, w, unsigned, mode, fraction) for v in lanes_of(x, w)])


def from_integers(cpu: Cpu, x: Value, w: int, unsigned: bool, fraction: Value | None = None) -> Value:
    """Lane by lane to floats as wide."""
    if w == 32 and x.w == 128 and not unsigned and fraction is None:
        r = Var(lift(0, 128), 128)
        with rarely(~host_floats()):
            r.set(joined([from_integer(cpu, v, w, False) for v in lanes_of(x, w)]))
        with when(host_floats()):
            r.set(on_host("cvtdq2ps", 128, x))
        return r.read()
    return joined([from_integer(cpu, v, w, unsigned, fraction) for v in lanes_of(x, w)])


def converted(cpu: Cpu, x: Value, w: int) -> Value:
    """One number in another format."""

    def otherwise() -> Value:
        return by_function(cpu, f"arm{x.w}_to_arm{w}", x.w, [x], to=w)

    if 16 in (x.w, w):
        return otherwise()
    return direct(cpu, "cvtss2sd" if w == 64 else "cvtsd2ss", w, [x], otherwise, tiny=w == 32, total=w)


def widened(cpu: Cpu, x: Value, w: int) -> Value:
    """64 bits of floats to 128, to lanes of w."""

    def otherwise() -> Value:
        return by_function(cpu, f"arm{w // 2}_to_arm{w}", w // 2, [x], to=w)

    return otherwise() if w == 32 else direct(cpu, "cvtps2pd", w, [x.zext(128)], otherwise, total=128)


def narrowed(cpu: Cpu, x: Value, w: int) -> Value:
    """128 bits of floats to 64, from lanes of w."""

    def otherwise() -> Value:
        return by_function(cpu, f"arm{w}_to_arm{w // 2}", w, [x], to=w // 2)

    return otherwise() if w == 32 else direct(cpu, "cvtpd2ps", 32, [x], lambda: otherwise().zext(128), tiny=True, total=128).low(64)
