"""EFLAGS as one word: PUSHF, POPF, CLI, STI, CLTS, STAC, CLAC, and what tells engines which mode is in force (SDM vol. 1, 3.4.3)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.tick import PENDING
from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.flags import AF, CF, OF, PF, SF, ZF
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.state import (
    AC,
    ATTRIBUTE_DB,
    ATTRIBUTE_L,
    CR0_AM,
    CR0_TS,
    CR4_SMAP,
    CS,
    EFER_LMA,
    GP,
    ID,
    IF,
    INHIBIT_STI,
    IOPL,
    NT,
    RF,
    SS,
    SYSTEM_FLAGS,
    TF,
    UD,
    VM,
)  # fmt: skip

STATUS = 0x8D5
DIRECTION = 1 << 10


def flags_image(cpu: Cpu) -> Value:
    """EFLAGS, 64 bits, with RF and VM as they are."""
    image = cpu.eflags & SYSTEM_FLAGS | 2
    for flag, at in (CF, 0), (PF, 2), (AF, 4), (ZF, 6), (SF, 7), (OF, 11):
        image = image | flag.read().zext(64) << at
    return lift(image | (cpu.df.top.zext(64) << 10))


def load_flags(cpu: Cpu, value: Value, system: Any) -> None:
    """Status flags and DF from a 64-bit image, and those system flags that are in the mask `system` (a number or a value)."""
    cpu.set_flags("six", value.bit(0), value.bit(2), value.bit(4), value.bit(6), value.bit(7), value.bit(11))
    cpu.df = value.bit(10).choose(lift(-1, 64), lift(1, 64))
    mask = lift(system, 64)
    cpu.eflags = cpu.eflags & ~mask | value & mask
    welcome(cpu)


def welcome(cpu: Cpu) -> None:
    """After IF may have been set: an interrupt that waited comes in before the next block."""
    enabled = (cpu.eflags & IF) != 0
    for waits, word in (cpu.intr_high != 0, "interrupt_pending"), (cpu.tick_state == PENDING, ""):
        with when(enabled & waits):
            if word:
                cpu.effect("poke", 0, lift(0, 64), lift(1, 64), attr=word)
            cpu.effect("poke", 0, lift(0, 64), lift(0, 64), attr="deadline")


def privileged(cpu: Cpu) -> None:
    """#GP(0) unless the CPL is 0."""
    with when(cpu.cpl != 0):
        raise_(GP, 0)


def iopl_allows(cpu: Cpu) -> Value:
    """CPL <= IOPL; in virtual-8086 mode the CPL is 3."""
    return lift(cpu.cpl.u <= (cpu.eflags.u >> 12) & 3)


def virtual8086(cpu: Cpu) -> Value:
    """Is EFLAGS.VM set?"""
    return lift(0, 1) if cpu.code == 64 else (cpu.eflags & VM) != 0


def update_tlb(cpu: Cpu) -> None:
    """After a change of CPL, EFLAGS.AC, CR0.AM or CR4.SMAP: the TLB in force."""
    ac = (cpu.eflags & AC) != 0
    user = (ac & ((cpu.cr0 & CR0_AM) != 0)).choose(lift(3, 64), lift(0, 64))
    index = (cpu.cpl == 3).choose(user, (((cpu.cr4 & CR4_SMAP) != 0) & ~ac).choose(lift(2, 64), lift(1, 64)))
    cpu.effect("switch_tlb", 0, index)


def update_mode(cpu: Cpu, ss: Value | None = None) -> None:
    """After a change of CS, SS, CPL, CR0, EFER, EFLAGS.VM or AC: the mode word and the TLB in force. `ss`: SS's attributes."""
    cs = cpu.get(("seg_attributes", CS, 64))
    ss = cpu.get(("seg_attributes", SS, 64)) if ss is None else ss
    long = ((cpu.efer & EFER_LMA) != 0) & ((cs & ATTRIBUTE_L) != 0)
    curved = ((cpu.unflat & 15) != 0).zext(64) << 2
    other = (((cs & ATTRIBUTE_DB) != 0).zext(64) | (((ss & ATTRIBUTE_DB) != 0).zext(64) << 1) | curved) + 1
    cpu.put(("mode", 0, 64), long.choose(lift(0, 64), other))
    update_tlb(cpu)


@op("9C", d64=True, osize=True)
def pushf(cpu: Cpu) -> None:
    with when(virtual8086(cpu) & ~iopl_allows(cpu)):
        raise_(GP, 0)
    cpu.push((flags_image(cpu) & ~(RF | VM)).low(cpu.osize))


@op("9D", d64=True, osize=True, ends=True)
def popf(cpu: Cpu) -> None:
    with when(virtual8086(cpu) & ~iopl_allows(cpu)):
        raise_(GP, 0)
    value = cpu.pop(cpu.osize).zext(64)
    mask = lift(TF | NT | (RF | AC | ID if cpu.osize > 16 else 0), 64)
    mask = mask | iopl_allows(cpu).choose(lift(IF, 64), lift(0, 64)) | (cpu.cpl == 0).choose(lift(IOPL, 64), lift(0, 64))
    load_flags(cpu, value & ~RF, mask)
    update_tlb(cpu)


@op("FA")
def cli(cpu: Cpu) -> None:
    with when(~iopl_allows(cpu)):
        raise_(GP, 0)
    cpu.eflags = cpu.eflags & ~IF


@op("FB", ends=True)
def sti(cpu: Cpu) -> None:
    """The next instruction runs before an interrupt comes in."""
    with when(~iopl_allows(cpu)):
        raise_(GP, 0)
    cpu.eflags = cpu.eflags | IF
    cpu.inhibit, cpu.inhibit_pc = lift(INHIBIT_STI, 64), cpu.linear_next
    welcome(cpu)


@op("0F 06", ends=True)
def clts(cpu: Cpu) -> None:
    privileged(cpu)
    cpu.cr0 = cpu.cr0 & ~CR0_TS


def access_check(name: str, code: str, value: int) -> None:
    """CLAC and STAC: EFLAGS.AC, which suspends SMAP."""

    @op(f"NP 0F 01 ={code}", name, feature="smap", ends=True)
    def run(cpu: Cpu) -> None:
        with when((cpu.cpl != 0) | virtual8086(cpu)):
            raise_(UD)
        cpu.eflags = cpu.eflags & ~AC | value
        update_tlb(cpu)


access_check("clac", "CA", 0)
access_check("stac", "CB", AC)
