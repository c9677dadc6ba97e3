"""The manual's operand letters (SDM vol. 2, appendix A.2): what an instruction's text gets for `Eb`, `Gv`, `sIb`, `Vx` ...

First letter: E general register or memory, G general register (reg), B general register (VEX.vvvv), Z register in the opcode, M memory
only, R register only (rm), I immediate, sI sign-extended immediate, J relative target, A far pointer, O memory at an absolute
offset, S segment register,
C/D control/debug register, V/W/U xmm or ymm (reg / rm or memory / rm only), H likewise (VEX.vvvv; without VEX the destination), L likewise
(in an immediate's upper half), P/Q/N mmx as V/W/U, ST x87 stack register (rm).
Size: b 8, w 16, d 32, q 64, dq 128, v operand size, z operand size but immediates at most 32, y 32 or 64, x 128 or 256 by VEX.L, xh, xf, xe
half of that, a fourth, an eighth, ss/sd scalar float 32/64, t 80, bd/wd: 8/16 in memory, but 32 in a register.
Names in capitals (AL, CL, DX, rAX) and 1 are themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Node, Readable, Value, concat, lift, node
from exuvia.isa.x86.cpu import Cpu, Memory, raise_
from exuvia.isa.x86.state import CR0_EM, CR0_TS, GP, GPR, NM

SIZES = {"b": 8, "w": 16, "d": 32, "q": 64, "dq": 128, "ss": 32, "sd": 64, "t": 80, "": 0, "bd": 8, "wd": 16}
PARTS = {"x": 1, "xh": 2, "xf": 4, "xe": 8}


class Register(Readable):
    """A general register; its slot is a byte offset or the record field that holds it."""

    def __init__(self, cpu: Cpu, slot: int | str, w: int) -> None:
        self.cpu, self.slot, self.w = cpu, slot, w

    def read(self) -> Value:
        return self.cpu.reg(self.slot, self.w)

    def set(self, v: Any) -> None:
        """Write at this operand's width."""
        self.cpu.set_reg(self.slot, lift(v, self.w))


class Xmm(Readable):
    """An xmm or ymm register; an operand narrower than 128 bits is its low part.

    A write to a part leaves the rest of the low 128 bits as in `under`. Above them VEX gives zeros, and SSE leaves what is there.
    """

    def __init__(self, cpu: Cpu, slot: int | str, w: int, under: int | str) -> None:
        self.cpu, self.slot, self.w, self.under = cpu, slot, w, under

    def read(self) -> Value:
        if self.w == 256:
            return concat(self.whole(), self.cpu.get(("y", self.slot, 128)))
        return self.whole().low(self.w)

    def whole(self) -> Value:
        """The low 128 bits."""
        return self.cpu.get(("x", self.slot, 128))

    def set(self, v: Any) -> None:
        """Write the operand's part."""
        v = lift(v, self.w)
        self.put(v if v.w >= 128 else self.cpu.get(("x", self.under, 128)).insert(0, v))

    def set_whole(self, v: Any) -> None:
        """Write the low 128 bits, what the value lacks with zeros."""
        self.put(lift(v, 128).zext(128))

    def put(self, v: Value) -> None:
        low, high = (v, lift(0, 128)) if v.w == 128 else (v.lane(0, 128), v.lane(1, 128))
        self.cpu.put(("x", self.slot, 128), low)
        if self.cpu.row.vex:
            self.cpu.put(("y", self.slot, 128), high)


class Mmx(Readable):
    """An mmx register. The row's `mmx` fact has put the x87 into MMX state (tags valid, top 0, exponent all ones)."""

    def __init__(self, cpu: Cpu, slot: int | str, w: int) -> None:
        self.cpu, self.slot, self.w = cpu, slot, w

    def read(self) -> Value:
        return self.cpu.get(("mm", self.slot, 64)).low(self.w)

    def set(self, v: Any) -> None:
        """Write; a narrower value is zero-extended, and the x87 register's exponent becomes all ones (SDM vol. 1, 9.6.2)."""
        self.cpu.put(("mm", self.slot, 64), lift(v, self.w).zext(64))
        self.cpu.put(("st_exponent", self.slot, 16), 0xFFFF)


class Special(Readable):
    """A segment, control or debug register: only its number, the text knows the rest."""

    def __init__(self, cpu: Cpu, slot: str) -> None:
        self.cpu, self.slot, self.w = cpu, slot, 64

    def read(self) -> Value:
        return self.cpu.field(self.slot)


class Immediate(Readable):
    """The immediate, already extended by the decoder, at the operand's width."""

    def __init__(self, cpu: Cpu, w: int) -> None:
        self.cpu, self.w = cpu, w

    def read(self) -> Value:
        return self.cpu.field("imm").low(self.w)


class Constant(Readable):
    """The operand 1 of a shift."""

    w = 8

    def read(self) -> Value:
        return lift(1, 8)


def effective_address(cpu: Cpu) -> Value:
    """base + index * scale + displacement, at address size (SDM vol. 1, 3.7.5)."""
    base, index = (cpu.get(("r", slot, 64)) for slot in ("base", "index"))
    a = base + Value(node("shl", 64, index.n, Node("field", 64, (), "scale"))) + cpu.field("disp")
    return a.low(cpu.asize)


def size_of(cpu: Cpu, size: str) -> int:
    """Bits of a size letter for this form."""
    if size in ("v", "z"):
        return cpu.osize
    if size == "y":
        return 64 if cpu.osize == 64 else 32
    return cpu.vector // PARTS[size] if size in PARTS else SIZES[size]


def operand(cpu: Cpu, text: str) -> Any:
    """`Eb`, `Gv`, `sIb`, `CL` ... -> something that reads, and sets where that makes sense."""
    if text == "1":
        return Constant()
    if text in ("AL", "CL"):
        return Register(cpu, {"AL": 0, "CL": 8}[text], 8)
    if text == "DX":
        return Register(cpu, 16, 16)
    if text[0] == "r" and text[1:] in GPR:
        return Register(cpu, 8 * GPR.index(text[1:]), cpu.w)
    if text == "ST":
        return Special(cpu, "rm")
    if text.startswith("sI"):
        return Immediate(cpu, cpu.w)
    letter = text[0]
    w = size_of(cpu, text[1:])
    if letter in "EWMQ" and cpu.mem:
        m = Memory(cpu, effective_address(cpu), w, "seg")
        m.will_write = bool(cpu.row.facts.get("modifies"))
        if w >= 128 and letter in "WM" and cpu.row.aligned:
            linear = m.address.zext(64) + cpu.get(("seg_base", "seg", 64)) if cpu.override else m.address
            with when((linear & (w // 8 - 1)) != 0):
                raise_(GP, 0)
        return m
    if letter in XMM:
        slot = XMM[cpu.row.destination if letter == "H" and not cpu.row.vex else letter]
        return Xmm(cpu, slot, w, "extra" if cpu.row.extra else slot)
    return REGISTERS[letter](cpu, 32 if text[1:] in ("bd", "wd") else w)


XMM = {"V": "reg", "W": "rm", "U": "rm", "H": "extra", "L": "imm"}
REGISTERS: dict[str, Callable[[Cpu, int], Any]] = {
    "E": lambda cpu, w: Register(cpu, "rm", w),
    "R": lambda cpu, w: Register(cpu, "rm", w),
    "Z": lambda cpu, w: Register(cpu, "rm", w),
    "G": lambda cpu, w: Register(cpu, "reg", w),
    "B": lambda cpu, w: Register(cpu, "extra", w),
    "Q": lambda cpu, w: Mmx(cpu, "rm", w),
    "N": lambda cpu, w: Mmx(cpu, "rm", w),
    "P": lambda cpu, w: Mmx(cpu, "reg", w),
    "S": lambda cpu, w: Special(cpu, "reg"),
    "C": lambda cpu, w: Special(cpu, "reg"),
    "D": lambda cpu, w: Special(cpu, "reg"),
    "I": lambda cpu, w: Immediate(cpu, w),
    "J": lambda cpu, w: Immediate(cpu, w),
    "A": lambda cpu, w: Immediate(cpu, w),
    "O": lambda cpu, w: Memory(cpu, cpu.field("imm").low(cpu.asize), w, "seg"),
}


def device_not_available(cpu: Cpu, mask: int = CR0_EM | CR0_TS) -> None:
    """#NM while the coprocessor is someone else's (SDM vol. 3, 6.15)."""
    with when((cpu.cr0 & mask) != 0):
        raise_(NM)
