"""The x87's register stack and exceptions, as its instructions use them (SDM vol. 1, 8.1, 8.5, 8.6).

`fsw` is the status word without TOP and C1, which are `top` and `c1`, and without exceptions that only the host's x87 knows of yet: masked
ones, which report nothing. `x87_control.status` puts it together. A bit set in `ftw` is an empty physical register. An exception is noted
when it happens; an unmasked one sets ES and B, keeps the instruction from writing where it is IE, DE or ZE, and is reported by the next
instruction that waits. FOP is what was last loaded: processors set it at an unmasked exception at most, and no operating system reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.floating import DE, IE, ZE
from exuvia.dsl.hostfloats import host_floats
from exuvia.dsl.trace import seldom, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, Memory
from exuvia.isa.x86.extended import C0, C1, C2, C3, INDEFINITE
from exuvia.isa.x86.forms import numeric_error, op
from exuvia.isa.x86.state import CS, DS

ES, B = 1 << 7, 1 << 15
MASKS = 0x3F
"""Of all exceptions, in the control word; where they stand in the status word."""
UNDERFLOW, OVERFLOW = 0x41, 0x241
"""Stack faults: IE and SF, and C1 where the stack was full."""
CODES = C0 | C2 | C3
STATUS = 0x457F
"""Bits of `fsw` that software writes: conditions and exceptions. ES and B follow from them, TOP and C1 are apart."""


def pending(cpu: Cpu) -> None:
    """An unmasked exception of an earlier instruction is reported."""
    with seldom((cpu.fsw & ES) != 0):
        numeric_error(cpu)


def x87(rows: str, name: str = "", **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An instruction that computes: it waits for pending exceptions and leaves its address and its operand's behind."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        def text(cpu: Cpu, *operands: Any) -> None:
            pending(cpu)
            cpu.fip = cpu.here
            if cpu.code != 64:
                cpu.fcs = cpu.get(("seg_selector", CS, 64))
            if cpu.mem:
                cpu.fdp = operands[0].address
                if cpu.code != 64:
                    cpu.fds = cpu.get(("seg_selector", "seg" if cpu.override else DS, 64))
            run(cpu, *operands)

        op(rows, name or run.__name__.strip("_"), x87=True, **facts)(text)
        return run

    return register


def waiting(rows: str, name: str = "", **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A control instruction that waits for pending exceptions."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        def text(cpu: Cpu, *operands: Any) -> None:
            pending(cpu)
            run(cpu, *operands)

        op(rows, name or run.__name__.strip("_"), x87=True, **facts)(text)
        return run

    return register


def physical(cpu: Cpu, i: Any) -> Value:
    """The number of the physical register that is ST(i)."""
    p: Value = (cpu.top + lift(i, 64)) & 7
    return p


def read(cpu: Cpu, i: Any) -> tuple[Value, Value]:
    """ST(i), and whether it is empty."""
    p = physical(cpu, i)
    return cpu.get_at("st", p, 80), (cpu.ftw.u >> p).low(1)


def settle(cpu: Cpu, flags: Value, clears: int = C1, keeps: int = CODES | 0x47, unless: int = IE | DE | ZE) -> Value:
    """Record exceptions (16 bits of status word); whether the result may be written.

    One of `unless` that is not masked ends the instruction before it computes, so that of its exceptions only those that `keeps` has stay.
    """
    f = flags.zext(64)
    early: Value = (f & ~cpu.fcw & unless) != 0
    f = early.choose(f & keeps, f)
    reported = ((f & ~cpu.fcw & 0x3F) != 0).choose(lift(ES | B, 64), 0)
    cpu.fsw = (cpu.fsw & ~clears) | (f & ~C1) | reported
    if clears & C1:
        cpu.c1 = f & C1
    return ~early


def usually(cpu: Cpu, odd: tuple[Value, ...], usual: Callable[[], None], otherwise: Callable[[], None], computes: bool = True) -> None:
    """Two ways to say the same: `usual` unless something is odd. One that `computes` has the host do so: if it can, with all masked."""
    own = host_floats() & ((cpu.fcw & MASKS) == MASKS) if computes else lift(1, 1)
    for condition in odd:
        own = own & ~condition
    with seldom(~own):
        otherwise()
    with when(own):
        usual()


def note(cpu: Cpu, word: Value | int = 0) -> None:
    """C1 is what it is in the host's status word."""
    cpu.c1 = lift(word, 16).zext(64) & C1


def replace(cpu: Cpu, i: Any, value: Value) -> None:
    """Write ST(i), which is in use."""
    cpu.put_at("st", physical(cpu, i), value)


def full(cpu: Cpu) -> Value:
    """Has a push no room?"""
    return lift((cpu.ftw.u >> physical(cpu, -1)).low(1) == 0)


def grow(cpu: Cpu, value: Value) -> None:
    """Push where there is room."""
    p = physical(cpu, -1)
    cpu.put_at("st", p, value)
    cpu.ftw = cpu.ftw & ~(lift(1, 64) << p)
    cpu.top = p


def drop(cpu: Cpu) -> None:
    """Pop what there is."""
    cpu.ftw = cpu.ftw | (lift(1, 64) << (cpu.top & 7))
    cpu.top = (cpu.top + 1) & 7


def put(cpu: Cpu, i: Any, value: Value, done: Value) -> None:
    """Write ST(i), where that may be."""
    p = physical(cpu, i)
    with when(done):
        cpu.put_at("st", p, value)
        cpu.ftw = cpu.ftw & ~(lift(1, 64) << p)


def store(cpu: Cpu, m: Memory, value: Value, done: Value) -> None:
    """Store where that may be; where not, memory is not asked for."""
    with when(done):
        m.set(value)


def pop(cpu: Cpu, done: Value) -> None:
    """Empty ST(0) and move TOP, where that may be."""
    cpu.ftw = cpu.ftw | (done.zext(64) << cpu.top)
    cpu.top = (cpu.top + done.zext(64)) & 7


def push(cpu: Cpu, value: Value, flags: Value | int = 0, empty: Value | int = 0, unless: int = IE | DE | ZE) -> Value:
    """Push; onto a full register only the indefinite NaN, with a stack overflow unless the source is `empty`. Whether it was done.

    A load from memory pushes a denormal though DE is unmasked: its `unless` is IE.
    """
    p = physical(cpu, -1)
    full = ((cpu.ftw.u >> p).low(1) == 0) & ~lift(empty, 1)
    done = settle(cpu, full.choose(lift(OVERFLOW, 16), flags), keeps=C1 | 0x47, unless=unless)
    with when(done):
        cpu.put_at("st", p, full.choose(lift(INDEFINITE, 80), value))
        cpu.ftw = cpu.ftw & ~(lift(1, 64) << p)
        cpu.top = p
    return done


def unless_empty(empty: Value, result: Value, other: int = INDEFINITE, w: int = 80) -> tuple[Value, Value]:
    """Value (w bits) and exceptions of a packed result; of a stack underflow where the operand is empty."""
    return empty.choose(lift(other, w), result.low(w)), empty.choose(lift(UNDERFLOW, 16), result.bits(w + 15, w))
