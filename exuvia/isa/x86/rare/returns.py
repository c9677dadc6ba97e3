"""IRET and far RET, every case (SDM vol. 2, IRET, RET; vol. 3, 5.8.6, 6.14.3, 20.2.1)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, canonical, rare
from exuvia.isa.x86.rare.descriptors import Descriptor, check_code_size, check_stack, fetch, is_64, set_code, set_stack
from exuvia.isa.x86.rare.tasks import return_from_task
from exuvia.isa.x86.state import (
    AC,
    ATTRIBUTE_DB,
    ATTRIBUTE_P,
    CR0_PE,
    CS,
    DS,
    ES,
    FS,
    GP,
    GS,
    ID,
    IF,
    IOPL,
    NP,
    NT,
    RF,
    SS,
    TF,
    VIF,
    VIP,
    VM,
)  # fmt: skip

STATUS = 0xCD5


def returned_flags(cpu: Processor, image: int, size: int, level: int) -> None:
    """What an IRET at privilege `level` takes from the image."""
    mask = STATUS | TF | NT
    if size > 2:
        mask |= RF | AC | ID
    if level <= cpu.eflags >> 12 & 3:
        mask |= IF
    if level == 0:
        mask |= IOPL | (VIF | VIP if size > 2 else 0)
    cpu.set_flags(image, mask)


def code_for_return(cpu: Processor, selector: int) -> Descriptor:
    """The code segment that a far return or IRET names."""
    d = fetch(cpu, selector)
    rpl = selector & 3
    if not d.code or rpl < cpu.cpl or (d.dpl > rpl if d.conforming else d.dpl != rpl):
        raise Fault(GP, selector & 0xFFFC)
    check_code_size(cpu, d)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC)
    return d


def check_ip(cpu: Processor, d: Descriptor, ip: int) -> None:
    """Within the new segment, or canonical."""
    if not canonical(ip) if cpu.long and is_64(d) else ip > d.limit:
        raise Fault(GP, 0)


def outer_stack(cpu: Processor, selector: int, level: int, code: Descriptor) -> Descriptor | None:
    """The stack to return to; None is the null selector that 64-bit code below level 3 may have."""
    if not selector & 0xFFFC:
        if not (cpu.long and is_64(code)) or level == 3 or selector & 3 != level:
            raise Fault(GP, 0)
        return None
    return check_stack(cpu, selector, level, GP)


def drop_privilege(cpu: Processor, level: int) -> None:
    """Data segments that the outer level may not use become null."""
    for i in ES, DS, FS, GS:
        a = cpu.seg_attributes[i]
        if a & ATTRIBUTE_P and a & 0xC != 0xC and a >> 5 & 3 < level:
            cpu.null_segment(i)


def go(cpu: Processor, d: Descriptor, level: int, ip: int) -> None:
    """CS, CPL and IP."""
    set_code(cpu, d, level)
    cpu.pc = ip if cpu.long and is_64(d) else d.base + ip & 0xFFFFFFFF
    cpu.update_mode()


def install_stack(cpu: Processor, d: Descriptor | None, selector: int, sp: int, wide: bool) -> None:
    """SS:rSP; with a 16-bit stack the upper part of ESP stays."""
    if d is None:
        cpu.null_segment(SS, selector)
    else:
        set_stack(cpu, d)
    if wide:
        cpu.gpr[4] = sp
    elif d is not None and d.attributes & ATTRIBUTE_DB:
        cpu.gpr[4] = sp & 0xFFFFFFFF
    else:
        cpu.gpr[4] = cpu.gpr[4] & ~0xFFFF | sp & 0xFFFF


@rare
def iret(cpu: Processor, width: int) -> None:
    """Interrupt return; `width` is the operand size in bits."""
    size = width // 8
    if not cpu.cr0 & CR0_PE or cpu.eflags & VM:
        return real(cpu, size)
    if cpu.eflags & NT:
        if cpu.long:
            raise Fault(GP, 0)
        return return_from_task(cpu)
    ip, selector, image = (cpu.stack_at(i * size, size) for i in range(3))
    selector &= 0xFFFF
    if image & VM and cpu.cpl == 0 and size == 4 and not cpu.long:
        return to_virtual8086(cpu, ip, selector, image)
    d = code_for_return(cpu, selector)
    level, old = selector & 3, cpu.cpl
    if level == old and not cpu.long64:
        check_ip(cpu, d, ip)
        cpu.drop(3 * size)
        returned_flags(cpu, image, size, old)
        return go(cpu, d, level, ip)
    sp, stack = (cpu.stack_at(i * size, size) for i in (3, 4))
    stack &= 0xFFFF
    s = outer_stack(cpu, stack, level, d)
    check_ip(cpu, d, ip)
    returned_flags(cpu, image, size, old)
    install_stack(cpu, s, stack, sp, cpu.long and is_64(d))
    if level != old:
        drop_privilege(cpu, level)
    return go(cpu, d, level, ip)


@rare
def iret_from_nmi(cpu: Processor, width: int) -> None:
    """IRET while NMIs are blocked: they no longer are, also where it faults (SDM vol. 3, 6.7.1)."""
    cpu.unblock_nmi()
    cpu.perform("iret", (width,), cpu.here)


def real(cpu: Processor, size: int) -> None:
    """Real mode; virtual-8086 mode needs IOPL 3 and leaves IOPL alone."""
    vm = cpu.eflags & VM
    if vm and cpu.eflags & IOPL != IOPL:
        raise Fault(GP, 0)
    ip, selector, image = (cpu.stack_at(i * size, size) for i in range(3))
    if ip > cpu.seg_limit[CS]:
        raise Fault(GP, 0)
    cpu.drop(3 * size)
    mask = STATUS | TF | IF | NT | (0 if vm else IOPL) | (RF | AC | ID if size > 2 else 0)
    cpu.set_flags(image, mask)
    cpu.set_real_segment(CS, selector & 0xFFFF)
    cpu.pc = cpu.seg_base[CS] + ip & 0xFFFFFFFF
    cpu.update_mode()


def to_virtual8086(cpu: Processor, ip: int, selector: int, image: int) -> None:
    """Nine words on the stack: EIP CS EFLAGS ESP SS ES DS FS GS."""
    sp, *selectors = (cpu.stack_at(i * 4, 4) for i in range(3, 9))
    if ip > 0xFFFF:
        raise Fault(GP, 0)
    cpu.set_flags(image, STATUS | TF | IF | IOPL | NT | RF | VM | AC | VIF | VIP | ID)
    cpu.cpl = 3
    for i, s in zip((SS, ES, DS, FS, GS), selectors, strict=True):
        cpu.set_real_segment(i, s & 0xFFFF)
    cpu.set_real_segment(CS, selector)
    cpu.gpr[4] = sp
    cpu.pc = cpu.seg_base[CS] + ip
    cpu.update_mode()


@rare
def far_return(cpu: Processor, width: int, more: int) -> None:
    """RETF of protected mode, with `more` bytes of parameters to drop on both stacks."""
    size = width // 8
    ip, selector = cpu.stack_at(0, size), cpu.stack_at(size, size) & 0xFFFF
    d = code_for_return(cpu, selector)
    level, old = selector & 3, cpu.cpl
    check_ip(cpu, d, ip)
    if level == old:
        cpu.drop(2 * size + more)
        return go(cpu, d, level, ip)
    sp, stack = cpu.stack_at(2 * size + more, size), cpu.stack_at(3 * size + more, size) & 0xFFFF
    s = outer_stack(cpu, stack, level, d)
    install_stack(cpu, s, stack, sp, cpu.long and is_64(d))
    drop_privilege(cpu, level)
    set_code(cpu, d, level)
    cpu.update_mode()
    cpu.drop(more)
    return go(cpu, d, level, ip)
