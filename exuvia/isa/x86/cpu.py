"""The processor as an instruction's text sees it: registers by name, memory through segments, the stack, faults."""

from __future__ import annotations

from typing import Any

from exuvia.dsl import tick
from exuvia.dsl.trace import Trace, now, retry, when
from exuvia.dsl.values import Node, Readable, Value, const, lift
from exuvia.isa.x86.flags import FLAG_RULES
from exuvia.isa.x86.state import CR0_PE, CS, ES, GP, GPR, SS, SS_FAULT, VM, layout

WORDS = {name for name in layout.declared if layout.files[name].count == 1} | {"deadline"} | set(tick.WORDS.split())


class Cpu(Trace):
    """One form of one instruction. Facts known while tracing, for plain `if`s:

    w (operand width of the row), osize, asize, vector (128, 256), code (16, 32, 64), stack (16, 32, 64), flat, mem, locked,
    rep (None, "rep", "repne"),
    override (the ModRM operand has a segment base to add).

    `cpu.rAX` is the register at operand size, `cpu.aSI` at address size, `cpu.sSP` at stack size; `cpu.cr0` and so on are 64-bit words.
    """

    rules = FLAG_RULES
    w = osize = asize = code = stack = 0
    vector = 128
    flat = mem = locked = override = False
    rep: str | None = None
    row: Any = None
    pc: Any  # the linear address to go on at, only ever set; `jump`, `branch` and `again` do
    sSP: Any

    def __getattr__(self, name: str) -> Any:
        if name in WORDS:
            return self.get((name, 0, 64))
        if (r := self._named(name)) is not None:
            return self.reg(*r)
        raise AttributeError(name)

    def __setattr__(self, name: str, v: Any) -> None:
        if name == "pc":
            self.put(("pc", 0, 64), v)
        elif name in WORDS:
            v = lift(v, 64)
            self.put((name, 0, 64), v.zext(64))
        elif (r := self._named(name)) is not None:
            self.set_reg(r[0], lift(v, r[1]).low(r[1]))
        else:
            object.__setattr__(self, name, v)

    def _named(self, name: str) -> tuple[int, int] | None:
        if len(name) != 3 or name[1:] not in GPR or name[0] not in "ras":
            return None
        w = {"r": self.w, "a": self.asize, "s": self.stack}[name[0]]
        return GPR.index(name[1:]) * 8, w

    # registers
    def reg(self, slot: int | str, w: int) -> Value:
        """A general register by slot (byte offset, or record field); 8 and 16 bits are read as such."""
        return self.get(("r", slot, 64)).low(w) if w >= 32 else self.get(("r", slot, w))

    def set_reg(self, slot: int | str, v: Value) -> None:
        """Writing 32 bits clears the upper half, writing 8 or 16 leaves the rest (SDM vol. 1, 3.4.1.1)."""
        if v.w >= 32:
            self.put(("r", slot, 64), v.zext(64))
        else:
            self.put(("r", slot, v.w), v)

    @property
    def next_pc(self) -> Value:
        """IP of the next instruction (relative to CS, as software sees it)."""
        return self.linear_next - self._code_base()

    @property
    def linear_next(self) -> Value:
        """Linear address of the next instruction."""
        return Value(Node("next_pc", 64))

    @property
    def here(self) -> Value:
        """IP of this instruction (relative to CS)."""
        return Value(Node("this_pc", 64)) - self._code_base()

    def _code_base(self) -> Value:
        return lift(0, 64) if self.flat else self.get(("seg_base", CS, 64))

    def jump(self, ip: Value) -> None:
        """Go to an instruction pointer relative to CS; in 64-bit mode a non-canonical one is #GP(0)."""
        ip = ip.zext(64)
        if self.code == 64:
            with when(ip.low(48).sext(64) != ip):
                raise_(GP, 0)
            self.pc = ip
        elif self.flat:
            self.pc = ip
        else:
            with when(ip.u > self.get(("seg_limit", CS, 64))):
                raise_(GP, 0)
            self.pc = (ip + self._code_base()).low(32).zext(64)

    def branch(self) -> None:
        """Take the relative branch of this instruction."""
        if self.osize == 16 or not self.flat:
            w = self.osize if self.code != 64 else 64
            self.jump((self.next_pc + self.field("imm")).low(w))
        else:
            self.pc = Value(Node("target", 64))

    def again(self) -> None:
        """Come back to this instruction: the point where a repeated string instruction can be interrupted."""
        self.pc = Value(Node("this_pc", 64))

    # memory
    def linear(self, address: Value, seg: int | str, access: str, size: int) -> Value:
        """The linear address of an offset in a segment, limits and types checked (SDM vol. 3, 5.3, 5.5). `access`: r or w."""
        address = address.zext(64)
        if self.code == 64:
            if seg == "seg" and self.override or seg in (4, 5):
                return address + self.get(("seg_base", seg, 64))
            return address
        if self.flat and not (seg == "seg" and self.override) and seg not in (4, 5):
            return address
        low = self.get(("seg_low" if access == "r" else "seg_write_low", seg, 64))
        high = self.get(("seg_high" if access == "r" else "seg_write_high", seg, 64))
        last = address + (size - 1)
        wrong = (address.u < low) | (last.u > high)
        with when(wrong):
            if isinstance(seg, str):
                with when(self.field("seg") == SS):
                    raise_(SS_FAULT, 0)
                raise_(GP, 0)
            else:
                raise_(SS_FAULT if seg == SS else GP, 0)
        return (address + self.get(("seg_base", seg, 64))).low(32).zext(64)

    def memory(self, address: Value, w: int, seg: int | str) -> Memory:
        """An operand in memory at an offset in a segment: a number, or "seg" for the instruction's own."""
        return Memory(self, address, w, seg)

    def system(self, linear: Value, w: int) -> Memory:
        """A descriptor table or task state segment: a linear address, accessed as the supervisor whatever the CPL."""
        return Memory(self, linear, w, "system")

    def string_source(self, w: int) -> Memory:
        """DS:rSI, or another segment by prefix."""
        return self.memory(self.aSI, w, "seg")

    def string_destination(self, w: int) -> Memory:
        """ES:rDI."""
        return self.memory(self.aDI, w, ES)

    def push(self, v: Any, w: int | None = None) -> None:
        """Push a value (of the operand's width)."""
        v = lift(v, w)
        top = self.sSP - v.w // 8
        self.memory(top, v.w, SS).set(v)
        self.sSP = top

    def pop(self, w: int) -> Value:
        """Pop w bits; rSP moves when the instruction commits."""
        v = self.memory(self.sSP, w, SS).read()
        self.sSP = self.sSP + w // 8
        return v

    # stack-relative register access to x87 and whatever else is indexed by a value
    def get_at(self, file: str, index: Value, w: int) -> Value:
        """A register whose number is computed: (file, index) at width w."""
        return self.effect("peek", w, index.zext(64).n, attr=file)

    def put_at(self, file: str, index: Value, v: Value) -> None:
        """Write such a register now: only after everything that can fault."""
        self.effect("poke", 0, index.zext(64).n, v.n, attr=file)

    # ports
    def port_in(self, port: Value, w: int) -> Value:
        """Read a port; permission must have been checked, and all faults raised."""
        return self.effect("io_in", w, port.zext(64).n)

    def port_out(self, port: Value, v: Value) -> None:
        """Write a port, as the last thing this instruction does."""
        self.effect("io_out", 0, port.zext(64).n, v.n)


class Memory(Readable):
    """One translation, wanted for writing as soon as the text writes: one check, and the fault that x86 gives."""

    def __init__(self, cpu: Cpu, address: Value, w: int, seg: int | str) -> None:
        self.cpu, self.address, self.w, self.seg = cpu, address, w, seg
        self.host: Value | None = None
        self.old: Value | None = None

    def where(self, access: str) -> Node:
        """The host's pointer to it; faults as an access of this kind does."""
        if self.host is None:
            if self.seg == "system":
                linear = self.address
            else:
                # a read-modify-write checks the segment for writing at once: `will_write` is known from the row
                linear = self.cpu.linear(self.address, self.seg, "w" if self.cpu.locked or self.will_write else access, self.w // 8)
            self.host = self.cpu.effect("translate", 64, linear.n, attr=[access, self.w // 8, self.seg])
        if access == "w":
            self.host.n.attr[0] = "w"
        return self.host.n

    will_write = False

    def writable(self) -> Memory:
        """Fault now if it cannot be written."""
        self.will_write = True
        self.where("w")
        return self

    def read(self) -> Value:
        if self.old is None:
            self.old = self.cpu.effect("load", self.w, self.where("r"))
        return self.old

    def set(self, v: Any) -> None:
        """Store; with LOCK, store only if nobody changed it since it was read, else do the instruction again."""
        v = lift(v, self.w)
        if v.w != self.w:
            raise TypeError(f"{v.w} bits stored to an operand of {self.w}")
        if not self.cpu.locked or self.seg != "seg":
            if self.host is None:
                self.will_write = True
            self.cpu.effect("store", 0, self.where("w"), v.n)
        else:
            old = self.read()
            seen = self.cpu.effect("cas", self.w, self.where("w"), old.n, v.n)
            with when(seen != old):
                retry()

    def at(self, offset: Any) -> Memory:
        """The operand that many bytes further on (a bit string's word)."""
        m = Memory(self.cpu, self.address + offset, self.w, self.seg)
        m.will_write = self.will_write
        return m


def protected(cpu: Cpu) -> Value:
    """Are segments descriptors? Always, in 64-bit code; not in real and virtual-8086 mode."""
    if cpu.code == 64:
        return lift(1, 1)
    return lift(((cpu.cr0 & CR0_PE) != 0) & ((cpu.eflags & VM) == 0))


def raise_(vector: int, error: Any = None) -> None:
    """A fault: nothing of the instruction is committed. `error` is the error code where the exception has one."""
    args = () if error is None else (lift(error, 64).zext(64).n,)
    now().effect("raise", 0, *args, attr=vector)


def enter(routine: str) -> None:
    """Commit, then go on with a routine of the processor (the delivery of an interrupt)."""
    now().effect("enter", 0, attr=routine)


def leave(name: str, *args: Any) -> None:
    """Commit, then let the plain-Python function `name` of `rare` do the rest; it may set the registers and the IP, or fault."""
    now().effect("leave", 0, *(lift(a, 64).zext(64).n for a in args), attr=name)


def one(w: int = 1) -> Value:
    """The constant 1."""
    return Value(const(1, w))
