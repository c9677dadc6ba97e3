"""HI and LO: multiplication, division, multiply and add (vol. I, table 3.1; vol. II)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.values import Value
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.forms import op, rrr


def product(cpu: Cpu, signed: bool) -> Value:
    """rs * rt, all 64 bits."""
    a, b = (x.sext(64) if signed else x.zext(64) for x in (cpu.rs, cpu.rt))
    r: Value = a * b
    return r


def accumulator(cpu: Cpu) -> Value:
    """HI and LO as one."""
    r: Value = (cpu.hi << 32) | (cpu.lo & 0xFFFF_FFFF)
    return r


def set_accumulator(cpu: Cpu, v: Value) -> None:
    """HI and LO from one."""
    cpu.hi, cpu.lo = cpu.extended(v.high(32)), cpu.extended(v.low(32))


def multiplication(text: str, name: str, signed: bool, f: Callable[[Cpu, Value], Value]) -> None:
    """HI, LO = f(rs * rt)"""
    op(text, name)(lambda cpu: set_accumulator(cpu, f(cpu, product(cpu, signed))))


multiplication("000000 rs rt 00000 00000 011000", "mult",  True,  lambda cpu, p: p)
multiplication("000000 rs rt 00000 00000 011001", "multu", False, lambda cpu, p: p)
multiplication("011100 rs rt 00000 00000 000000", "madd",  True,  lambda cpu, p: accumulator(cpu) + p)
multiplication("011100 rs rt 00000 00000 000001", "maddu", False, lambda cpu, p: accumulator(cpu) + p)
multiplication("011100 rs rt 00000 00000 000100", "msub",  True,  lambda cpu, p: accumulator(cpu) - p)
multiplication("011100 rs rt 00000 00000 000101", "msubu", False, lambda cpu, p: accumulator(cpu) - p)
rrr("011100 rs rt rd 00000 000010", "mul", lambda a, b: a * b)


@op("000000 rs rt 00000 00000 011010", "div")
def divide(cpu: Cpu) -> None:
    """By zero HI and LO are unpredictable: the dividend and, as restoring dividers leave it, all ones or 1."""
    a, b = cpu.rs, cpu.rt
    cpu.lo = cpu.extended((b == 0).choose(a.top.choose(1, ~(a ^ a)), a.s // b))
    cpu.hi = cpu.extended((b == 0).choose(a, a.s % b))


@op("000000 rs rt 00000 00000 011011", "divu")
def divide_unsigned(cpu: Cpu) -> None:
    """By zero as above."""
    a, b = cpu.rs, cpu.rt
    cpu.lo = cpu.extended((b == 0).choose(~(a ^ a), a.u // b))
    cpu.hi = cpu.extended((b == 0).choose(a, a.u % b))


@op("000000 00000 00000 rd 00000 010000", writes="rd")
def mfhi(cpu: Cpu) -> None:
    cpu.put(("r", "base", 64), cpu.hi)


@op("000000 00000 00000 rd 00000 010010", writes="rd")
def mflo(cpu: Cpu) -> None:
    cpu.put(("r", "base", 64), cpu.lo)


@op("000000 rs 00000 00000 00000 010001")
def mthi(cpu: Cpu) -> None:
    cpu.hi = cpu.reg("rm", 64)


@op("000000 rs 00000 00000 00000 010011")
def mtlo(cpu: Cpu) -> None:
    cpu.lo = cpu.reg("rm", 64)
