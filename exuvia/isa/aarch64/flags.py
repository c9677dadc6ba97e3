"""The flags N, Z, C, V: rules under which instructions set them, and what each condition is under each rule (DDI 0487, C1.2.4).

In the state they are two words: `nz`, a result, zero for Z, whose top bit is N; and 32 bits `cv`: 31 C, 30 V, 0 what N differs from that
top bit by.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import FlagRules, Trace
from exuvia.dsl.values import Value, lift

Known = dict[str, Callable[[], Value]]


def added(a: Value, b: Value, r: Value) -> Known:
    return results(r) | dict(C=lambda: r.u < a, V=lambda: ((a ^ r) & (b ^ r)).top)


def carried(a: Value, b: Value, r: Value) -> Known:
    """a + b + a carry; a subtraction with one adds the inverse."""
    return results(r) | dict(C=lambda: ((a & b) | ((a | b) & ~r)).top, V=lambda: ((a ^ r) & (b ^ r)).top)


def subtracted(a: Value, b: Value, r: Value) -> Known:
    return results(r) | dict(
        C=lambda: a.u >= b, V=lambda: ((a ^ b) & (a ^ r)).top, Z=lambda: a == b,
        HI=lambda: a.u > b, GE=lambda: a.s >= b, GT=lambda: a.s > b,
    )  # fmt: skip


def logic(r: Value) -> Known:
    def none() -> Value:
        return lift(0, 1)

    return results(r) | dict(C=none, V=none, HI=none, GE=lambda: r.s >= 0, GT=lambda: r.s > 0)


def results(r: Value) -> Known:
    """Z and N of a result."""
    return dict(nz=lambda: r.sext(64), Z=lambda: r == 0, N=lambda: r.top)


def nzcv(x: Value) -> Known:
    """Four bits as they stand in NZCV, N the highest."""
    return dict(
        N=lambda: x.bit(3), Z=lambda: x.bit(2), C=lambda: x.bit(1), V=lambda: x.bit(0),
        nz=lambda: x.bit(2).choose(lift(0, 64), lift(1, 64)),
        cv=lambda: x.low(2).zext(32) << 30 | x.bit(3).zext(32),
    )  # fmt: skip


def compared(r: Value) -> Known:
    """Of floats: bit 0 equal or unordered, bit 1 unordered, bit 2 less or unordered."""
    e, u, l = (r.bit(i) for i in range(3))
    return dict(
        N=lambda: l & ~u, Z=lambda: e & ~u, C=lambda: ~l | u, V=lambda: u, HI=lambda: u | ~(e | l), GE=lambda: ~l, GT=lambda: ~(e | l),
        nz=lambda: (e & ~u).choose(lift(0, 64), lift(1, 64)),
        cv=lambda: (~l | u).zext(32) << 31 | u.zext(32) << 30 | (l & ~u).zext(32),
    )  # fmt: skip


def words(nz: Value, cv: Value) -> Known:
    """As the state keeps them."""
    return dict(nz=lambda: nz, cv=lambda: cv, Z=lambda: nz == 0, N=lambda: nz.top ^ cv.bit(0), C=lambda: cv.bit(31), V=lambda: cv.bit(30))


RULES: dict[str, Callable[..., Known]] = {f.__name__: f for f in (added, carried, subtracted, logic, nzcv, compared, words)}
COMPOSED: dict[str, Callable[[Callable[[str], Value]], Value]] = dict(
    HI=lambda f: f("C") & ~f("Z"),
    GE=lambda f: ~(f("N") ^ f("V")),
    GT=lambda f: ~f("Z") & ~(f("N") ^ f("V")),
    cv=lambda f: f("C").zext(32) << 31 | f("V").zext(32) << 30,
)


def derive(rule: str, args: list[Value], want: str) -> Value:
    """The condition `want` when flags were set by `rule`."""
    known = RULES[rule](*args)
    if want in known:
        return known[want]()
    return COMPOSED[want](lambda name: derive(rule, args, name))


FLAG_RULES = FlagRules(derive, {"nz": ("nz", 0, 64), "cv": ("cv", 0, 32)})
CONDITIONS = "eq ne hs lo mi pl vs vc hi ls ge lt gt le al nv".split()
_POSITIVE = "Z C N V HI GE GT".split()


def condition(trace: Trace, number: int) -> Value:
    """ConditionHolds() of a four-bit condition (C1.2.4): AL and NV always hold."""
    if number >= 14:
        return lift(1, 1)
    c = trace.condition(_POSITIVE[number >> 1])
    return ~c if number & 1 else c


def nzcv_word(trace: Trace) -> Value:
    """The flags where NZCV and SPSR have them, bits 31:28, as 64 bits."""
    word = lift(0, 64)
    for bit, name in ((31, "N"), (30, "Z"), (29, "C"), (28, "V")):
        word = word | trace.condition(name).zext(64) << bit
    return word
