"""Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS (SDM vol. 2; AMD64 manual vol. 2, 6.1)."""

from __future__ import annotations

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, protected, raise_
from exuvia.isa.x86.eflags import flags_image, load_flags, privileged, update_mode, welcome
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.segments import set_segment
from exuvia.isa.x86.state import CS, EFER_LMA, EFER_SCE, GP, GS, IF, RF, SS, SYSTEM_FLAGS, UD, VM

SP, DX, CX, R11 = 32, 16, 8, 88
CODE64, CODE32, DATA = 0xA09B, 0xC09B, 0xC093  # attributes of flat segments of privilege level 0
USER = 3 << 5


def flat(cpu: Cpu, slot: int, selector: Value, attributes: Value | int) -> None:
    """A segment of base 0 and limit 4 GiB, whatever the descriptor table says."""
    set_segment(cpu, slot, selector & 0xFFFF, lift(0, 64), lift(0xFFFFFFFF, 64), lift(attributes, 64))


def system_calls_enabled(cpu: Cpu) -> None:
    """#UD without EFER.SCE."""
    with when((cpu.efer & EFER_SCE) == 0):
        raise_(UD)


@op("0F 05", ends=True, feature="syscall")
def syscall(cpu: Cpu) -> None:
    system_calls_enabled(cpu)
    if cpu.code != 64:
        with when(~protected(cpu)):
            raise_(UD)
    selector = (cpu.star.u >> 32) & 0xFFFC
    long = lift(1, 1) if cpu.code == 64 else (cpu.efer & EFER_LMA) != 0
    image = flags_image(cpu) & ~RF
    back = cpu.next_pc
    cpu.set_reg(CX, back)
    # legacy mode (AMD64 manual vol. 3): EIP from STAR, R11 and FMASK play no part
    masked = long.choose(image & ~cpu.fmask, image & ~(IF | VM))
    if cpu.code == 64:
        cpu.set_reg(R11, image)
        target = cpu.lstar
    else:
        cpu.set_reg(R11, long.choose(image, cpu.get(("r", R11, 64))))
        target = long.choose(cpu.cstar, cpu.star & 0xFFFFFFFF)
    load_flags(cpu, masked, SYSTEM_FLAGS)
    flat(cpu, CS, selector, long.choose(lift(CODE64, 64), lift(CODE32, 64)))
    flat(cpu, SS, selector + 8, DATA)
    cpu.cpl = 0
    cpu.put(("pc", 0, 64), target)
    update_mode(cpu)


@op("0F 07", osize=True, ends=True, feature="syscall")
def sysret(cpu: Cpu) -> None:
    system_calls_enabled(cpu)
    with when((cpu.cpl != 0) | ~protected(cpu)):
        raise_(GP, 0)
    selector = (cpu.star.u >> 48) & 0xFFFF
    target = cpu.get(("r", CX, 64))
    if cpu.osize == 64:
        with when(target.low(48).sext(64) != target):
            raise_(GP, 0)
        flat(cpu, CS, selector + 16 | 3, CODE64 | USER)
    else:
        target = target & 0xFFFFFFFF
        flat(cpu, CS, selector | 3, CODE32 | USER)
    flat(cpu, SS, selector + 8 | 3, DATA | USER)
    if cpu.code == 64:
        load_flags(cpu, cpu.get(("r", R11, 64)), SYSTEM_FLAGS & ~(RF | VM))
    else:
        cpu.eflags = cpu.eflags | IF
        welcome(cpu)
    cpu.cpl = 3
    cpu.put(("pc", 0, 64), target)
    update_mode(cpu)


@op("0F 34", ends=True, feature="sep")
def sysenter(cpu: Cpu) -> None:
    with when(~protected(cpu) | ((cpu.sysenter_cs & 0xFFFC) == 0)):
        raise_(GP, 0)
    long = (cpu.efer & EFER_LMA) != 0
    selector = cpu.sysenter_cs & 0xFFFC
    cpu.eflags = cpu.eflags & ~(VM | IF | RF)
    flat(cpu, CS, selector, long.choose(lift(CODE64, 64), lift(CODE32, 64)))
    flat(cpu, SS, selector + 8, DATA)
    cpu.put(("r", SP, 64), long.choose(cpu.sysenter_esp, cpu.sysenter_esp & 0xFFFFFFFF))
    cpu.cpl = 0
    cpu.put(("pc", 0, 64), long.choose(cpu.sysenter_eip, cpu.sysenter_eip & 0xFFFFFFFF))
    update_mode(cpu)


@op("0F 35", osize=True, ends=True, feature="sep")
def sysexit(cpu: Cpu) -> None:
    with when(~protected(cpu) | ((cpu.sysenter_cs & 0xFFFC) == 0) | (cpu.cpl != 0)):
        raise_(GP, 0)
    ip, sp = cpu.get(("r", DX, 64)), cpu.get(("r", CX, 64))
    if cpu.osize == 64:
        with when((ip.low(48).sext(64) != ip) | (sp.low(48).sext(64) != sp)):
            raise_(GP, 0)
        flat(cpu, CS, cpu.sysenter_cs + 32 | 3, CODE64 | USER)
        flat(cpu, SS, cpu.sysenter_cs + 40 | 3, DATA | USER)
    else:
        ip, sp = ip & 0xFFFFFFFF, sp & 0xFFFFFFFF
        flat(cpu, CS, cpu.sysenter_cs + 16 | 3, CODE32 | USER)
        flat(cpu, SS, cpu.sysenter_cs + 24 | 3, DATA | USER)
    cpu.put(("r", SP, 64), sp)
    cpu.cpl = 3
    cpu.put(("pc", 0, 64), ip)
    update_mode(cpu)


@op("0F 01 =F8", only=64)
def swapgs(cpu: Cpu) -> None:
    privileged(cpu)
    old = cpu.get(("seg_base", GS, 64))
    new = cpu.kernel_gs_base
    cpu.put(("seg_base", GS, 64), new)
    cpu.kernel_gs_base = old
