"""System instructions: control and debug registers, MSRs, CPUID, the time-stamp counter, TLBs (SDM vol. 3, chapter 2; vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.x86.cpu import Cpu, leave, raise_
from exuvia.isa.x86.eflags import privileged
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.segments import user_mode_prevented
from exuvia.isa.x86.state import (
    CR0_MP,
    CR0_PG,
    CR0_TS,
    CR4_DE,
    CR4_FSGSBASE,
    CR4_OSXSAVE,
    CR4_PAE,
    CR4_PCIDE,
    CR4_PGE,
    CR4_TSD,
    EFER_LMA,
    FS,
    GP,
    GS,
    NM,
    UD,
)  # fmt: skip
from exuvia.isa.x86.x87_stack import pending
from exuvia.isa.x86.xsave import in_use

DX, AX, CX = 16, 0, 8
CONTROL = ("cr0", None, "cr2", "cr3", "cr4")


def width(cpu: Cpu) -> int:
    """Control and debug registers move at the mode's full width."""
    return 64 if cpu.code == 64 else 32


@op("0F 20 Rd,Cd", "mov")
def mov_from_control(cpu: Cpu, destination: Any, source: Any) -> None:
    privileged(cpu)
    number = cpu.field("reg")
    with when((number == 1) | ((number.u > 4) & (number != 8))):
        raise_(UD)
    with when(number == 8):
        leave("read_cr8", cpu.field("rm"))
    v = cpu.cr0
    for i in 2, 3, 4:
        v = (number == i).choose(getattr(cpu, CONTROL[i] or ""), v)
    cpu.set_reg("rm", v.low(width(cpu)))


@op("0F 22 Rd,Cd", "mov", ends=True)
def mov_to_control(cpu: Cpu, source: Any, destination: Any) -> None:
    """CR2, CR3 and CR4.PGE here; the rest changes what other things mean and is rare."""
    privileged(cpu)
    number = cpu.field("reg")
    value = cpu.reg("rm", width(cpu)).zext(64)
    with when((number == 1) | ((number.u > 4) & (number != 8))):
        raise_(UD)
    # a kernel drops global translations by turning CR4.PGE off and on
    global_flush = (number == 4) & (((value ^ cpu.cr4) & ~CR4_PGE) == 0) if cpu.code == 64 else lift(0, 1)
    with when(~global_flush & (number != 2) & (number != 3)):
        leave("write_control", number, value)
    with when(global_flush):
        cpu.effect("flush_tlb", 0, lift(1, 64))
        cpu.cr4 = value
    with when(number == 2):
        cpu.cr2 = value
    with when(number == 3):
        pcid = (cpu.cr4 & CR4_PCIDE) != 0
        if cpu.code == 64:  # bit 63 asks to keep translations, which a processor need not (SDM vol. 3, 4.10.4.1)
            value = pcid.choose(value & ~(1 << 63), value)
            with when((value.u >> 40) != 0):
                raise_(GP, 0)
        else:
            unlike = ((cpu.cr0 & CR0_PG) != 0) & ((cpu.cr4 & CR4_PAE) != 0) & ((cpu.efer & EFER_LMA) == 0)
            with when(unlike):
                leave("write_control", number, value)
        cpu.effect("flush_tlb", 0, lift(0, 64))
        cpu.cr3 = value


@op("0F 21 Rd,Dd", "mov")
def mov_from_debug(cpu: Cpu, destination: Any, source: Any) -> None:
    privileged(cpu)
    number = cpu.field("reg")
    with when(((number & ~1) == 4) & ((cpu.cr4 & CR4_DE) != 0) | (number.u > 7)):
        raise_(UD)
    with when((cpu.dr7 & (1 << 13)) != 0):
        leave("general_detect")
    v = cpu.dr0
    for i in 1, 2, 3:
        v = (number == i).choose(getattr(cpu, f"dr{i}"), v)
    v = ((number == 4) | (number == 6)).choose(cpu.dr6, ((number == 5) | (number == 7)).choose(cpu.dr7, v))
    cpu.set_reg("rm", v.low(width(cpu)))


@op("0F 23 Rd,Dd", "mov", ends=True)
def mov_to_debug(cpu: Cpu, source: Any, destination: Any) -> None:
    privileged(cpu)
    number = cpu.field("reg")
    with when(((number & ~1) == 4) & ((cpu.cr4 & CR4_DE) != 0) | (number.u > 7)):
        raise_(UD)
    leave("write_debug", number, cpu.reg("rm", width(cpu)).zext(64))


@op("0F 01/4 Ev", modifies=True)
def smsw(cpu: Cpu, destination: Any) -> None:
    user_mode_prevented(cpu)
    if cpu.mem:
        m = cpu.memory(destination.address, 16, "seg")
        m.will_write = True
        m.set(cpu.cr0.low(16))
    else:
        destination.set(cpu.cr0.low(cpu.osize))


@op("0F 01/6 Ew", ends=True)
def lmsw(cpu: Cpu, source: Any) -> None:
    """Four bits of CR0; PE can be set, not cleared."""
    privileged(cpu)
    value = source.read().zext(64)
    leave("write_control", 0, cpu.cr0 & ~(0xE) | value & 0xF)


@op("F4", ends=True)
def hlt(cpu: Cpu) -> None:
    privileged(cpu)
    leave("halt")


@op("0F A2", ends=True)
def cpuid(cpu: Cpu) -> None:
    leave("cpuid")


# MSRs of which a kernel writes many a second stay native
BASES = {0xC0000100: ("seg_base", FS), 0xC0000101: ("seg_base", GS), 0xC0000102: ("kernel_gs_base", 0)}


@op("0F 30", ends=True, feature="msr")
def wrmsr(cpu: Cpu) -> None:
    privileged(cpu)
    if cpu.code != 64:  # the model may lack them
        leave("wrmsr")
        return
    number = cpu.reg(CX, 32)
    value = cpu.reg(AX, 32).zext(64) | (cpu.reg(DX, 32).zext(64) << 32)
    with when(((number & ~3) != 0xC0000100) | (number == 0xC0000103)):
        leave("wrmsr")
    with when(value.low(48).sext(64) != value):
        raise_(GP, 0)
    for n, (file, slot) in BASES.items():
        with when(number == n):
            cpu.put((file, slot, 64), value)


@op("0F 32", ends=True, feature="msr")
def rdmsr(cpu: Cpu) -> None:
    privileged(cpu)
    leave("rdmsr")


@op("0F 33", ends=True)
def rdpmc(cpu: Cpu) -> None:
    leave("rdpmc")


def timestamp(cpu: Cpu) -> Value:
    """The TSC: the host's counter, or whatever the engine counts with, and an offset."""
    if cpu.row is not None:
        with when(((cpu.cr4 & CR4_TSD) != 0) & (cpu.cpl != 0)):
            raise_(GP, 0)
    return lift((Value(Node("counter", 64)) & cpu.tsc_runs) + cpu.tsc_offset)


def put_pair(cpu: Cpu, v: Value) -> None:
    """EDX:EAX."""
    cpu.set_reg(AX, v.low(32))
    cpu.set_reg(DX, v.high(32))


@op("0F 31", ends=True, feature="tsc")
def rdtsc(cpu: Cpu) -> None:
    put_pair(cpu, timestamp(cpu))


@op("0F 01 =F9", ends=True, feature="rdtscp")
def rdtscp(cpu: Cpu) -> None:
    put_pair(cpu, timestamp(cpu))
    cpu.set_reg(CX, cpu.tsc_aux.low(32))


@op("F3 0F C7/7 Rd", feature="rdpid")
def rdpid(cpu: Cpu, destination: Any) -> None:
    cpu.set_reg("rm", cpu.tsc_aux.low(32).zext(64))


def base_access(digit: int, name: str, slot: int) -> None:
    """RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE."""

    @op(f"F3 0F AE/{digit} Ry", f"{'wr' if digit > 1 else 'rd'}{name}base", only=64, feature="fsgsbase", ends=digit > 1)
    def run(cpu: Cpu, operand: Any) -> None:
        with when((cpu.cr4 & CR4_FSGSBASE) == 0):
            raise_(UD)
        w = 64 if cpu.osize == 64 else 32
        if digit > 1:
            v = cpu.reg("rm", w).zext(64)
            with when(v.low(48).sext(64) != v):
                raise_(GP, 0)
            cpu.put(("seg_base", slot, 64), v)
        else:
            cpu.set_reg("rm", cpu.get(("seg_base", slot, 64)).low(w))


for _digit, (_name, _slot) in enumerate((("fs", FS), ("gs", GS), ("fs", FS), ("gs", GS))):
    base_access(_digit, _name, _slot)


@op("0F 08", ends=True)
def invd(cpu: Cpu) -> None:
    privileged(cpu)


@op("0F 09", ends=True)
def wbinvd(cpu: Cpu) -> None:
    privileged(cpu)


@op("0F 01/7 M", ends=True)
def invlpg(cpu: Cpu, page: Any) -> None:
    privileged(cpu)
    linear = page.address.zext(64)
    if cpu.override or not cpu.flat:
        linear = linear + cpu.get(("seg_base", "seg", 64))
    if cpu.code != 64:
        linear = linear.low(32).zext(64)
    cpu.effect("invalidate_page", 0, linear)


@op("66 0F38 82 Gy,M", ends=True, feature="invpcid")
def invpcid(cpu: Cpu, kind: Any, descriptor: Any) -> None:
    """Translations carry no PCID here: each kind forgets at least what it must."""
    privileged(cpu)
    kind = cpu.reg("reg", width(cpu)).zext(64)
    low = cpu.memory(descriptor.address, 64, "seg").read()
    linear = cpu.memory((descriptor.address + 8).low(cpu.asize), 64, "seg").read()
    with when(kind.u > 3):
        raise_(GP, 0)
    with when((kind.u < 2) & ((low.u >> 12) != 0)):
        raise_(GP, 0)
    with when((kind.u < 2) & ((cpu.cr4 & CR4_PCIDE) == 0) & (low != 0)):
        raise_(GP, 0)
    with when((kind == 0) & (linear.low(48).sext(64) != linear)):
        raise_(GP, 0)
    cpu.effect("flush_tlb", 0, (kind == 2).choose(lift(1, 64), lift(0, 64)))


@op("NP 0F 01 =D0", feature="xsave", ends=True)
def xgetbv(cpu: Cpu) -> None:
    with when((cpu.cr4 & CR4_OSXSAVE) == 0):
        raise_(UD)
    with when(cpu.reg(CX, 32) == 1):
        leave("components_in_use", in_use(cpu) & cpu.xcr0)
    with when(cpu.reg(CX, 32) != 0):
        raise_(GP, 0)
    put_pair(cpu, cpu.xcr0)


@op("NP 0F 01 =D1", feature="xsave", ends=True)
def xsetbv(cpu: Cpu) -> None:
    """Which values there are depends on the model."""
    with when((cpu.cr4 & CR4_OSXSAVE) == 0):
        raise_(UD)
    privileged(cpu)
    value = cpu.reg(AX, 32).zext(64) | (cpu.reg(DX, 32).zext(64) << 32)
    with when(cpu.reg(CX, 32) != 0):
        raise_(GP, 0)
    leave("write_xcr0", value)


@op("9B")
def fwait(cpu: Cpu) -> None:
    """Waits for the x87, and reports what it found: #NM, or a pending exception (SDM vol. 1, 8.7)."""
    with when((cpu.cr0 & (CR0_MP | CR0_TS)) == CR0_MP | CR0_TS):
        raise_(NM)
    pending(cpu)
