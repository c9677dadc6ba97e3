"""Port input and output (SDM vol. 1, chapter 19)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.eflags import iopl_allows, virtual8086
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.state import GP, TR

BITMAP = 0x66  # where a TSS says at which offset its I/O permission bitmap starts


def permitted(cpu: Cpu, port: Value, size: int) -> None:
    """#GP(0) unless the CPL is within IOPL or the TSS permits every one of `size` ports."""
    port = port.zext(64)
    with when(~iopl_allows(cpu) | virtual8086(cpu)):
        base, limit = cpu.get(("seg_base", TR, 64)), cpu.get(("seg_limit", TR, 64))
        wide = (cpu.get(("seg_attributes", TR, 64)) & 0xF) == 11
        with when(~wide | (limit.u < BITMAP + 1)):
            raise_(GP, 0)
        start = cpu.system(base + BITMAP, 16).read().zext(64) + (port.u >> 3)
        with when((start + 1).u > limit):
            raise_(GP, 0)
        bits = cpu.system(base + start, 16).read().zext(64)
        with when(((bits.u >> (port & 7)) & ((1 << size) - 1)) != 0):
            raise_(GP, 0)


def port_width(cpu: Cpu) -> int:
    """8, 16 or 32 bits; there is no 64-bit port."""
    return min(cpu.w, 32)


def fixed_or_dx(immediate: str, register: str, name: str, text: Any, **facts: Any) -> None:
    """IN and OUT, with the port in the instruction or in DX."""

    @op(immediate, name, ends=True, **facts)
    def by_number(cpu: Cpu, *operands: Any) -> None:
        text(cpu, cpu.field("imm").low(8).zext(16))

    @op(register, name, ends=True, **facts)
    def by_dx(cpu: Cpu) -> None:
        text(cpu, cpu.reg(16, 16))


def read_port(cpu: Cpu, port: Value) -> None:
    w = port_width(cpu)
    permitted(cpu, port, w // 8)
    cpu.set_reg(0, cpu.port_in(port, w))


def write_port(cpu: Cpu, port: Value) -> None:
    w = port_width(cpu)
    permitted(cpu, port, w // 8)
    cpu.port_out(port, cpu.reg(0, w))


fixed_or_dx("E4 Ib", "EC", "in", read_port, byte=True)
fixed_or_dx("E5 Ib", "ED", "in", read_port, osize=True)
fixed_or_dx("E6 Ib", "EE", "out", write_port, byte=True)
fixed_or_dx("E7 Ib", "EF", "out", write_port, osize=True)


def string_port(code: int, name: str, one: Any) -> None:
    """INS, OUTS: one element a time, so that an interrupt can come between."""

    def run(cpu: Cpu) -> None:
        w = port_width(cpu)
        step = (cpu.df * (w // 8)).low(cpu.asize)
        port = cpu.reg(16, 16)
        if cpu.rep is None:
            permitted(cpu, port, w // 8)
            one(cpu, port, w, step)
            return
        with when(cpu.aCX != 0):
            permitted(cpu, port, w // 8)
            one(cpu, port, w, step)
            left = cpu.aCX - 1
            cpu.aCX = left
            with when(left != 0):
                cpu.again()

    op(f"{code:02X}", name + "b", string=True, byte=True, ends=True, conditional=True)(run)
    op(f"{code + 1:02X}", name, string=True, osize=True, ends=True, conditional=True)(run)


def ins(cpu: Cpu, port: Value, w: int, step: Value) -> None:
    destination = cpu.string_destination(w).writable()
    destination.set(cpu.port_in(port, w))
    cpu.aDI = cpu.aDI + step


def outs(cpu: Cpu, port: Value, w: int, step: Value) -> None:
    v = cpu.string_source(w).read()
    cpu.aSI = cpu.aSI + step
    cpu.port_out(port, v)


string_port(0x6C, "ins", ins)
string_port(0x6E, "outs", outs)
