"""The processor as an instruction's text sees it: operands by their names in the encoding, memory, system registers, exceptions."""

from __future__ import annotations

from typing import Any

from exuvia.dsl import tick
from exuvia.dsl.trace import Trace, now, retry, seldom, when
from exuvia.dsl.values import Node, Readable, Value, lift
from exuvia.isa.aarch64.flags import FLAG_RULES, condition
from exuvia.isa.aarch64.state import SINK, SP, layout

WORDS = {name for name in layout.declared if layout.files[name].count == 1} | {"deadline", "interrupt_pending", "mode", "page", "tlb_base"}
WORDS |= set(tick.WORDS.split())
REGISTERS = dict(Rd="reg", Rt="reg", Rn="base", Rt2="extra", Ra="extra", Rm="rm", Rs="rm", Rsd="seg")
"""Fields of an encoding that name general registers -> the record's. `Rsd` is Rs, or Rm, where it is written."""
FOLLOWING = "V+1", "V+2", "V+3"
VECTORS = dict(Vd="reg", Vt="reg", Vn="base", Vt2="extra", Va="extra", Vm="rm") | dict(zip(FOLLOWING, ("extra", "seg", "scale")))
"""FOLLOWING are the registers behind the one that the row's fact `several` names."""

# exception classes (ESR_ELx.EC)
EC_UNKNOWN, EC_WFX, EC_FP, EC_PAC, EC_BTI, EC_ILLEGAL = 0x00, 0x01, 0x07, 0x09, 0x0D, 0x0E
EC_SVC, EC_HVC, EC_SMC, EC_SYSTEM = 0x15, 0x16, 0x17, 0x18
EC_FETCH, EC_PC, EC_DATA, EC_SP = 0x20, 0x22, 0x24, 0x26
EC_BREAKPOINT, EC_STEP, EC_WATCHPOINT, EC_BRK = 0x30, 0x32, 0x34, 0x3C
TO_EL2 = 0x40  # beside an exception class: for EL2, whatever else
ALIGNMENT = 0x21  # fault status code
SCTLR_SA, SCTLR_SA0 = 1 << 3, 1 << 4
MAINTENANCE, UNITS, AT_STAGE1, AT_BOTH, STORES, ZEROES = 1, 2, 252, 253, 254, 255
"""What an access is, in the access word's segment: it maintains caches (ISS.CM); UNITS + n: parts of 2^n bytes side by side; AT, of
stage 1 or of both, which fills no TLB; it only stores, though it looks at what was there, as STXR does; DC ZVA."""


class Cpu(Trace):
    """One variant of one encoding. Facts known while tracing, for plain `if`s: the fields of the encoding that are no registers and no
    immediates, as numbers (`cpu.sf`, `cpu.cond`), `stack` (is the base register the stack pointer? forms.py), `w` (64 or 32: bit 31
    unless the row says otherwise), `el0` (is this unprivileged code?), `strict` and `aware` (is this code of those modes? state.py).

    `cpu.Rn` reads a register at width w, `cpu.Rd = v` writes it, `cpu.imm` is the immediate. `cpu.elr_el1` and so on are 64-bit words.
    """

    rules = FLAG_RULES
    w = 64
    el0 = strict = aware = False
    stack = 0
    row: Any = None
    pc: Any  # where to go on, only ever set

    def __getattr__(self, name: str) -> Any:
        if name in REGISTERS:
            return self.X(name, self.w)
        if name in WORDS:
            return self.get((name, 0, 64))
        raise AttributeError(name)

    def __setattr__(self, name: str, v: Any) -> None:
        if name in REGISTERS:
            self.set_X(name, lift(v, self.w))
        elif name == "pc":
            self.put(("pc", 0, 64), v)
        elif name in WORDS:
            self.put((name, 0, 64), lift(v, 64).zext(64))
        else:
            object.__setattr__(self, name, v)

    # registers
    def X(self, name: str | int, w: int = 64) -> Value:
        """A general register by its field in the encoding, or by slot."""
        return self.get(("x", REGISTERS.get(name, name) if isinstance(name, str) else name, 64)).low(w)

    def set_X(self, name: str | int, v: Value) -> None:
        """Write one; 32 bits clear the upper half."""
        self.put(("x", REGISTERS.get(name, name) if isinstance(name, str) else name, 64), v.zext(64))

    def V(self, name: str | int) -> Value:
        """A vector register's 128 bits by its field in the encoding (Vd Vn Vm Va Vt Vt2), or by number."""
        return self.get(("v", VECTORS.get(name, name) if isinstance(name, str) else name, 128))

    def set_V(self, name: str | int, v: Value) -> None:
        """Write one; fewer bits clear the rest."""
        self.put(("v", VECTORS.get(name, name) if isinstance(name, str) else name, 128), v.zext(128))

    @property
    def second_expected(self) -> Value:
        """The register behind Rs, where the encoding's immediate is `pair`; x31 is zero."""
        v = self.get(("x", "index", 64))
        return (self.field("index") == SINK).choose(0, v)

    # fields
    @property
    def imm(self) -> Value:
        """The immediate, extended to 64 bits and scaled."""
        return self.field("imm")

    @property
    def amount(self) -> Value:
        """The record's shift count, 64 bits, below 64: bits 15:10 unless the row says something else."""
        return self.field("scale")

    @property
    def instruction(self) -> Value:
        """The instruction itself, 32 bits."""
        return self.field("disp", 32)

    def bits(self, name: str) -> Value:
        """A field of the encoding that is looked up when the instruction runs (one that is no variant): 64 bits."""
        high, low = self.row.fields[name]
        return self.instruction.bits(high, low).zext(64)

    @property
    def condition_holds(self) -> Value:
        """Of the encoding's `cond`."""
        return condition(self, self.cond)

    # where we are
    @property
    def this_pc(self) -> Value:
        """The address of this instruction."""
        return Value(Node("this_pc", 64))

    @property
    def next_pc(self) -> Value:
        """The address of the next."""
        return Value(Node("next_pc", 64))

    def branch(self) -> None:
        """Go to the encoding's target."""
        self.pc = Value(Node("target", 64))

    # memory
    def memory(self, address: Value, w: int, *, user: bool = False, unit: int = 0, what: int = 0) -> Memory:
        """An operand of w bits in memory. `user`: accessed as EL0 would; `unit`: bits of its parts, which is what alignment is about;
        `what`: STORES, ZEROES."""
        return Memory(self, address, w, user, unit or w, what)

    # files indexed by a value
    def get_at(self, file: str, index: Value, w: int) -> Value:
        """A register whose number is computed."""
        return self.effect("peek", w, index.zext(64).n, attr=file)

    def put_at(self, file: str, index: Value, v: Value) -> None:
        """Write such a register now: only after everything that can fault."""
        self.effect("poke", 0, index.zext(64).n, v.n, attr=file)


class Memory(Readable):
    """One translation, wanted for writing as soon as the text writes."""

    def __init__(self, cpu: Cpu, address: Value, w: int, user: bool, unit: int, what: int) -> None:
        self.cpu, self.address, self.w, self.user, self.unit = cpu, address, w, user, unit
        self.what: int | str = "system" if user else what or (0 if unit == w else UNITS + unit.bit_length() - 4)
        self.looked_at = not cpu.strict or what == ZEROES
        self.host: Value | None = None
        self.old: Value | None = None

    def where(self, access: str) -> Node:
        """The host's pointer to it; faults as an access of this kind does."""
        if self.host is None:
            if not self.looked_at:
                self.aligned(access == "w")
            self.host = self.cpu.effect("translate", 64, self.address.n, attr=[access, self.w // 8, self.what])
        if access == "w":
            self.host.n.attr[0] = "w"
        return self.host.n

    def aligned(self, writes: bool = False) -> Memory:
        """An alignment fault unless the address is a multiple of the unit's size."""
        self.looked_at = True
        if self.unit > 8:
            with when((self.address & (self.unit // 8 - 1)) != 0):
                misaligned(self.cpu, self.address, writes)
        return self

    def writable(self) -> Memory:
        """Fault now if it cannot be written."""
        self.where("w")
        return self

    def read(self) -> Value:
        if self.old is None:
            self.old = self.cpu.effect("load", self.w, self.where("r"))
        return self.old

    def set(self, v: Any) -> None:
        """Store."""
        v = lift(v, self.w)
        if v.w != self.w:
            raise TypeError(f"{v.w} bits stored to an operand of {self.w}")
        self.cpu.effect("store", 0, self.where("w"), v.n)

    def exchange(self, old: Value, new: Value) -> Value:
        """Store `new` if the memory holds `old`, in one step; what it held."""
        return self.cpu.effect("cas", self.w, self.where("w"), old.n, new.n)

    def update(self, new: Value) -> None:
        """Store what was made of the value read, if nobody changed that since; else do the instruction again."""
        old = self.read()
        with when(self.exchange(old, new) != old):
            retry()


def misaligned(cpu: Cpu, address: Value, writes: bool) -> None:
    """An alignment fault at this address."""
    cpu.put_at("fault_address", lift(0, 64), address)
    now().effect("raise", 0, lift(ALIGNMENT | (1 << 6 if writes else 0), 64).n, attr=EC_DATA)


def aligned_stack(cpu: Cpu) -> None:
    """CheckSPAlignment() (D1.3.10.2): where SCTLR_ELx asks for it, a stack pointer that memory is accessed by is a multiple of 16."""
    with seldom((cpu.X(SP) & 15) != 0):
        asked = cpu.sctlr_el1 & SCTLR_SA0 if cpu.el0 else (cpu.el == 2).choose(cpu.sctlr_el2, cpu.sctlr_el1) & SCTLR_SA
        with when(asked != 0):
            raise_(EC_SP)


def raise_(ec: int, iss: Any = 0) -> None:
    """An exception of this class and syndrome whose return address is this instruction: nothing of the instruction is committed."""
    now().effect("raise", 0, lift(iss, 64).zext(64).n, attr=ec)


def undefined() -> None:
    """The instruction is UNDEFINED here."""
    raise_(EC_UNKNOWN)


def enter(routine: str) -> None:
    """Commit, then go on with a routine of the processor."""
    now().effect("enter", 0, attr=routine)


def leave(name: str, *args: Any) -> None:
    """Commit, then let the plain-Python function `name` of `RARE` do the rest; it may set registers and the pc, or fault."""
    now().effect("leave", 0, *(lift(a, 64).zext(64).n for a in args), attr=name)


__all__ = ["SP", "Cpu", "Memory", "enter", "leave", "raise_", "undefined"]
