"""Delivery of interrupts and exceptions, every case (SDM vol. 3, chapter 6; real mode 20.1.4, virtual-8086 mode 20.3)."""

from __future__ import annotations

from exuvia.dsl.state import ISA_AT
from exuvia.isa.x86.concrete import Fault, Processor, canonical, rare
from exuvia.isa.x86.rare.descriptors import Descriptor, check_stack, fetch, is_64, set_code, set_stack
from exuvia.isa.x86.rare.tasks import switch_task
from exuvia.isa.x86.state import (
    AC,
    ATTRIBUTE_DB,
    CR0_PE,
    CS,
    DB,
    DF,
    DS,
    ES,
    EXCEPTION,
    FS,
    GP,
    GS,
    IF,
    NP,
    NT,
    PF,
    RF,
    SOFTWARE,
    SS,
    SS_FAULT,
    TF,
    TR,
    TS,
    VM,
    layout,
)  # fmt: skip

CONTRIBUTORY = {0, TS, NP, SS_FAULT, GP}


@rare
def deliver(cpu: Processor) -> None:
    """The event in the words `vector`, `event`, `error`, `event_has_error`, `event_ip`; a fault on the way joins it (table 6-5)."""
    vector, kind, ip = cpu.vector, cpu.event, cpu.event_ip
    error = cpu.error if cpu.event_has_error else None
    restart = cpu.event_start if kind == SOFTWARE else ip
    saved = bytes(cpu.state[ISA_AT : layout.size]), bytes(cpu.state[:136])
    while True:
        try:
            once(cpu, vector, kind, error, ip)
        except Fault as second:
            cpu.state[ISA_AT : layout.size], cpu.state[:136] = saved
            cpu.update_mode()
            if second.address is not None:
                cpu.cr2 = second.address
                saved = bytes(cpu.state[ISA_AT : layout.size]), saved[1]
            first = vector if kind == EXCEPTION else -1
            if first == DF and (second.vector in CONTRIBUTORY or second.vector == PF):
                cpu.shutdown()
                return
            again = second.vector in CONTRIBUTORY and (first in CONTRIBUTORY or first == PF) or second.vector == PF and first == PF
            vector, error = (DF, 0) if again else (second.vector, second.error)
            kind, ip = EXCEPTION, restart
            if not cpu.cr0 & CR0_PE:
                error = None
        else:
            return


def once(cpu: Processor, vector: int, kind: int, error: int | None, ip: int) -> None:
    """One attempt."""
    flags = cpu.flags
    if kind == EXCEPTION and vector != DB:
        flags |= RF
    if not cpu.cr0 & CR0_PE:
        real(cpu, vector, flags, ip)
    elif cpu.long:
        long(cpu, vector, kind, error, ip, flags)
    else:
        protected(cpu, vector, kind, error, ip, flags)
    if kind == EXCEPTION and vector == DB:
        cpu.dr7 &= ~(1 << 13)


def real(cpu: Processor, vector: int, flags: int, ip: int) -> None:
    """Through the interrupt vector table; there are no error codes."""
    if vector * 4 + 3 > cpu.idt_limit:
        raise Fault(GP)
    entry = cpu.read(cpu.idt_base + vector * 4, 4, True)
    for v in flags, cpu.seg_selector[CS], ip:
        cpu.push(v & 0xFFFF, 2)
    cpu.set_flags(0, TF | IF | AC | RF)
    cpu.set_real_segment(CS, entry >> 16)
    cpu.pc = cpu.seg_base[CS] + (entry & 0xFFFF)
    cpu.update_mode()


def target(cpu: Processor, selector: int, external: int) -> Descriptor:
    """The handler's code segment."""
    d = fetch(cpu, selector, GP, external)
    if not d.code or d.dpl > cpu.cpl or cpu.eflags & VM and (d.conforming or d.dpl):
        raise Fault(GP, selector & 0xFFFC | external)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC | external)
    return d


def enter_handler(cpu: Processor, d: Descriptor, level: int, gate: int, offset: int) -> None:
    """CS, flags and IP once all is pushed; an interrupt gate (even type) clears IF."""
    set_code(cpu, d, level)
    cpu.set_flags(0, TF | NT | RF | VM | (0 if gate & 1 else IF))
    cpu.pc = offset if is_64(d) and cpu.long else d.base + offset & 0xFFFFFFFF
    cpu.update_mode()


def long(cpu: Processor, vector: int, kind: int, error: int | None, ip: int, flags: int) -> None:
    """IA-32e mode (6.14)."""
    external = int(kind != SOFTWARE)
    code = vector * 8 + 2 + external
    if vector * 16 + 15 > cpu.idt_limit:
        raise Fault(GP, code)
    at = cpu.idt_base + vector * 16
    gate, high = cpu.read(at, 8, True), cpu.read(at + 8, 8, True)
    if gate >> 40 & 0x1E != 0xE or high >> 40 & 0x1F or kind == SOFTWARE and gate >> 45 & 3 < cpu.cpl:
        raise Fault(GP, code)
    if not gate >> 47 & 1:
        raise Fault(NP, code)
    d = target(cpu, gate >> 16 & 0xFFFF, external)
    if d.attributes & 0x6000 != 0x2000:
        raise Fault(GP, d.selector & 0xFFFC | external)
    level = cpu.cpl if d.conforming else d.dpl
    ist, sp, old = gate >> 32 & 7, cpu.gpr[4], cpu.gpr[4]
    if ist or level != cpu.cpl:
        place = 28 + 8 * ist if ist else 4 + 8 * level
        if place + 7 > cpu.seg_limit[TR]:
            raise Fault(TS, cpu.seg_selector[TR] & 0xFFFC | external)
        sp = cpu.read(cpu.seg_base[TR] + place, 8, True)
    if not canonical(sp):
        raise Fault(SS_FAULT, external)
    sp &= ~15
    for v in [cpu.seg_selector[SS], old, flags, cpu.seg_selector[CS], ip] + ([] if error is None else [error]):
        sp -= 8
        cpu.write(sp & 0xFFFFFFFF_FFFFFFFF, 8, v, level < 3)
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF0000 | (high & 0xFFFFFFFF) << 32
    if not canonical(offset):
        raise Fault(GP, external)
    if level != cpu.cpl:
        cpu.null_segment(SS, level)
    cpu.gpr[4] = sp
    enter_handler(cpu, d, level, gate >> 40, offset)


class NewStack:
    """A stack that is being filled before it becomes the processor's."""

    def __init__(self, cpu: Processor, d: Descriptor, sp: int, level: int, external: int = 0) -> None:
        self.cpu, self.d, self.sp, self.level, self.external = cpu, d, sp, level, external
        self.mask = 0xFFFFFFFF if d.attributes & ATTRIBUTE_DB else 0xFFFF

    def push(self, value: int, size: int) -> None:
        """Push, #SS with the new selector where the limit forbids it."""
        self.sp = self.sp & ~self.mask | self.sp - size & self.mask
        offset = self.sp & self.mask
        down = self.d.attributes & 4
        low, high = (self.d.limit + 1, self.mask) if down else (0, self.d.limit)
        if offset < low or offset + size - 1 > high:
            raise Fault(SS_FAULT, self.d.selector & 0xFFFC | self.external)
        self.cpu.write(self.d.base + offset & 0xFFFFFFFF, size, value & (1 << 8 * size) - 1, self.level < 3)

    def install(self) -> None:
        """Make it the processor's."""
        set_stack(self.cpu, self.d)
        self.cpu.gpr[4] = self.sp & 0xFFFFFFFF


def inner_stack(cpu: Processor, level: int, external: int = 0) -> NewStack:
    """The stack that the TSS names for a level (7.2.1)."""
    base, limit = cpu.seg_base[TR], cpu.seg_limit[TR]
    wide = cpu.seg_attributes[TR] & 8
    size = 4 if wide else 2
    at = 4 + 8 * level if wide else 2 + 4 * level
    if at + size + 1 > limit:
        raise Fault(TS, cpu.seg_selector[TR] & 0xFFFC | external)
    sp, selector = cpu.read(base + at, size, True), cpu.read(base + at + size, 2, True)
    return NewStack(cpu, check_stack(cpu, selector, level, TS, external), sp, level, external)


def protected(cpu: Processor, vector: int, kind: int, error: int | None, ip: int, flags: int) -> None:
    """Task, interrupt and trap gates (6.12), from virtual-8086 mode too."""
    external = int(kind != SOFTWARE)
    code = vector * 8 + 2 + external
    if vector * 8 + 7 > cpu.idt_limit:
        raise Fault(GP, code)
    gate = cpu.read(cpu.idt_base + vector * 8, 8, True)
    type_ = gate >> 40 & 0x1F
    if type_ not in (5, 6, 7, 14, 15) or kind == SOFTWARE and gate >> 45 & 3 < cpu.cpl:
        raise Fault(GP, code)
    if not gate >> 47 & 1:
        raise Fault(NP, code)
    if type_ == 5:
        cpu.pc = ip if cpu.long64 else ip + cpu.seg_base[CS] & 0xFFFFFFFF
        switch_task(cpu, gate >> 16 & 0xFFFF, "call", external)
        if error is not None:
            cpu.push(error, 4 if cpu.seg_attributes[TR] & 8 else 2)
        return
    d = target(cpu, gate >> 16 & 0xFFFF, external)
    wide = type_ >= 14
    size = 4 if wide else 2
    offset = gate & 0xFFFF | (gate >> 32 & 0xFFFF0000 if wide else 0)
    level = cpu.cpl if d.conforming else d.dpl
    vm = bool(cpu.eflags & VM)
    frame = [flags, cpu.seg_selector[CS], ip] + ([] if error is None else [error])
    if offset > d.limit:
        raise Fault(GP, external)
    if level != cpu.cpl:
        stack = inner_stack(cpu, level, external)
        outside = [cpu.seg_selector[SS], cpu.gpr[4]]
        if vm:
            outside = [cpu.seg_selector[i] for i in (GS, FS, DS, ES)] + outside
        for v in outside + frame:
            stack.push(v, size)
        if vm:
            for i in GS, FS, DS, ES:
                cpu.null_segment(i)
        cpu.eflags &= ~VM
        stack.install()
    else:
        for v in frame:
            cpu.push(v, size)
    enter_handler(cpu, d, level, type_, offset)
