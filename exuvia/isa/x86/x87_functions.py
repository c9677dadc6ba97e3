"""x87: sign, rounding, scaling, remainders, square root and transcendental functions (SDM vol. 1, 8.3.5, 8.3.7)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.hostfloats import on_host, status
from exuvia.dsl.trace import Function, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86 import extended, transcendental
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.extended import C1, C2, INDEFINITE
from exuvia.isa.x86.x87_stack import (
    CODES,
    OVERFLOW,
    UNDERFLOW,
    note,
    physical,
    pop,
    put,
    read,
    replace,
    settle,
    unless_empty,
    usually,
    x87,
)  # fmt: skip


def sign_changed(row: str, name: str, f: Any) -> None:
    """FCHS and FABS: of anything, NaNs too, without exceptions."""

    def text(cpu: Cpu) -> None:
        a, empty = read(cpu, 0)

        def usual() -> None:
            replace(cpu, 0, on_host(name, 80, a))
            note(cpu)

        def otherwise() -> None:
            done = settle(cpu, empty.choose(lift(UNDERFLOW, 16), 0))
            put(cpu, 0, empty.choose(lift(INDEFINITE, 80), f(a)), done)

        usually(cpu, (empty,), usual, otherwise)

    x87(row, name)(text)


sign_changed("D9 =E0", "fchs", lambda a: a ^ 1 << 79)
sign_changed("D9 =E1", "fabs", lambda a: a & (1 << 79) - 1)


def of_one(row: str, name: str, f: Function, clears: int = C1) -> None:
    """ST(0) = f(ST(0))."""

    def text(cpu: Cpu) -> None:
        a, empty = read(cpu, 0)
        value, flags = unless_empty(empty, f(a, cpu.fcw))
        put(cpu, 0, value, settle(cpu, flags, clears))

    x87(row, name)(text)


def rounds_one(row: str, name: str, f: Function) -> None:
    """ST(0) = f(ST(0)), which a standard prescribes to the last bit."""

    def text(cpu: Cpu) -> None:
        a, empty = read(cpu, 0)

        def usual() -> None:
            value = on_host(name, 80, a)
            replace(cpu, 0, value)
            note(cpu, status(value))

        def otherwise() -> None:
            value, flags = unless_empty(empty, f(a, cpu.fcw))
            put(cpu, 0, value, settle(cpu, flags))

        usually(cpu, (empty,), usual, otherwise)

    x87(row, name)(text)


def of_two(row: str, name: str, f: Function, pops: bool = False, clears: int = C1) -> None:
    """ST(0) = f(ST(0), ST(1)); or ST(1), and then a pop."""

    def text(cpu: Cpu) -> None:
        (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, 1)
        value, flags = unless_empty(a_empty | b_empty, f(a, b, cpu.fcw))
        done = settle(cpu, flags, clears)
        put(cpu, 1 if pops else 0, value, done)
        if pops:
            pop(cpu, done)

    x87(row, name)(text)


rounds_one("D9 =FA", "fsqrt",   extended.f80_sqrt)
rounds_one("D9 =FC", "frndint", extended.f80_round)
of_two("D9 =FD", "fscale",  extended.f80_scale)


def remainder(row: str, name: str, f: Function) -> None:
    """FPREM and FPREM1; where there is no number as a result C0 and C3 stay."""

    def text(cpu: Cpu) -> None:
        (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, 1)
        value, flags = unless_empty(a_empty | b_empty, f(a, b, cpu.fcw))
        none = (value.bits(78, 64) == 0x7FFF) | ((flags.zext(64) & ~cpu.fcw & 7) != 0)
        flags = none.choose((flags & 0x47) | (cpu.fsw.low(16) & (CODES & ~C2)), flags)
        put(cpu, 0, value, settle(cpu, flags, clears=C1 | CODES))

    x87(row, name)(text)


remainder("D9 =F8", "fprem",  extended.f80_prem)
remainder("D9 =F5", "fprem1", extended.f80_prem1)


def push_second(cpu: Cpu, empty: Value, first: Value, second: Value, flags: Value, clears: int = C1, wanted: Value | None = None) -> None:
    """Replace ST(0) and push another. Where there is no result, `wanted` is 0 and only the flags are recorded."""
    p, old = physical(cpu, -1), physical(cpu, 0)
    fault = empty | ((cpu.ftw.u >> p).low(1) == 0)
    flags = fault.choose(empty.choose(lift(UNDERFLOW, 16), OVERFLOW), flags)
    done = settle(cpu, flags, clears, keeps=C1 | C2 | 0x47)
    if wanted is not None:
        done = done & (fault | wanted)
    with when(done):
        cpu.put_at("st", old, fault.choose(lift(INDEFINITE, 80), first))
        cpu.put_at("st", p, fault.choose(lift(INDEFINITE, 80), second))
        cpu.ftw = cpu.ftw & ~(lift(1, 64) << p) & ~(lift(1, 64) << old)
        cpu.top = p


@x87("D9 =F4")
def fxtract(cpu: Cpu) -> None:
    """ST(0) becomes the exponent, and the significand is pushed."""
    a, empty = read(cpu, 0)
    r = extended.f80_significand(a, cpu.fcw)
    push_second(cpu, empty, extended.f80_exponent(a, cpu.fcw).low(80), r.low(80), r.bits(95, 80))


of_one("D9 =F0", "f2xm1", transcendental.f80_2xm1)
of_one("D9 =FE", "fsin",  transcendental.f80_sin, clears=C1 | C2)
of_one("D9 =FF", "fcos",  transcendental.f80_cos, clears=C1 | C2)
of_two("D9 =F1", "fyl2x",   transcendental.f80_yl2x,   pops=True)
of_two("D9 =F9", "fyl2xp1", transcendental.f80_yl2xp1, pops=True)
of_two("D9 =F3", "fpatan",  transcendental.f80_atan,   pops=True)


@x87("D9 =FB")
def fsincos(cpu: Cpu) -> None:
    a, empty = read(cpu, 0)
    s, c = transcendental.f80_sin(a, cpu.fcw), transcendental.f80_cos(a, cpu.fcw)
    flags = s.bits(95, 80) | c.bits(95, 80)
    push_second(cpu, empty, s.low(80), c.low(80), flags, C1 | C2, wanted=flags.bit(10) == 0)


@x87("D9 =F2")
def fptan(cpu: Cpu) -> None:
    """ST(0) becomes the tangent, and 1 is pushed; a NaN is both."""
    a, empty = read(cpu, 0)
    r = transcendental.f80_tan(a, cpu.fcw)
    value, flags = r.low(80), r.bits(95, 80)
    second = (value.bits(78, 64) == 0x7FFF).choose(value, transcendental.ONE)
    push_second(cpu, empty, value, second, flags, C1 | C2, wanted=flags.bit(10) == 0)
