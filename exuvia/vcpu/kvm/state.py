"""A processor's state between KVM and the names of `isa.x86.state` (Linux, Documentation/virt/kvm/api.rst, 4.11 to 4.45).

`load` fetches it from KVM, `store` gives it to KVM.
"""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any

from exuvia.isa.x86.concrete import canonical
from exuvia.isa.x86.processor import GPR64, SEGMENT_NAMES
from exuvia.isa.x86.rare import msr
from exuvia.isa.x86.state import (
    ATTRIBUTE_DB,
    ATTRIBUTE_G,
    ATTRIBUTE_P,
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    CS,
    EFER_LMA,
    GS,
    INHIBIT_SS,
    INHIBIT_STI,
    SS,
    VM,
)
from exuvia.support import log
from exuvia.vcpu.kvm import api, irqchip

if TYPE_CHECKING:
    from exuvia.vcpu.kvm.vcpu import KvmVcpu

PARTS = (("type", 0, 15), ("s", 4, 1), ("dpl", 5, 3), ("present", 7, 1), ("avl", 12, 1), ("l", 13, 1), ("db", 14, 1), ("g", 15, 1))
"""Of a segment's attributes: KVM's name, the place, the mask."""
ELSEWHERE = {msr.TSC, msr.APIC_BASE, msr.EFER, *msr.BASES}
"""MSRs that are passed in other ways."""
VALID_NMI_PENDING, VALID_SHADOW = 1, 4
REAL = 0x93
"""Rights of a segment that was loaded in real mode, and of CS there in any case. KVM leaves them as they were in protected mode."""
SHADOWS = 0, INHIBIT_SS, INHIBIT_STI, INHIBIT_STI | INHIBIT_SS
"""What holds interrupts back for one instruction, by KVM's numbers."""
TSC_OFFSET = 0, 0
"""Group and number of the attribute (Linux, Documentation/virt/kvm/devices/vcpu.rst, 4.1)."""
# XSAVE's area (SDM vol. 1, table 10-2 and 13.4)
FOP, FIP, FDP, MXCSR, ST, XMM, HEADER, YMM = 6, 8, 16, 24, 32, 160, 512, 576


def load(cpu: KvmVcpu) -> None:
    """Fetch everything."""
    load_registers(cpu)
    load_floats(cpu)
    load_debug(cpu)
    load_msrs(cpu)
    api.ioctl(cpu.fd, api.GET_VCPU_EVENTS, cpu.events)
    cpu.inhibit, cpu.inhibit_pc = SHADOWS[cpu.events.interrupt_shadow & 3], cpu.pc
    cpu.nmi_blocked = int(bool(cpu.events.nmi_masked))
    cpu.tsc_offset = get_tsc_offset(cpu)
    cpu.update_mode()


def store(cpu: KvmVcpu) -> None:
    """Give everything."""
    store_registers(cpu)
    store_floats(cpu)
    store_debug(cpu)
    store_msrs(cpu)
    set_tsc_offset(cpu, cpu.tsc_offset)
    events = cpu.events
    events.interrupt_shadow, events.nmi_masked = SHADOWS.index(cpu.held), cpu.nmi_blocked
    events.flags = VALID_NMI_PENDING | VALID_SHADOW
    api.ioctl(cpu.fd, api.SET_VCPU_EVENTS, events)


def load_registers(cpu: KvmVcpu) -> None:
    """General registers, segments, tables, control registers."""
    regs, sregs = api.Registers(), api.SystemRegisters()
    api.ioctl(cpu.fd, api.GET_REGS, regs)
    api.ioctl(cpu.fd, api.GET_SREGS, sregs)
    cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.efer, cpu.apic_base = (
        getattr(sregs, name) for name in "cr0 cr2 cr3 cr4 efer apic_base".split()
    )
    if cpu.kernel_apic:
        cpu.__dict__["cr8"], cpu.apic.base_msr = sregs.cr8, sregs.apic_base
    for name, i in SEGMENT_NAMES.items():
        segment = getattr(sregs, name)
        attributes = sum(getattr(segment, part) << place for part, place, _ in PARTS)
        if not sregs.cr0 & CR0_PE and i <= GS and (i == CS or segment.base == segment.selector << 4):
            attributes = attributes & (ATTRIBUTE_DB | ATTRIBUTE_G) | REAL
        cpu.set_segment(i, segment.selector, segment.base, segment.limit, attributes & ~ATTRIBUTE_P if segment.unusable else attributes)
    cpu.gdt_base, cpu.gdt_limit, cpu.idt_base, cpu.idt_limit = sregs.gdt.base, sregs.gdt.limit, sregs.idt.base, sregs.idt.limit
    for i, name in enumerate(GPR64):
        cpu.gpr[i] = getattr(regs, name)
    cpu.set_flags(regs.rflags)
    cpu.cpl = 0 if not cpu.cr0 & CR0_PE else 3 if regs.rflags & VM else sregs.ss.dpl
    cpu.pc = regs.rip if cpu.long64 else regs.rip + sregs.cs.base & 0xFFFFFFFF
    if cpu.cr0 & CR0_PG and cpu.cr4 & CR4_PAE and not cpu.efer & EFER_LMA:
        for i in range(4):
            cpu.pdpte[i] = cpu.read_physical((cpu.cr3 & 0xFFFFFFE0) + 8 * i, 8)


def store_registers(cpu: KvmVcpu) -> None:
    """Likewise."""
    regs, sregs = api.Registers(), api.SystemRegisters()
    for name in "cr0 cr2 cr3 cr4 efer apic_base".split():
        setattr(sregs, name, getattr(cpu, name))
    sregs.cr8 = cpu.cr8 if cpu.kernel_apic and not cpu.apic_ours else cpu.apic.task_priority
    for name, i in SEGMENT_NAMES.items():
        segment, attributes = getattr(sregs, name), cpu.seg_attributes[i]
        segment.base, segment.limit, segment.selector = cpu.seg_base[i], cpu.seg_limit[i], cpu.seg_selector[i]
        for part, place, mask in PARTS:
            setattr(segment, part, attributes >> place & mask)
        segment.unusable = not attributes & ATTRIBUTE_P
        if i == SS:
            segment.dpl = cpu.cpl
    sregs.gdt.base, sregs.gdt.limit, sregs.idt.base, sregs.idt.limit = cpu.gdt_base, cpu.gdt_limit, cpu.idt_base, cpu.idt_limit
    for i, name in enumerate(GPR64):
        setattr(regs, name, cpu.gpr[i])
    regs.rip, regs.rflags = cpu.offset(cpu.pc), cpu.flags
    api.ioctl(cpu.fd, api.SET_SREGS, sregs)
    api.ioctl(cpu.fd, api.SET_REGS, regs)


def load_floats(cpu: KvmVcpu) -> None:
    """x87, SSE, AVX, and what of them is enabled. A component that is not in the area is as it begins."""
    xsave, xcrs = api.Xsave(), api.Xcrs()
    api.ioctl(cpu.fd, api.GET_XSAVE, xsave)
    area = memoryview(xsave).cast("B")

    def number(at: int, size: int) -> int:
        return int.from_bytes(area[at : at + size], "little")

    cpu.set_status_word(number(2, 2))
    cpu.fcw, cpu.ftw = number(0, 2), ~number(4, 1) & 0xFF
    cpu.fop, cpu.fip, cpu.fdp, cpu.fcs, cpu.fds = number(FOP, 2), number(FIP, 8), number(FDP, 8), 0, 0
    cpu.mxcsr = number(MXCSR, 4)
    for i in range(8):
        cpu.st[cpu.top + i & 7] = number(ST + 16 * i, 10)
    upper = number(HEADER, 8) >> 2 & 1
    for i in range(16):
        cpu.x[i] = number(XMM + 16 * i, 16)
        cpu.y[i] = number(YMM + 16 * i, 16) if upper else 0
    cpu.xcr0 = 1
    if "xsave" in cpu.model:
        api.ioctl(cpu.fd, api.GET_XCRS, xcrs)
        cpu.xcr0 = xcrs.value


def store_floats(cpu: KvmVcpu) -> None:
    """Likewise."""
    xsave = api.Xsave()
    area = memoryview(xsave).cast("B")

    def put(at: int, size: int, value: int) -> None:
        area[at : at + size] = value.to_bytes(size, "little")

    put(0, 2, cpu.fcw & 0xFFFF)
    put(2, 2, cpu.status_word)
    put(4, 1, ~cpu.ftw & 0xFF)
    put(FOP, 2, cpu.fop & 0x7FF)
    put(FIP, 8, cpu.fip)
    put(FDP, 8, cpu.fdp)
    put(MXCSR, 4, cpu.mxcsr & 0xFFFF)
    for i in range(8):
        put(ST + 16 * i, 10, cpu.st[cpu.top + i & 7])
    for i in range(16):
        put(XMM + 16 * i, 16, cpu.x[i])
        if "avx" in cpu.model:
            put(YMM + 16 * i, 16, cpu.y[i])
    put(HEADER, 8, 7 if "avx" in cpu.model else 3)
    if "xsave" in cpu.model:
        api.ioctl(cpu.fd, api.SET_XCRS, api.Xcrs(1, 0, 0, 0, cpu.xcr0))
    api.ioctl(cpu.fd, api.SET_XSAVE, xsave)


def load_debug(cpu: KvmVcpu) -> None:
    """Debug registers."""
    found = api.DebugRegisters()
    api.ioctl(cpu.fd, api.GET_DEBUGREGS, found)
    cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3 = found.db
    cpu.dr6, cpu.dr7 = found.dr6, found.dr7


def store_debug(cpu: KvmVcpu) -> None:
    """Likewise."""
    given = api.DebugRegisters(dr6=cpu.dr6, dr7=cpu.dr7)
    given.db[:] = cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3
    api.ioctl(cpu.fd, api.SET_DEBUGREGS, given)


def load_msrs(cpu: KvmVcpu) -> None:
    """What has a word goes there, the rest by number into `msrs`."""
    kept = msr.stored(cpu)
    for number, value in get_msrs(cpu.fd, cpu.vm.msrs, cpu.vm.refused).items():
        if number in msr.WORDS:
            setattr(cpu, msr.WORDS[number], value)
        else:
            kept[number] = value


def store_msrs(cpu: KvmVcpu) -> None:
    """Likewise; those that nobody has written are as they were at power-on."""
    values = cpu.initial_msrs | {n: v for n, v in msr.stored(cpu).items() if n in cpu.initial_msrs}
    for number, name in msr.WORDS.items():
        value = getattr(cpu, name)
        values[number] = value if number not in msr.CANONICAL or canonical(value) else 0
    set_msrs(cpu.fd, values, cpu.vm.refused)


def get_msrs(fd: int, numbers: list[int], refused: set[int]) -> dict[int, int]:
    """Values by number. KVM stops at one that it refuses: that is noted, and not asked for again."""
    found: dict[int, int] = {}
    left = [number for number in numbers if number not in refused]
    while left:
        listed = _listed(dict.fromkeys(left, 0))
        done = api.ioctl(fd, api.GET_MSRS, listed)
        found.update((entry.index, entry.data) for entry in listed.entries[:done])
        _refuse(left, done, refused)
    return found


def set_msrs(fd: int, values: dict[int, int], refused: set[int]) -> None:
    """Likewise."""
    left = [number for number in values if number not in refused]
    while left:
        _refuse(left, api.ioctl(fd, api.SET_MSRS, _listed({number: values[number] for number in left})), refused)


def _listed(values: dict[int, int]) -> Any:
    return api.variable((api.MsrEntry * len(values))(*(api.MsrEntry(number, 0, value) for number, value in values.items())))


def _refuse(left: list[int], done: int, refused: set[int]) -> None:
    if done < len(left):
        refused.add(left[done])
        log.unimp.once(("kvm", left[done]), f"kvm: this host refuses MSR {left[done]:#x}")
    del left[: done + 1]


def msr_numbers(fd: int) -> list[int]:
    """The MSRs that KVM on this host saves and restores, and memory types, which its list leaves out."""
    room = 64
    while True:
        raw = (ctypes.c_uint32 * (room + 1))(room)  # the count, then the numbers
        try:
            api.ioctl(fd, api.GET_MSR_INDEX_LIST, raw)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            room = raw[0]
            continue
        return sorted({*raw[1 : raw[0] + 1], *msr.MTRRS} - ELSEWHERE)


def get_tsc_offset(cpu: KvmVcpu) -> int:
    """What is added to the host's counter."""
    if not cpu.vm.tsc_attribute:
        return get_msrs(cpu.fd, [msr.TSC], set())[msr.TSC] - cpu.vm.counter() & (1 << 64) - 1
    value = ctypes.c_uint64()
    api.ioctl(cpu.fd, api.GET_DEVICE_ATTR, api.DeviceAttribute(0, *TSC_OFFSET, ctypes.addressof(value)))
    return value.value


def set_tsc_offset(cpu: KvmVcpu, offset: int) -> None:
    """Likewise."""
    if not cpu.vm.tsc_attribute:
        set_msrs(cpu.fd, {msr.TSC: cpu.vm.counter() + offset & (1 << 64) - 1}, set())
        return
    value = ctypes.c_uint64(offset & (1 << 64) - 1)
    api.ioctl(cpu.fd, api.SET_DEVICE_ATTR, api.DeviceAttribute(0, *TSC_OFFSET, ctypes.addressof(value)))


def settle_apic(cpu: KvmVcpu) -> None:
    """The local APIC in the kernel, into the machine's; with it KVM keeps whether the processor is halted, or waits to be started.

    To be asked first: KVM acts on INIT and SIPI then."""
    found = ctypes.c_uint32()
    api.ioctl(cpu.fd, api.GET_MP_STATE, found)
    irqchip.load_apic(cpu.fd, cpu.apic)
    waiting = found.value in (api.UNINITIALIZED, api.INIT_RECEIVED)
    cpu.__dict__["waiting"], cpu.__dict__["halted"] = waiting, waiting or found.value == api.HALTED


def store_apic(cpu: KvmVcpu) -> None:
    """Likewise. One that waits takes a SIPI, whether there has been an INIT or not."""
    irqchip.store_apic(cpu.fd, cpu.apic)
    state = api.INIT_RECEIVED if cpu.waiting else api.HALTED if cpu.halted else api.RUNNABLE
    api.ioctl(cpu.fd, api.SET_MP_STATE, ctypes.c_uint32(state))
