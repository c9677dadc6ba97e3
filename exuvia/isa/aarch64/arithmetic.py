"""Addition, subtraction, multiplication, division, addresses and CRC32 (DDI 0487, C3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.crc import CRC32, CRC32C
from exuvia.dsl.trace import Function
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.forms import op

Variant = dict[str, int]
Sum = Callable[[Cpu, Value, Value], Value]


def shifted(cpu: Cpu, v: Value) -> Value:
    """DecodeShift() and ShiftReg() by the amount in imm6."""
    amount = (cpu.amount & (cpu.w - 1)).low(cpu.w)
    if cpu.shift == 3:
        return (v.u >> amount) | (v << ((lift(cpu.w, cpu.w) - amount) & (cpu.w - 1)))
    return (lambda: v << amount, lambda: v.u >> amount, lambda: v.s >> amount)[cpu.shift]()


def fits(v: Variant) -> bool:
    """There is no rotation here."""
    return v["shift"] != 3


def extended(cpu: Cpu) -> Value:
    """ExtendReg(): a part of Rm, extended and shifted left by imm3."""
    size = 8 << (cpu.option & 3)
    part = cpu.X("Rm").low(min(size, cpu.w))
    wide = part.sext(cpu.w) if cpu.option & 4 else part.zext(cpu.w)
    return wide << (cpu.amount & 7).low(cpu.w)


def add(cpu: Cpu, a: Value, b: Value) -> Value:
    return a + b


def sub(cpu: Cpu, a: Value, b: Value) -> Value:
    return a - b


def adds(cpu: Cpu, a: Value, b: Value) -> Value:
    cpu.set_flags("added", a, b, a + b)
    return a + b


def subs(cpu: Cpu, a: Value, b: Value) -> Value:
    cpu.set_flags("subtracted", a, b, a - b)
    return a - b


def four(rows: str, second: Callable[[Cpu], Value], **facts: Any) -> None:
    """ADD, ADDS, SUB and SUBS in the two bits `oo`; those that set flags never write the stack pointer."""
    for number, f in enumerate((add, adds, sub, subs)):
        text = rows.replace("oo", f"{number:02b}")
        if number & 1:
            text = text.replace("Rd|SP", "Rd")

        def run(cpu: Cpu, f: Sum = f) -> None:
            cpu.Rd = f(cpu, cpu.Rn, second(cpu))

        op(text, f.__name__, **facts)(run)


#     sf oo 31
four("sf oo 100010 sh imm12 Rn|SP Rd|SP", lambda cpu: cpu.imm.low(cpu.w), scale=lambda v: 12 * v["sh"], asm="{Rd}, {Rn}, {imm}{sh}")
four("0  oo 01011 shift 0 Rm 0 imm5 Rn Rd", lambda cpu: shifted(cpu, cpu.Rm), where=fits, asm="{Rd}, {Rn}, {Rm}{shift}")
four("1  oo 01011 shift 0 Rm imm6 Rn Rd", lambda cpu: shifted(cpu, cpu.Rm), where=fits, asm="{Rd}, {Rn}, {Rm}{shift}")
for _amount in ("0xx", "100"):
    four(f"sf oo 01011 00 1 Rm option {_amount} Rn|SP Rd|SP", extended, asm="{Rd}, {Rn}, {Rm}{extend}")


def carry(rows: str, name: str, inverted: bool, flags: bool) -> None:
    """ADC, ADCS, SBC, SBCS: AddWithCarry()."""

    @op(rows, name, asm="{Rd}, {Rn}, {Rm}")
    def run(cpu: Cpu) -> None:
        a, b = cpu.Rn, ~cpu.Rm if inverted else cpu.Rm
        r = a + b + cpu.condition("C").zext(cpu.w)
        if flags:
            cpu.set_flags("carried", a, b, r)
        cpu.Rd = r


carry("sf 00 11010000 Rm 000000 Rn Rd", "adc", False, False)
carry("sf 01 11010000 Rm 000000 Rn Rd", "adcs", False, True)
carry("sf 10 11010000 Rm 000000 Rn Rd", "sbc", True, False)
carry("sf 11 11010000 Rm 000000 Rn Rd", "sbcs", True, True)


@op("0 immlo=2 10000 immhi=19 Rd", imm="address", w=64, asm="{Rd}, {address}")
def adr(cpu: Cpu) -> None:
    cpu.Rd = cpu.this_pc + cpu.imm


@op("1 immlo=2 10000 immhi=19 Rd", imm="address", w=64, scale=12, asm="{Rd}, {address}")
def adrp(cpu: Cpu) -> None:
    cpu.Rd = (cpu.this_pc & ~0xFFF) + cpu.imm


# multiplication
@op("sf 00 11011 000 Rm 0 Ra Rn Rd", asm="{Rd}, {Rn}, {Rm}, {Ra}")
def madd(cpu: Cpu) -> None:
    cpu.Rd = cpu.Ra + cpu.Rn * cpu.Rm


@op("sf 00 11011 000 Rm 1 Ra Rn Rd", asm="{Rd}, {Rn}, {Rm}, {Ra}")
def msub(cpu: Cpu) -> None:
    cpu.Rd = cpu.Ra - cpu.Rn * cpu.Rm


def long(rows: str, name: str, signed: bool, minus: bool) -> None:
    """32 by 32 bits."""

    @op(rows, name, asm="{Rd}, {Wn}, {Wm}, {Ra}")
    def run(cpu: Cpu) -> None:
        a, b = cpu.X("Rn", 32), cpu.X("Rm", 32)
        product = a.sext(64) * b.sext(64) if signed else a.zext(64) * b.zext(64)
        cpu.Rd = cpu.Ra - product if minus else cpu.Ra + product


long("1 00 11011 001 Rm 0 Ra Rn Rd", "smaddl", True, False)
long("1 00 11011 001 Rm 1 Ra Rn Rd", "smsubl", True, True)
long("1 00 11011 101 Rm 0 Ra Rn Rd", "umaddl", False, False)
long("1 00 11011 101 Rm 1 Ra Rn Rd", "umsubl", False, True)


@op("1 00 11011 010 Rm 0 xxxxx Rn Rd", asm="{Rd}, {Rn}, {Rm}")
def smulh(cpu: Cpu) -> None:
    cpu.Rd = (cpu.Rn.sext(128) * cpu.Rm.sext(128)).high(64)


@op("1 00 11011 110 Rm 0 xxxxx Rn Rd", asm="{Rd}, {Rn}, {Rm}")
def umulh(cpu: Cpu) -> None:
    cpu.Rd = (cpu.Rn.zext(128) * cpu.Rm.zext(128)).high(64)


@op("sf 0 0 11010110 Rm 00001 0 Rn Rd", asm="{Rd}, {Rn}, {Rm}")
def udiv(cpu: Cpu) -> None:
    cpu.Rd = cpu.Rn.u // cpu.Rm


@op("sf 0 0 11010110 Rm 00001 1 Rn Rd", asm="{Rd}, {Rn}, {Rm}")
def sdiv(cpu: Cpu) -> None:
    cpu.Rd = cpu.Rn.s // cpu.Rm


# CRC32 and CRC32C
def checksum(name: str, functions: dict[int, Function], size: int) -> None:
    """Over 8, 16, 32 or 64 bits."""
    w = 8 << size

    row = f"{int(size == 3)} 0 0 11010110 Rm 010 {int(name == 'crc32c')} {size:02b} Rn Rd"

    @op(row, name + "bhwx"[size], w=32, feature="crc32", asm="{Rd}, {Rn}, {Xm}" if size == 3 else "{Rd}, {Rn}, {Rm}")
    def run(cpu: Cpu) -> None:
        cpu.Rd = functions[w](cpu.Rn.zext(max(w, 32)), cpu.X("Rm", w)).low(32)


for _size in range(4):
    checksum("crc32", CRC32, _size)
    checksum("crc32c", CRC32C, _size)
