"""x87: control words, the environment, and the whole state in memory (SDM vol. 1, 8.1.8 to 8.1.10, 8.3.9, 10.5)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.hostfloats import forget_exceptions, set_stack_control, stack_exceptions
from exuvia.dsl.trace import seldom, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86 import mxcsr
from exuvia.isa.x86.cpu import Cpu, Memory, protected, raise_
from exuvia.isa.x86.extended import C1
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.operands import device_not_available
from exuvia.isa.x86.state import GP
from exuvia.isa.x86.x87_stack import ES, MASKS, STATUS, B, waiting

CONTROL, CONTROL_ONE = 0x1F7F, 0x40
"""The control word's bits; bit 6 reads as one."""
RESET_CONTROL = 0x37F


def status(cpu: Cpu) -> Value:
    """The status word as software sees it (16 bits)."""
    word: Value = (cpu.fsw | cpu.c1 | (cpu.top << 11)).low(16) | (stack_exceptions() & MASKS)
    return word


def set_status(cpu: Cpu, word: Value, control: Value) -> None:
    """Load the status word; ES and B follow from its exceptions and the control word's masks."""
    w = word.zext(64)
    pending = (w & ~control.zext(64) & 0x3F) != 0
    cpu.fsw, cpu.c1 = (w & STATUS) | pending.choose(lift(ES | B, 64), 0), w & C1
    cpu.ignne = pending.choose(cpu.ignne, 0)
    cpu.top = (w.u >> 11) & 7
    tell_host(cpu)


def set_control(cpu: Cpu, word: Value) -> None:
    """Load the control word."""
    cpu.fcw = (word.zext(64) & CONTROL) | CONTROL_ONE


def tell_host(cpu: Cpu) -> None:
    """Control and exceptions are others now."""
    forget_exceptions()
    set_stack_control(cpu.fcw.low(16) | MASKS)


def initialize(cpu: Cpu) -> None:
    """The state after FNINIT (SDM vol. 2, FINIT): registers keep their contents and are empty."""
    cpu.fcw, cpu.fsw, cpu.c1, cpu.ftw, cpu.top, cpu.ignne = RESET_CONTROL, 0, 0, 0xFF, 0, 0
    cpu.fip, cpu.fdp, cpu.fcs, cpu.fds, cpu.fop = 0, 0, 0, 0, 0
    tell_host(cpu)


# --- control instructions
@op("DB =E3", x87=True)
def fninit(cpu: Cpu) -> None:
    initialize(cpu)


@op("DB =E2", x87=True)
def fnclex(cpu: Cpu) -> None:
    cpu.fsw, cpu.ignne = cpu.fsw & ~(B | 0xFF), 0
    forget_exceptions()


@op("DB =E0 | DB =E1 | DB =E4", "fnop", x87=True)
def no_longer(cpu: Cpu) -> None:
    """FENI, FDISI and FSETPM: nothing since the 80387."""


@waiting("D9 =D0")
def fnop(cpu: Cpu) -> None:
    pass


@waiting("D9/5 Mw")
def fldcw(cpu: Cpu, m: Any) -> None:
    """Where all exceptions are masked none is reported, and those of before may stay where they are known."""
    set_control(cpu, m.read())
    masked = (cpu.fcw & MASKS) == MASKS
    with seldom(~masked):
        set_status(cpu, status(cpu), cpu.fcw)
    with when(masked):
        cpu.fsw, cpu.ignne = cpu.fsw & ~(ES | B), 0
        set_stack_control(cpu.fcw.low(16))


@op("D9/7 Mw", x87=True)
def fnstcw(cpu: Cpu, m: Any) -> None:
    m.set(cpu.fcw.low(16))


@op("DD/7 Mw", x87=True)
def fnstsw(cpu: Cpu, m: Any) -> None:
    m.set(status(cpu))


@op("DF =E0", "fnstsw", x87=True)
def store_status_ax(cpu: Cpu) -> None:
    cpu.set_reg(0, status(cpu))


@waiting("D9 =F7")
def fincstp(cpu: Cpu) -> None:
    cpu.top = (cpu.top + 1) & 7
    cpu.c1 = 0


@waiting("D9 =F6")
def fdecstp(cpu: Cpu) -> None:
    cpu.top = (cpu.top - 1) & 7
    cpu.c1 = 0


@waiting("DD =C0+i ST")
def ffree(cpu: Cpu, i: Any) -> None:
    cpu.c1 = 0
    cpu.ftw = cpu.ftw | (lift(1, 64) << ((cpu.top + i) & 7))


@waiting("DF =C0+i ST")
def ffreep(cpu: Cpu, i: Any) -> None:
    cpu.c1 = 0
    cpu.ftw = cpu.ftw | (lift(1, 64) << ((cpu.top + i) & 7)) | (lift(1, 64) << cpu.top)
    cpu.top = (cpu.top + 1) & 7


# --- the environment: 14 bytes for a 16-bit operand size, else 28
def part(cpu: Cpu, m: Memory, offset: int, w: int) -> Memory:
    """w bits of an area in memory."""
    return cpu.memory(m.address + offset, w, "seg")


def full_tags(cpu: Cpu) -> Value:
    """Two bits for each physical register: 0 a number, 1 zero, 2 special, 3 empty (SDM vol. 1, 8.1.7)."""
    word = lift(0, 16)
    for i in range(8):
        r = cpu.get(("st", i, 80))
        exponent, significand = r.bits(78, 64), r.low(64)
        special = (exponent == 0x7FFF) | (exponent == 0) | ~significand.top
        tag = special.choose(lift(2, 16), 0)
        tag = ((exponent == 0) & (significand == 0)).choose(lift(1, 16), tag)
        tag = cpu.ftw.bit(i).choose(lift(3, 16), tag)
        word = word | (tag << (2 * i))
    return word


def set_tags(cpu: Cpu, word: Value) -> None:
    """Only 3 means something when loaded: the others follow from the contents."""
    empty = lift(0, 64)
    for i in range(8):
        empty = empty | ((word.bits(2 * i + 1, 2 * i) == 3).zext(64) << i)
    cpu.ftw = empty


def environment(cpu: Cpu) -> list[Value]:
    """The environment's words, 16 or 32 bits wide by operand size (SDM vol. 1, figures 8-9 to 8-12)."""
    w = 16 if cpu.osize == 16 else 32
    real = ~protected(cpu)
    fip, fdp, fop = cpu.fip.low(32), cpu.fdp.low(32), cpu.fop.low(32) & 0x7FF
    fcs, fds = cpu.fcs.low(32) & 0xFFFF, cpu.fds.low(32) & 0xFFFF
    head = [cpu.fcw.low(16), status(cpu), full_tags(cpu)]
    if w == 16:
        tail = [
            fip,
            real.choose(((fip.u >> 4) & 0xF000) | fop, fcs),
            fdp,
            real.choose((fdp.u >> 4) & 0xF000, fds),
        ]
        return head + [x.low(16) for x in tail]
    tail = [
        real.choose(fip | 0xFFFF_0000, fip),
        real.choose(((fip.u >> 4) & 0x0FFF_F000) | fop, fcs | (fop << 16)),
        real.choose(fdp | 0xFFFF_0000, fdp),
        real.choose((fdp.u >> 4) & 0x0FFF_F000, fds | 0xFFFF_0000),
    ]
    return [x.zext(32) | 0xFFFF_0000 for x in head] + tail


def load_environment(cpu: Cpu, words: list[Value]) -> None:
    """Take over what was stored by `environment`."""
    real = ~protected(cpu)
    control, state, tags, ip, ip_high, dp, dp_high = (x.zext(32) for x in words)
    set_control(cpu, control & 0xFFFF)
    set_status(cpu, state & 0xFFFF, cpu.fcw.low(32))
    set_tags(cpu, tags)
    if cpu.osize == 16:
        cpu.fip = real.choose(ip | ((ip_high & 0xF000) << 4), ip)
        cpu.fdp = real.choose(dp | ((dp_high & 0xF000) << 4), dp)
        opcode = real.choose(ip_high & 0x7FF, cpu.fop.low(32))
    else:
        cpu.fip = real.choose((ip & 0xFFFF) | ((ip_high & 0x0FFF_F000) << 4), ip)
        cpu.fdp = real.choose((dp & 0xFFFF) | ((dp_high & 0x0FFF_F000) << 4), dp)
        opcode = real.choose(ip_high, ip_high.u >> 16) & 0x7FF
    cpu.fop = opcode
    cpu.fcs = real.choose(0, ip_high & 0xFFFF)
    cpu.fds = real.choose(0, dp_high & 0xFFFF)


def environment_parts(cpu: Cpu, m: Memory) -> list[Memory]:
    """The environment's words in memory."""
    w = 16 if cpu.osize == 16 else 32
    return [part(cpu, m, i * w // 8, w) for i in range(7)]


def register_parts(cpu: Cpu, m: Memory) -> list[Memory]:
    """ST(0) to ST(7) behind the environment, ten bytes each."""
    start = 14 if cpu.osize == 16 else 28
    return [part(cpu, m, start + 10 * i, 80) for i in range(8)]


def writable(parts: list[Memory]) -> None:
    """Fault before anything is written."""
    for p in parts:
        p.writable()


@op("D9/6 M", x87=True, osize=True, modifies=True)
def fnstenv(cpu: Cpu, m: Any) -> None:
    """Stores, then masks all exceptions."""
    parts = environment_parts(cpu, m)
    writable(parts)
    for p, v in zip(parts, environment(cpu), strict=True):
        p.set(v)
    cpu.fcw = cpu.fcw | 0x3F
    cpu.fsw, cpu.ignne = cpu.fsw & ~(ES | B), 0


@waiting("D9/4 M", osize=True)
def fldenv(cpu: Cpu, m: Any) -> None:
    load_environment(cpu, [p.read() for p in environment_parts(cpu, m)])


@op("DD/6 M", x87=True, osize=True, modifies=True)
def fnsave(cpu: Cpu, m: Any) -> None:
    """Stores the whole state, then initializes it."""
    parts = environment_parts(cpu, m) + register_parts(cpu, m)
    writable(parts)
    registers = [cpu.get_at("st", (cpu.top + i) & 7, 80) for i in range(8)]
    for p, v in zip(parts, environment(cpu) + registers, strict=True):
        p.set(v)
    initialize(cpu)


@waiting("DD/4 M", osize=True)
def frstor(cpu: Cpu, m: Any) -> None:
    words = [p.read() for p in environment_parts(cpu, m)]
    registers = [p.read() for p in register_parts(cpu, m)]
    load_environment(cpu, words)
    top = cpu.top
    for i, v in enumerate(registers):
        cpu.put_at("st", (top + i) & 7, v)


# --- FXSAVE and the first part of what XSAVE writes: 512 bytes, the x87 in the first 160, xmm registers behind them
def aligned(cpu: Cpu, m: Memory, boundary: int) -> None:
    """#GP(0) unless the area's linear address is a multiple of the boundary."""
    linear = m.address.zext(64) + cpu.get(("seg_base", "seg", 64)) if cpu.override else m.address
    with when((linear & (boundary - 1)) != 0):
        raise_(GP, 0)


def legacy_head(cpu: Cpu) -> list[Value]:
    """FCW FSW FTW FOP FIP, FDP: two words of 64 bits and what stands before MXCSR (SDM vol. 1, table 10-2)."""
    tags = (~cpu.ftw & 0xFF) << 32
    first = cpu.fcw | (status(cpu).zext(64) << 16) | tags | ((cpu.fop & 0x7FF) << 48)
    if cpu.osize == 64:
        return [first, cpu.fip, cpu.fdp]
    return [first, (cpu.fip & 0xFFFF_FFFF) | ((cpu.fcs & 0xFFFF) << 32), (cpu.fdp & 0xFFFF_FFFF) | ((cpu.fds & 0xFFFF) << 32)]


def load_head(cpu: Cpu, first: Value, ip: Value, dp: Value) -> None:
    """Take over what `legacy_head` made."""
    set_control(cpu, first.low(16))
    set_status(cpu, first.bits(31, 16), cpu.fcw)
    cpu.ftw = ~(first.u >> 32) & 0xFF
    cpu.fop = (first.u >> 48) & 0x7FF
    if cpu.osize == 64:
        cpu.fip, cpu.fdp = ip, dp
    else:
        cpu.fip, cpu.fcs = ip & 0xFFFF_FFFF, (ip.u >> 32) & 0xFFFF
        cpu.fdp, cpu.fds = dp & 0xFFFF_FFFF, (dp.u >> 32) & 0xFFFF


class Area:
    """The legacy area in memory: three words, MXCSR and its mask, ST(0) to ST(7), xmm registers."""

    def __init__(self, cpu: Cpu, m: Memory) -> None:
        self.cpu = cpu
        self.head = [part(cpu, m, 8 * i, 64) for i in range(3)]
        self.mxcsr = part(cpu, m, 24, 64)
        self.st = [part(cpu, m, 32 + 16 * i, 128) for i in range(8)]
        self.xmm = [part(cpu, m, 160 + 16 * i, 128) for i in range(16 if cpu.code == 64 else 8)]

    def every(self) -> list[Memory]:
        """All of it."""
        return [*self.head, self.mxcsr, *self.st, *self.xmm]

    def x87(self) -> list[tuple[Memory, Value]]:
        """The x87's part, and what belongs there."""
        cpu = self.cpu
        registers = [cpu.get_at("st", (cpu.top + i) & 7, 80).zext(128) for i in range(8)]
        return [*zip(self.head, legacy_head(cpu), strict=True), *zip(self.st, registers, strict=True)]

    def sse(self) -> list[tuple[Memory, Value]]:
        """MXCSR, the mask of its bits and the vector registers."""
        control: Value = (mxcsr.current(self.cpu) & 0xFFFF_FFFF) | mxcsr.MASK << 32
        return [(self.mxcsr, control), *((p, self.cpu.get(("x", i, 128))) for i, p in enumerate(self.xmm))]

    def load_mxcsr(self) -> Value:
        """MXCSR; #GP(0) for a bit that does not exist."""
        v = self.mxcsr.read() & 0xFFFF_FFFF
        with when((v & ~mxcsr.MASK) != 0):
            raise_(GP, 0)
        return v


@op("NP 0F AE/0 M", osize=True, modifies=True, feature="fxsr", unaligned=True)
def fxsave(cpu: Cpu, m: Any) -> None:
    device_not_available(cpu)
    aligned(cpu, m, 16)
    area = Area(cpu, m)
    writable(area.every())
    for p, v in area.x87() + area.sse():
        p.set(v)


@op("NP 0F AE/1 M", osize=True, feature="fxsr", unaligned=True)
def fxrstor(cpu: Cpu, m: Any) -> None:
    device_not_available(cpu)
    aligned(cpu, m, 16)
    area = Area(cpu, m)
    loaded = area.load_mxcsr()
    head, st, xmm = ([p.read() for p in parts] for parts in (area.head, area.st, area.xmm))
    load_head(cpu, *head)
    mxcsr.load(cpu, loaded)
    top = cpu.top
    for i, v in enumerate(st):
        cpu.put_at("st", (top + i) & 7, v.low(80))
    for i, v in enumerate(xmm):
        cpu.put(("x", i, 128), v)
