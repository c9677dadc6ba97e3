"""String instructions (SDM vol. 1, 5.1.8, 7.3.9): the text is one element; `string` makes the REP forms of it.

CMPS and SCAS under REP set the flags when they end, so that a fault shows those of before (SDM vol. 2, REP).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.state import ES

Compared = tuple[Value, Value]
Text = Callable[[Cpu, Value], Compared | None]


def string(code: int, name: str, one: Text, bulk: Callable[[Cpu, int], Value] | None = None, compares: bool = False, **facts: Any) -> None:
    """Two encodings: bytes, and the operand size. `bulk` does as many elements as one page holds, or none where that may be wrong."""

    def run(cpu: Cpu) -> None:
        n = cpu.w // 8
        step = (cpu.df * n).low(cpu.asize)
        if cpu.rep is None:
            if compared := one(cpu, step):
                compare(cpu, compared)
            return
        with when(cpu.aCX != 0):
            compared = None
            if bulk and cpu.flat and not cpu.override:
                done = bulk(cpu, n).low(cpu.asize)
                cpu.aCX = cpu.aCX - done
                with when(done == 0):
                    one(cpu, step)
                    cpu.aCX = cpu.aCX - 1
            else:
                compared = one(cpu, step)
                cpu.aCX = cpu.aCX - 1
            more = cpu.aCX != 0
            if compared:
                a, b = compared
                more = more & (a == b if cpu.rep == "rep" else a != b)
                with when(~more):
                    compare(cpu, compared)
            with when(more):
                cpu.again()

    op(f"{code:02X}", name + "b", string=True, byte=True, ends=True, conditional=True, repne=compares, **facts)(run)
    op(f"{code + 1:02X}", name, string=True, osize=True, ends=True, conditional=True, repne=compares, **facts)(run)


def compare(cpu: Cpu, compared: Compared) -> None:
    a, b = compared
    cpu.set_flags("subtracted", a, b, a - b)


def movs(cpu: Cpu, step: Value) -> None:
    destination = cpu.string_destination(cpu.w)
    v = cpu.string_source(cpu.w).read()
    destination.set(v)
    cpu.aSI, cpu.aDI = cpu.aSI + step, cpu.aDI + step


def bulk_movs(cpu: Cpu, n: int) -> Value:
    done = cpu.effect("copy", 64, cpu.aDI.zext(64), cpu.aSI.zext(64), cpu.aCX.zext(64), cpu.df, attr=n)
    moved = (done * n).low(cpu.asize)
    cpu.aSI, cpu.aDI = cpu.aSI + moved, cpu.aDI + moved
    return done


def stos(cpu: Cpu, step: Value) -> None:
    cpu.string_destination(cpu.w).set(cpu.rAX)
    cpu.aDI = cpu.aDI + step


def bulk_stos(cpu: Cpu, n: int) -> Value:
    done = cpu.effect("fill", 64, cpu.aDI.zext(64), cpu.rAX, cpu.aCX.zext(64), cpu.df, attr=n)
    cpu.aDI = cpu.aDI + (done * n).low(cpu.asize)
    return done


def lods(cpu: Cpu, step: Value) -> None:
    cpu.rAX = cpu.string_source(cpu.w).read()
    cpu.aSI = cpu.aSI + step


def scas(cpu: Cpu, step: Value) -> Compared:
    compared = cpu.rAX, cpu.memory(cpu.aDI, cpu.w, ES).read()
    cpu.aDI = cpu.aDI + step
    return compared


def cmps(cpu: Cpu, step: Value) -> Compared:
    compared = cpu.string_source(cpu.w).read(), cpu.memory(cpu.aDI, cpu.w, ES).read()
    cpu.aSI, cpu.aDI = cpu.aSI + step, cpu.aDI + step
    return compared


string(0xA4, "movs", movs, bulk_movs)
string(0xAA, "stos", stos, bulk_stos)
string(0xAC, "lods", lods)
string(0xAE, "scas", scas, compares=True)
string(0xA6, "cmps", cmps, compares=True)
