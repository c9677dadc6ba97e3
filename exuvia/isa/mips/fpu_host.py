"""Floating point by the host's own instructions, where they give what MIPS's do, exceptions included (dsl/hostfloats.py).

The state's word `fp_host` is laid out like x86's MXCSR: rounding as FCSR says, everything masked, and flags that were the host's when
guest code was left last. They are FCSR.Flags' too, as long as the bit FUNCTIONS is not set: it is where the guest traps an exception or
flushes denormals, which is left to the functions of floats.py, and then `fcsr` is all of it.

FCSR.Cause has the exceptions of one instruction, but is seldom read. So of the last one that the host did its number is in `fp_last` (0:
`fcsr` has the cause) and its operands in `fp_a` to `fp_c`; who wants the cause has the function say it (`settled`).

NaNs go to the functions: MIPS's are others. An invalid operation gives one, so that of the host's flags that one never stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.hostfloats import host_floats, on_host, set_vector_control, vector_control
from exuvia.dsl.trace import Var, rarely, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.floats import FORMATS, FUSED, OPERATIONS, is_nan
from exuvia.isa.mips.state import F_CAUSE, F_E, F_ENABLES, F_FLAGS, F_FS

WIDTHS = {"s": 32, "d": 64, "w": 32, "l": 64}
"""By the letter of a format."""
CAUSES = F_E | 0x1F << F_CAUSE

FUNCTIONS = 1 << 16
"""In `fp_host`."""
MASKED, ROUNDING = 0x1F80, 13  # of MXCSR
SCALAR = {"s": "ss", "d": "sd"}


def host_word(fcsr: Any) -> Any:
    """`fp_host` for an FCSR, as numbers or in texts; 1 to 3 of RM are the other way round."""
    others = (fcsr & (0x1F << F_ENABLES | F_FS)) != 0
    functions = others.choose(lift(FUNCTIONS, 64), 0) if isinstance(others, Value) else FUNCTIONS * others
    return ((0 - fcsr) & 3) << ROUNDING | MASKED | functions


def follow(cpu: Cpu, fcsr: Value) -> None:
    """Make the host round as a new FCSR says, and forget its flags; nothing may fault afterwards."""
    word = host_word(fcsr)
    cpu.fp_host, cpu.fp_last = word, lift(0, 64)
    set_vector_control(word.low(16).zext(32))


def own(cpu: Cpu) -> Value:
    """Does the host's own instruction serve?"""
    r: Value = host_floats() & ((cpu.fp_host & FUNCTIONS) == 0)
    return r


def settled(cpu: Cpu) -> Value:
    """FCSR, with what only the host and the last instruction's operands tell of it yet."""
    cause, fcsr = Var(lift(0, 64), 64), cpu.fcsr
    for number, (name, source) in enumerate(HOST, 1):
        with when(cpu.fp_last == number):
            operands = [v.low(WIDTHS[source]) for v in (cpu.fp_a, cpu.fp_b, cpu.fp_c)][: COUNTS.get(name, 2)]
            packed = OPERATIONS[name, source](*operands, fcsr.low(32))
            cause.set(packed.bits(packed.w // 2 + 4, packed.w // 2).zext(64))
    host = cpu.fp_host | vector_control().zext(64)
    flags = lift(0, 64)
    for theirs, ours in ((5, 0), (4, 1), (3, 2), (2, 3)):
        flags = flags | host.bit(theirs).zext(64) << F_FLAGS + ours
    flags = ((cpu.fp_host & FUNCTIONS) == 0).choose(flags, lift(0, 64))
    r: Value = (cpu.fp_last == 0).choose(fcsr, fcsr & ~CAUSES | cause.read() << F_CAUSE) | flags
    return r


def multiply_add(source: str, then: str, negative: bool) -> Callable[..., Value]:
    def run(a: Value, b: Value, d: Value) -> Value:
        w, kind = FORMATS[source].width, SCALAR[source]
        r = on_host(then + kind, w, on_host("mul" + kind, w, a, b), d)
        return r ^ 1 << w - 1 if negative else r

    return run


def plain(instruction: str, w: int) -> Callable[..., Value]:
    return lambda *operands: on_host(instruction, w, *operands)


HOST: dict[tuple[str, str], Callable[..., Value]] = {}
"""As floats.OPERATIONS: what computes the same."""
for _letter, _kind in SCALAR.items():
    _w = FORMATS[_letter].width
    for _name in ("add", "sub", "mul", "div", "sqrt"):
        HOST[_name, _letter] = plain(_name + _kind, _w)
    for _name, (_then, _negative) in FUSED.items():
        HOST[_name, _letter] = multiply_add(_letter, _then, _negative)
    HOST[f"cvt.{_letter}", "w"] = plain(f"cvtsi2{_kind}.32", _w)
    HOST["cvt.w", _letter] = plain(f"cvt{_kind}2si.32", 32)
    HOST["trunc.w", _letter] = plain(f"cvtt{_kind}2si.32", 32)
HOST["cvt.d", "s"], HOST["cvt.s", "d"] = plain("cvtss2sd", 64), plain("cvtsd2ss", 32)


NUMBERS = {key: number for number, key in enumerate(HOST, 1)}
"""For `fp_last`."""
COUNTS = dict.fromkeys(FUSED, 3) | dict.fromkeys(("sqrt", "cvt.s", "cvt.d", "cvt.w", "trunc.w"), 1)
"""Operands, where there are not two."""


def forget_invalid() -> None:
    """MIPS's quiet NaNs are x86's signalling ones."""
    set_vector_control(vector_control() & ~1)


def compute(cpu: Cpu, name: str, source: str, operands: list[Value], value: Var, otherwise: Callable[[], None]) -> None:
    """Set the result; `otherwise` does where a NaN comes out, or an integer that may not fit."""
    r = HOST[name, source](*operands)
    value.set(r)
    cpu.fp_last = lift(NUMBERS[name, source], 64)
    for word, v in zip(("fp_a", "fp_b", "fp_c"), operands, strict=False):
        setattr(cpu, word, v)
    to = FORMATS.get(name.partition(".")[2] or source)
    with rarely(is_nan(to, r) if to else r == 1 << 31):
        forget_invalid()
        otherwise()


def compare(source: str, a: Value, b: Value, relation: Var) -> Value:
    """Set the relation as floats.comparison gives it; whether it is more than that, as one is a NaN."""
    found = on_host("ucomi" + SCALAR[source], 8, a, b)  # bit 0 equal or unordered, bit 1 unordered, bit 2 less or unordered
    relation.set((found & 4 | found.bit(0).zext(8) << 1).zext(32))
    return found.bit(1)
