"""The processor as an instruction's text sees it: registers by name, memory in the guest's byte order, faults."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import Trace, now, when
from exuvia.dsl.values import Node, Readable, Value, lift
from exuvia.isa.mips.state import ADEL, ADES, CPU, CU0, CU1, ERL, EXL, KSU, MARK, RA, layout

WORDS = {name for name in layout.declared if layout.files[name].count == 1}


class Cpu(Trace):
    """One instruction while it is read. Facts known while tracing, for plain `if`s: big (byte order), wide (Status.FR), width (bits of
    a general register), alone (a jump whose delay slot is empty).

    `cpu.rs`, `cpu.rt` and `cpu.rd` are registers that the encoding names, 32 bits of them; `cpu.status` and so on are 64-bit words.
    """

    big = wide = alone = False
    width = 32
    row: Any = None
    pc: Any  # where to go on, only ever set

    def __getattr__(self, name: str) -> Any:
        if name in WORDS:
            return self.get((name, 0, 64))
        if name in SOURCES:
            return self.reg(SOURCES[name])
        raise AttributeError(name)

    def __setattr__(self, name: str, v: Any) -> None:
        if name == "pc":
            self.put(("pc", 0, 64), v)
        elif name in WORDS:
            self.put((name, 0, 64), lift(v, 64).zext(64))
        else:
            object.__setattr__(self, name, v)

    # registers
    def reg(self, slot: int | str, w: int = 32) -> Value:
        """A general register by number or by record field."""
        return self.get(("r", slot, 64)).low(w)

    def result(self, v: Any) -> None:
        """Write the register that the encoding says is written; 32 bits are extended as the processor's width wants it."""
        self.put(("r", "base", 64), self.extended(lift(v, 32)))

    def extended(self, v: Value) -> Value:
        """A result of 32 bits as registers hold it."""
        return v.sext(64) if self.width == 64 else v.zext(64)

    @property
    def behind(self) -> Value:
        """The address behind the delay slot."""
        return Value(Node("next_pc", 64)) if self.alone else self.here + 8

    def link(self, slot: int | str = RA) -> None:
        """It is where a subroutine returns to."""
        self.put(("r", slot, 64), self.extended(self.behind.low(32)))

    @property
    def here(self) -> Value:
        """Where this instruction stands."""
        return Value(Node("this_pc", 64))

    @property
    def imm(self) -> Value:
        """The immediate, 32 bits of it."""
        return self.field("imm", 32)

    def number(self, field: str, w: int = 32) -> Value:
        """The number in a field of the record."""
        return self.field(field).low(w)

    def address(self, v: Value) -> Value:
        """A sum as an address: what is beyond the last is the first."""
        return v.low(32).zext(64) if self.width == 32 else v

    # delayed jumps
    def delay(self, target: Value) -> None:
        """Go there when the next instruction is done, if there is one."""
        if self.alone:
            self.pc = self.address(target.zext(64))
        else:
            self.then = self.address(target.zext(64)) | MARK

    # memory
    def memory(self, address: Value, w: int) -> Memory:
        """An operand of w bits; where it is not aligned, an address error."""
        return Memory(self, address, w)

    # register files with computed numbers
    def get_at(self, file: str, index: Value) -> Value:
        """A register of 64 bits whose number is computed."""
        return self.effect("peek", 64, index.zext(64).n, attr=file)

    def put_at(self, file: str, index: Value, v: Value) -> None:
        """Write such a register now: only after everything that can fault."""
        self.effect("poke", 0, index.zext(64).n, v.n, attr=file)


SOURCES = {"rs": "rm", "rt": "reg", "rd": "extra"}
"""Names of source registers -> the record's fields."""


class Memory(Readable):
    """An aligned operand in memory, in the guest's byte order."""

    def __init__(self, cpu: Cpu, address: Value, w: int) -> None:
        self.cpu, self.place, self.w = cpu, address, w
        self.host: Value | None = None
        self.checked = ""

    def where(self, access: str) -> Node:
        """The host's pointer to it."""
        if self.host is None:
            if self.w > 8:
                with when((self.place & (self.w // 8 - 1)) != 0):
                    raise_(ADES if access == "w" else ADEL, self.place)
            self.host = self.cpu.effect("translate", 64, self.place.n, attr=[access, self.w // 8, 0])
        elif access == "w":
            self.host.n.attr[0] = "w"
        return self.host.n

    def writable(self) -> Memory:
        """Fault now if it cannot be written."""
        self.where("w")
        return self

    def ordered(self, v: Value) -> Value:
        """Between the guest's byte order and the host's."""
        return v.swapped if self.cpu.big and self.w > 8 else v

    def read(self) -> Value:
        return self.ordered(self.cpu.effect("load", self.w, self.where("r")))

    def set(self, v: Any) -> None:
        """Store."""
        host = self.where("w")
        self.cpu.effect("store", 0, host, self.ordered(lift(v, self.w)).n)

    def swap_if(self, old: Value, new: Value) -> Value:
        """Store `new` if `old` is there: was it?"""
        expected = self.ordered(old)
        return self.cpu.effect("cas", self.w, self.where("w"), expected.n, self.ordered(new).n) == expected


def raise_(code: int, detail: Any = None) -> None:
    """An exception, by Cause.ExcCode: nothing of the instruction is committed. `detail` is BadVAddr of an address error, CE of CPU."""
    args = () if detail is None else (lift(detail, 64).zext(64).n,)
    now().effect("raise", 0, *args, attr=code)


def enter(routine: str) -> None:
    """Commit, then go on with a routine of the processor."""
    now().effect("enter", 0, attr=routine)


def leave(name: str, *args: Any) -> None:
    """Commit, then let the plain-Python function `name` of `rare` do the rest."""
    now().effect("leave", 0, *(lift(a, 64).zext(64).n for a in args), attr=name)


def in_kernel(status: Value) -> Value:
    """Kernel mode: by KSU, or while an exception or error is handled (vol. III, 3.2)."""
    return ((status & (EXL | ERL)) != 0) | ((status & KSU) == 0)


def needs_kernel(cpu: Cpu) -> None:
    """Coprocessor 0 is for kernel mode, and for whom it lets (vol. III, 3.5)."""
    with when(~in_kernel(cpu.status) & ((cpu.status & CU0) == 0)):
        raise_(CPU, 0)


def needs_fpu(cpu: Cpu) -> None:
    """Coprocessor 1 must be switched on; without a floating point unit it cannot be."""
    with when((cpu.status & CU1) == 0):
        raise_(CPU, 1)
