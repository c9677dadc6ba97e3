"""What texts on vector registers share: arrangements, halves, saturation, and the check that the unit may be used (Arm ARM, C1.4, D1.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import every, low_signed, shift
from exuvia.dsl.trace import rarely, when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import EC_FP, TO_EL2, Cpu, raise_
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.fpcr import QC

Lanewise = Callable[..., Value]
FPEN_EL1, FPEN_EL0, TFP = 20, 21, 10
"""Bits of CPACR_EL1, and of CPTR_EL2."""
NO_ISS = 1 << 24 | 0xE << 20
"""The syndrome of AArch64: CV, and COND that always holds (D19.2.37)."""


def enabled(cpu: Cpu) -> None:
    """CheckFPAdvSIMDEnabled64()."""
    closed, trapped = ~cpu.cpacr_el1.bit(FPEN_EL1), cpu.cptr_el2.bit(TFP)
    closed = closed | ~cpu.cpacr_el1.bit(FPEN_EL0) if cpu.el0 else closed & (cpu.el != 2)
    with when(closed | trapped):
        with when(closed):
            raise_(EC_FP, NO_ISS)
        raise_(EC_FP | TO_EL2, NO_ISS)


def simd(rows: str, name: str, run: Callable[..., None], **facts: Any) -> None:
    """Encodings of the unit."""
    op(rows, name, guard=enabled, **facts)(run)


def bits_of(cpu: Cpu) -> int:
    """Of an arrangement: 128 or 64, by Q."""
    return 128 if cpu.Q else 64


def source(cpu: Cpu, name: str) -> Value:
    """A register's bits that the arrangement has."""
    return cpu.V(name) if cpu.Q else cpu.V(name).low(64)


def half(cpu: Cpu, name: str) -> Value:
    """64 bits: the upper ones in instructions whose second form has a 2 in its name."""
    return cpu.V(name).lane(cpu.Q, 64)


def set_half(cpu: Cpu, r: Value) -> None:
    """Such an instruction's narrow result: the upper half leaves the lower one alone."""
    cpu.set_V("Vd", concat(cpu.V("Vd").low(64), r) if cpu.Q else r)


def widened(x: Value, w: int, signed: bool) -> Value:
    """64 bits in lanes of w to 128 bits in lanes twice as wide."""
    n, zero = 64 // w, lift(0, 64)
    if not signed:
        return x.shuffle(zero, w, *(k for i in range(n) for k in (i, n)))
    return shift(x.shuffle(zero, w, *(k for i in range(n) for k in (n, i))), "ashr", w, 2 * w)


def narrowed(x: Value, w: int) -> Value:
    """The low halves of lanes of w bits, in half as many bits."""
    return x.shuffle(x, w // 2, *range(0, 2 * x.w // w, 2))


def upper(x: Value, w: int) -> Value:
    """The high halves."""
    return x.shuffle(x, w // 2, *range(1, 2 * x.w // w, 2))


def even(a: Value, b: Value, w: int) -> Value:
    """Lanes 0, 2, 4 ... of two values, a's first."""
    return a.shuffle(b, w, *range(0, 2 * a.w // w, 2))


def odd(a: Value, b: Value, w: int) -> Value:
    """Lanes 1, 3, 5 ... of two values, a's first."""
    return a.shuffle(b, w, *range(1, 2 * a.w // w, 2))


def pairs_added(x: Value, w: int, signed: bool) -> Value:
    """Neighbours added, in lanes twice as wide."""
    if signed:
        return shift(x, "ashr", w, 2 * w).lanes("add", low_signed(x, 2 * w), 2 * w)
    return shift(x, "lshr", w, 2 * w).lanes("add", x & every((1 << w) - 1, 2 * w, x.w), 2 * w)


def reduced(x: Value, w: int, f: Lanewise) -> Value:
    """All lanes with each other, as a tree; w bits."""
    n = x.w // w
    while n > 1:
        n //= 2
        x = f(x, x.shuffle(x, w, *((i + n) % (2 * n) for i in range(x.w // w))), w)
    return x.low(w)


def saturated(cpu: Cpu, r: Value, exact: Value) -> Value:
    """The result; FPSR.QC is set where it is not the exact one. Both as wide as the operands count."""
    note(cpu, r != exact)
    return r


def note(cpu: Cpu, condition: Value) -> None:
    """Set FPSR.QC; nothing may fault afterwards."""
    with rarely(condition):
        zero = lift(0, 64)
        cpu.put_at("fpsr", zero, cpu.get_at("fpsr", zero, 64) | QC)
