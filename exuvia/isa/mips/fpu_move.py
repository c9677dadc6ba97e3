"""Loads, stores and moves of floating point registers, and the unit's control registers (vol. I, tables 3.17 to 3.19, 3.23; vol. II)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.branch import flag
from exuvia.isa.mips.cpu import Cpu, raise_
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.fpu import CODES, read, write
from exuvia.isa.mips.fpu_host import CAUSES, FUNCTIONS, WIDTHS, follow, host_word, settled
from exuvia.isa.mips.integer import move_if
from exuvia.isa.mips.memory import place
from exuvia.isa.mips.state import F_CAUSE, F_E, F_ENABLES, F_FLAGS, FCSR_WRITABLE, FPE


def load(text: str, name: str, w: int, field: str, address: Callable[[Cpu], Value], **facts: Any) -> None:
    """A floating point register from memory."""
    op(text, name, fpu=True, **facts)(lambda cpu: write(cpu, field, cpu.memory(address(cpu), w).read()))


def store(text: str, name: str, w: int, field: str, address: Callable[[Cpu], Value], **facts: Any) -> None:
    """And to memory."""
    op(text, name, fpu=True, **facts)(lambda cpu: cpu.memory(address(cpu), w).set(read(cpu, field, w)))


def indexed(cpu: Cpu) -> Value:
    """base + index"""
    return cpu.address(cpu.reg("rm", 64) + cpu.reg("reg", 64))


def wide_indexed(cpu: Cpu) -> Value:
    """The same without its low bits."""
    return indexed(cpu) & ~7


load("110001 base ft offset", "lwc1", 32, "ft", place)
load("110101 base ft offset", "ldc1", 64, "ft", place)
store("111001 base ft offset", "swc1", 32, "ft", place)
store("111101 base ft offset", "sdc1", 64, "ft", place)
load("010011 base index 00000 fd 000000", "lwxc1", 32, "fd", indexed, feature="r2")
load("010011 base index 00000 fd 000001", "ldxc1", 64, "fd", indexed, feature="r2")
load("010011 base index 00000 fd 000101", "luxc1", 64, "fd", wide_indexed, feature="r2", wide=True)
store("010011 base index fs 00000 001000", "swxc1", 32, "fs", indexed, feature="r2")
store("010011 base index fs 00000 001001", "sdxc1", 64, "fs", indexed, feature="r2")
store("010011 base index fs 00000 001101", "suxc1", 64, "fs", wide_indexed, feature="r2", wide=True)


@op("010011 base index hint:5 00000 001111", fpu=True, feature="r2", hint=True)
def prefx(cpu: Cpu) -> None:
    """There is nothing to prefetch into."""


# -- between general and floating point registers
@op("010001 00000 rt fs 00000000000", writes="rt", fpu=True)
def mfc1(cpu: Cpu) -> None:
    cpu.result(read(cpu, "fs", 32))


@op("010001 00100 rt fs 00000000000", fpu=True)
def mtc1(cpu: Cpu) -> None:
    write(cpu, "fs", cpu.rt)


@op("010001 00011 rt fs 00000000000", writes="rt", fpu=True, feature="r2")
def mfhc1(cpu: Cpu) -> None:
    cpu.result(read(cpu, "fs", 64).high(32))


@op("010001 00111 rt fs 00000000000", fpu=True, feature="r2")
def mthc1(cpu: Cpu) -> None:
    write(cpu, "fs", read(cpu, "fs", 64) & 0xFFFF_FFFF | cpu.rt.zext(64) << 32)


# -- moves
def signs(name: str, function: str, f: Callable[[Value, int], Value]) -> None:
    """fd = f(fs), the sign bit given: never an exception, not even of a NaN."""
    for fmt in "sd":

        def run(cpu: Cpu, w: int = WIDTHS[fmt]) -> None:
            write(cpu, "fd", f(read(cpu, "fs", w), 1 << w - 1))

        op(f"010001 {CODES[fmt]} 00000 fs fd {function}", f"{name}.{fmt}", fpu=True)(run)


signs("abs", "000101", lambda v, sign: v & ~sign)
signs("mov", "000110", lambda v, sign: v)
signs("neg", "000111", lambda v, sign: v ^ sign)


def moves(name: str, text: str, c: Callable[[Cpu], Value]) -> None:
    """fd = fs, where the condition holds."""
    for fmt in "sd":

        def run(cpu: Cpu, fmt: str = fmt) -> None:
            with when(c(cpu)):
                write(cpu, "fd", read(cpu, "fs", WIDTHS[fmt]))

        op(f"010001 {CODES[fmt]} {text}", f"{name}.{fmt}", fpu=True)(run)


moves("movz", "rt fs fd 010010", lambda cpu: cpu.rt == 0)
moves("movn", "rt fs fd 010011", lambda cpu: cpu.rt != 0)
moves("movf", "cc 00 fs fd 010001", lambda cpu: ~flag(cpu))
moves("movt", "cc 01 fs fd 010001", flag)


@op("000000 rs cc 00 rd 00000 000001", writes="rd", fpu=True)
def movf(cpu: Cpu) -> None:
    move_if(cpu, ~flag(cpu))


@op("000000 rs cc 01 rd 00000 000001", writes="rd", fpu=True)
def movt(cpu: Cpu) -> None:
    move_if(cpu, flag(cpu))


# -- control registers: FIR, FCSR, and the views of it (vol. I, 5.6)
def set_fcsr(cpu: Cpu, v: Value) -> None:
    """A cause that is enabled traps at once; bit 17, Unimplemented Operation, always is."""
    with when((v & ((v.u >> F_ENABLES) << F_CAUSE | F_E) & CAUSES) != 0):
        cpu.put_at("fcsr", lift(0, 64), v)
        cpu.put_at("fp_host", lift(0, 64), host_word(v) | FUNCTIONS)  # until FCSR is written again
        cpu.put_at("fp_last", lift(0, 64), lift(0, 64))
        raise_(FPE)
    cpu.fcsr = v
    follow(cpu, v)


def codes(fcsr: Value) -> Value:
    """FCCR: the condition codes side by side."""
    return (fcsr.u >> 23) & 1 | (fcsr.u >> 24) & 0xFE


def control(number: int, name: str, get: Callable[[Cpu], Value], new: Callable[[Cpu, Value], Value] | None) -> None:
    """CFC1 and CTC1 of one register; `new` is the FCSR that a value written makes."""

    @op(f"010001 00010 rt {number:05b} 00000000000", "cfc1", writes="rt", fpu=True)
    def cfc1(cpu: Cpu) -> None:
        cpu.result(get(cpu).low(32))

    @op(f"010001 00110 rt {number:05b} 00000000000", "ctc1", fpu=True, keeps=True, hint=new is None)
    def ctc1(cpu: Cpu) -> None:
        if new is not None:
            set_fcsr(cpu, new(cpu, cpu.rt.zext(64)))


def merged(mask: int, f: Callable[[Value], Value]) -> Callable[[Cpu, Value], Value]:
    """FCSR with the bits of a mask replaced."""
    most = CAUSES | 0x1F << F_FLAGS
    return lambda cpu, v: (cpu.fcsr if mask & most == most else settled(cpu)) & ~mask | f(v) & mask


control(0, "fir", lambda cpu: cpu.fir, None)
control(25, "fccr", lambda cpu: codes(cpu.fcsr), merged(0xFE80_0000, lambda v: (v & 1) << 23 | (v & 0xFE) << 24))
control(26, "fexr", lambda cpu: settled(cpu) & 0x3_F07C, merged(0x3_F07C, lambda v: v))
control(28, "fenr", lambda cpu: cpu.fcsr & 0xF83 | (cpu.fcsr.u >> 22) & 4, merged(0x100_0F83, lambda v: v | (v & 4) << 22))
control(31, "fcsr", settled, merged(FCSR_WRITABLE, lambda v: v))
