"""Far JMP and CALL of protected and IA-32e mode: code segments, call gates, task gates, TSSs (SDM vol. 3, 5.8, 7.3)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, canonical, rare
from exuvia.isa.x86.rare.delivery import inner_stack
from exuvia.isa.x86.rare.descriptors import Descriptor, check_code_size, fetch, is_64, set_code, wide_base
from exuvia.isa.x86.rare.tasks import switch_task
from exuvia.isa.x86.state import ATTRIBUTE_S, CS, GP, NP, SS, SS_FAULT, TR, TS


@rare
def far_jump(cpu: Processor, selector: int, ip: int, width: int) -> None:
    """JMP selector:ip."""
    transfer(cpu, selector, ip, width // 8, False)


@rare
def far_call(cpu: Processor, selector: int, ip: int, width: int) -> None:
    """CALL selector:ip."""
    transfer(cpu, selector, ip, width // 8, True)


def transfer(cpu: Processor, selector: int, ip: int, size: int, call: bool) -> None:
    """By the kind of descriptor."""
    d = fetch(cpu, selector)
    if d.attributes & ATTRIBUTE_S:
        to_segment(cpu, d, ip, size, call)
    elif d.kind == 12 or d.kind == 4 and not cpu.long:
        through_gate(cpu, d, call)
    elif d.kind in (1, 9) and not cpu.long:
        check_gate(cpu, d)
        switch_task(cpu, selector, "call" if call else "jump", 0)
    elif d.kind == 5 and not cpu.long:
        check_gate(cpu, d)
        switch_task(cpu, cpu.read(d.where + 2, 2, True), "call" if call else "jump", 0)
    else:
        raise Fault(GP, selector & 0xFFFC)


def check_gate(cpu: Processor, d: Descriptor) -> None:
    """A gate or TSS must be at least as open as CPL and RPL, and present."""
    if d.dpl < max(cpu.cpl, d.selector & 3):
        raise Fault(GP, d.selector & 0xFFFC)
    if not d.present:
        raise Fault(NP, d.selector & 0xFFFC)


def check_target(cpu: Processor, d: Descriptor, ip: int) -> None:
    """The IP within the new segment, or canonical."""
    if not canonical(ip) if cpu.long and is_64(d) else ip > d.limit:
        raise Fault(GP, 0)


def arrive(cpu: Processor, d: Descriptor, level: int, ip: int) -> None:
    """CS, CPL and IP."""
    set_code(cpu, d, level)
    cpu.pc = ip if cpu.long and is_64(d) else d.base + ip & 0xFFFFFFFF
    cpu.update_mode()


def to_segment(cpu: Processor, d: Descriptor, ip: int, size: int, call: bool) -> None:
    """Directly to a code segment of the same privilege, or a conforming one."""
    rpl = d.selector & 3
    if not d.code or (d.dpl > cpu.cpl if d.conforming else rpl > cpu.cpl or d.dpl != cpu.cpl):
        raise Fault(GP, d.selector & 0xFFFC)
    if not d.present:
        raise Fault(NP, d.selector & 0xFFFC)
    check_code_size(cpu, d)
    check_target(cpu, d, ip)
    if call:
        back = cpu.offset(cpu.pc)
        cpu.push(cpu.seg_selector[CS], size)
        cpu.push(back, size)
    arrive(cpu, d, cpu.cpl, ip)


def through_gate(cpu: Processor, gate: Descriptor, call: bool) -> None:
    """A call gate: perhaps to an inner level, with a new stack and copied parameters (5.8.4)."""
    check_gate(cpu, gate)
    raw = cpu.read(gate.where, 8, True)
    selector, ip = raw >> 16 & 0xFFFF, raw & 0xFFFF | (raw >> 32 & 0xFFFF0000 if gate.kind == 12 else 0)
    if cpu.long:
        wide_base(cpu, gate)
        ip |= cpu.read(gate.where + 8, 4, True) << 32
    size = 8 if cpu.long else 4 if gate.kind == 12 else 2
    d = fetch(cpu, selector)
    if not d.code or d.dpl > cpu.cpl or not call and not d.conforming and d.dpl != cpu.cpl:
        raise Fault(GP, selector & 0xFFFC)
    if cpu.long and d.attributes & 0x6000 != 0x2000:
        raise Fault(GP, selector & 0xFFFC)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC)
    back, old_code = cpu.offset(cpu.pc), cpu.seg_selector[CS]
    if call and not d.conforming and d.dpl < cpu.cpl:
        if cpu.long:
            inner_long(cpu, d, ip, back)
            return
        count = raw >> 32 & 0x1F
        parameters = [cpu.stack_at(i * size, size) for i in range(count)]
        stack = inner_stack(cpu, d.dpl)
        for v in [cpu.seg_selector[SS], cpu.gpr[4], *reversed(parameters), old_code, back]:
            stack.push(v, size)
        check_target(cpu, d, ip)
        stack.install()
        arrive(cpu, d, d.dpl, ip)
        return
    check_target(cpu, d, ip)
    if call:
        # in IA-32e mode the pushes are 64 bits wide though the caller may be compatibility code
        cpu.push(old_code, size)
        cpu.push(back, size)
    arrive(cpu, d, cpu.cpl, ip)


def inner_long(cpu: Processor, d: Descriptor, ip: int, back: int) -> None:
    """To an inner level in IA-32e mode: no parameters, a null stack selector (5.8.5.1)."""
    level = d.dpl
    if 11 + 8 * level > cpu.seg_limit[TR]:
        raise Fault(TS, cpu.seg_selector[TR] & 0xFFFC)
    sp = cpu.read(cpu.seg_base[TR] + 4 + 8 * level, 8, True)
    if not canonical(sp):
        raise Fault(SS_FAULT, 0)
    for v in cpu.seg_selector[SS], cpu.gpr[4], cpu.seg_selector[CS], back:
        sp = sp - 8 & 0xFFFFFFFF_FFFFFFFF
        cpu.write(sp, 8, v, level < 3)
    check_target(cpu, d, ip)
    cpu.null_segment(SS, level)
    cpu.gpr[4] = sp
    arrive(cpu, d, level, ip)
