"""Arithmetic, logic, shifts and moves (vol. II; vol. I tables 3.1 to 3.8)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.mips.cpu import Cpu, raise_
from exuvia.isa.mips.forms import condition, op, rri, rrr
from exuvia.isa.mips.state import OV


def checked(a: Value, b: Value, r: Value, minus: bool = False) -> Value:
    """The sum or difference, or an overflow exception."""
    other = ~b if minus else b
    with when((~(a ^ other) & (a ^ r)).top):
        raise_(OV)
    return r


#     opcode rs rt rd  sa    function
rrr("000000 rs rt rd 00000 100000", "add",  lambda a, b: checked(a, b, a + b))
rrr("000000 rs rt rd 00000 100001", "addu", lambda a, b: a + b)
rrr("000000 rs rt rd 00000 100010", "sub",  lambda a, b: checked(a, b, a - b, minus=True))
rrr("000000 rs rt rd 00000 100011", "subu", lambda a, b: a - b)
rrr("000000 rs rt rd 00000 100100", "and",  lambda a, b: a & b)
rrr("000000 rs rt rd 00000 100101", "or",   lambda a, b: a | b)
rrr("000000 rs rt rd 00000 100110", "xor",  lambda a, b: a ^ b)
rrr("000000 rs rt rd 00000 100111", "nor",  lambda a, b: ~(a | b))
rrr("000000 rs rt rd 00000 101010", "slt",  lambda a, b: condition(a.s < b))
rrr("000000 rs rt rd 00000 101011", "sltu", lambda a, b: condition(a.u < b))

#     opcode rs rt immediate
rri("001000 rs rt imm", "addi",   lambda a, b: checked(a, b, a + b))
rri("001001 rs rt imm", "addiu",  lambda a, b: a + b)
rri("001010 rs rt imm", "slti",   lambda a, b: condition(a.s < b))
rri("001011 rs rt imm", "sltiu",  lambda a, b: condition(a.u < b))
rri("001100 rs rt uimm", "andi",  lambda a, b: a & b)
rri("001101 rs rt uimm", "ori",   lambda a, b: a | b)
rri("001110 rs rt uimm", "xori",  lambda a, b: a ^ b)


@op("001111 00000 rt upper", writes="rt")
def lui(cpu: Cpu) -> None:
    cpu.result(cpu.imm)


def shift(text: str, name: str, f: Any, **facts: Any) -> None:
    """rd = rt shifted by sa, or by the low five bits of rs."""
    by_register = " rs " in text
    op(text, name, writes="rd", **facts)(lambda cpu: cpu.result(f(cpu.rt, cpu.rs & 31 if by_register else cpu.number("scale") & 31)))


def rotate(a: Value, n: Value) -> Value:
    """To the right."""
    return (a.u >> n) | (a << ((0 - n) & 31))


#      opcode  rs    rt rd sa function
shift("000000 00000 rt rd sa 000000", "sll",  lambda a, n: a << n)
shift("000000 00000 rt rd sa 000010", "srl",  lambda a, n: a.u >> n)
shift("000000 00000 rt rd sa 000011", "sra",  lambda a, n: a.s >> n)
shift("000000 00001 rt rd sa 000010", "rotr", rotate, feature="r2")
shift("000000 rs rt rd 00000 000100", "sllv", lambda a, n: a << n)
shift("000000 rs rt rd 00000 000110", "srlv", lambda a, n: a.u >> n)
shift("000000 rs rt rd 00000 000111", "srav", lambda a, n: a.s >> n)
shift("000000 rs rt rd 00001 000110", "rotrv", rotate, feature="r2")


def move(text: str, name: str, wanted: bool) -> None:
    """rd = rs, if rt is zero, or is not."""

    @op(text, name, writes="rd")
    def run(cpu: Cpu) -> None:
        move_if(cpu, (cpu.rt == 0) if wanted else (cpu.rt != 0))


def move_if(cpu: Cpu, c: Value) -> None:
    """rd = rs where the condition holds."""
    with when(c):
        cpu.result(cpu.rs)


move("000000 rs rt rd 00000 001010", "movz", True)
move("000000 rs rt rd 00000 001011", "movn", False)
