"""The status flags: rules under which instructions set them, and what each condition is under each rule (SDM vol. 1, 3.4.3.1).

In the state they are two words: a result, and 32 bits `aux`: 31 CF, 30 CF xor OF, 15:8 and 0 what PF and SF differ from the result by,
3 AF. Reading a flag needs no switch over who set it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import FlagRules, now
from exuvia.dsl.values import Readable, Value, lift

Known = dict[str, Any]


def added(a: Value, b: Value, r: Value) -> Known:
    return dict(carries=(a & b) | ((a | b) & ~r), result=r, CF=lambda: r.u < a)


def carried(a: Value, b: Value, r: Value) -> Known:
    """ADC: of its two additions at most one carries."""
    return dict(carries=(a & b) | ((a | b) & ~r), result=r, CF=lambda: ((a + b).u < a) | (r.u < a + b))


def subtracted(a: Value, b: Value, r: Value) -> Known:
    return dict(
        carries=(~a & b) | ((~a | b) & r), result=r, ZF=lambda: a == b,
        CF=lambda: a.u < b, BE=lambda: a.u <= b, L=lambda: a.s < b, LE=lambda: a.s <= b,
    )  # fmt: skip


def borrowed(a: Value, b: Value, carry: Value, r: Value) -> Known:
    """SBB: of its two subtractions at most one borrows."""
    return dict(carries=(~a & b) | ((~a | b) & r), result=r, CF=lambda: (a.u < b) | ((a - b).u < carry.zext(r.w)))


def logic(r: Value) -> Known:
    def zero() -> Value:
        return lift(0, 1)

    return dict(CF=zero, OF=zero, AF=zero, L=lambda: r.s < 0, LE=lambda: r.s <= 0, BE=lambda: r == 0, result=r)


def parts(r: Value, cf: Value, of: Value, af: Value) -> Known:
    """A result that gives ZF, SF and PF; the rest one by one."""
    return dict(CF=lambda: cf, OF=lambda: of, AF=lambda: af, result=r)


def words(result: Value, aux: Value) -> Known:
    """As the state keeps them."""
    return dict(
        CF=lambda: aux.bit(31), OF=lambda: aux.bit(31) ^ aux.bit(30), AF=lambda: aux.bit(3), SF=lambda: result.top ^ aux.bit(0),
        PF=lambda: result.low(8) ^ aux.bits(15, 8), aux=lambda: aux, result=result,
    )  # fmt: skip


def with_carry(result: Value, aux: Value, cf: Value) -> Known:
    """All flags stay, but CF."""
    of = aux.bit(31) ^ aux.bit(30)
    new = (aux & 0x3FFF_FFFF) | (cf.zext(32) << 31) | ((of ^ cf).zext(32) << 30)
    return words(result, new) | dict(CF=lambda: cf)


def six(cf: Value, pf: Value, af: Value, zf: Value, sf: Value, of: Value) -> Known:
    """Each flag given: POPF, SAHF, COMIS, PTEST."""
    result = zf.choose(lift(0, 64), lift(1 << 8, 64))
    aux = (cf.zext(32) << 31) | ((cf ^ of).zext(32) << 30) | (af.zext(32) << 3) | sf.zext(32) | ((~pf).zext(32) << 8)
    return dict(CF=lambda: cf, PF=lambda: lift(0, 8) | (~pf).zext(8), AF=lambda: af, ZF=lambda: zf, SF=lambda: sf, OF=lambda: of,
                aux=lambda: aux, result=result)  # fmt: skip


RULES: dict[str, Callable[..., Known]] = {
    f.__name__: f for f in (added, carried, subtracted, borrowed, logic, parts, words, with_carry, six)
}
COMPOSED: dict[str, Callable[[Callable[[str], Value]], Value]] = dict(
    BE=lambda f: f("CF") | f("ZF"),
    L=lambda f: f("SF") ^ f("OF"),
    LE=lambda f: f("ZF") | (f("SF") ^ f("OF")),
)


def derive(rule: str, args: list[Value], want: str) -> Any:
    """The condition `want` when flags were set by `rule`."""
    known = RULES[rule](*args)

    def f(name: str) -> Any:
        return derive(rule, args, name)

    r, carries = known["result"], known.get("carries")
    if want == "PF":
        b = known["PF"]() if "PF" in known else r.low(8)
        return (b.ones & 1) == 0
    if want in known:
        return known[want]() if callable(known[want]) else known[want].sext(64)
    if want in COMPOSED:
        return COMPOSED[want](f)
    if want == "ZF":
        return r == 0
    if want == "SF":
        return r.top
    if carries is not None:
        if want == "CF":
            return carries.top
        if want == "OF":
            return carries.top ^ carries.bit(carries.w - 2)
        if want == "AF":
            return carries.bit(3)
    assert want == "aux", want
    if carries is None:
        return (f("CF").zext(32) << 31) | ((f("CF") ^ f("OF")).zext(32) << 30) | (f("AF").zext(32) << 3)
    if carries.w == 32:
        return carries & 0xC000_0008
    if carries.w == 64:
        return (carries.high(32) & 0xC000_0000) | (carries.low(32) & 8)
    return ((carries.zext(32) << (32 - carries.w)) & 0xC000_0000) | (carries.zext(32) & 8)


FLAG_RULES = FlagRules(derive, {"result": ("result", 0, 64), "aux": ("aux", 0, 32)})


class Flag(Readable):
    """A status flag, used like a value of one bit."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self) -> Value:
        return now().condition(self.name)


CF, PF, AF, ZF, SF, OF = (Flag(n) for n in "CF PF AF ZF SF OF".split())
