"""Control and debug registers, XCR0, HLT (SDM vol. 3, 2.5, 2.6, 17.2)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, rare
from exuvia.isa.x86.state import (
    ATTRIBUTE_L,
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_DE,
    CR4_FSGSBASE,
    CR4_MCE,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_OSXSAVE,
    CR4_PAE,
    CR4_PCE,
    CR4_PCIDE,
    CR4_PGE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    CR4_TSD,
    CR4_UMIP,
    CS,
    DB,
    EFER_LMA,
    EFER_LME,
    GP,
    TR,
)  # fmt: skip

CR0_KNOWN = 0xE005003F
CR4_BY_FEATURE = {
    CR4_DE: "de", CR4_PSE: "pse", CR4_PAE: "pae", CR4_MCE: "mce", CR4_PGE: "pge", CR4_OSFXSR: "fxsr", CR4_OSXMMEXCPT: "sse",
    CR4_UMIP: "umip", CR4_FSGSBASE: "fsgsbase", CR4_PCIDE: "pcid", CR4_OSXSAVE: "xsave", CR4_SMEP: "smep", CR4_SMAP: "smap", CR4_TSD: "tsc",
}  # fmt: skip
CR4_FLUSH = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP


@rare
def write_control(cpu: Processor, number: int, value: int) -> None:
    """MOV to CR0, CR3 (PAE), CR4, CR8."""
    if number == 0:
        write_cr0(cpu, value)
    elif number == 3:
        load_pointers(cpu, value)
        cpu.cr3 = value
        cpu.flush_tlb(False)
    elif number == 4:
        write_cr4(cpu, value)
    elif value >> 4:
        raise Fault(GP, 0)
    else:
        cpu.task_priority(value)


def write_cr0(cpu: Processor, value: int) -> None:
    """Paging and protection on and off; the way into and out of IA-32e mode (SDM vol. 3, 9.8.5)."""
    if value >> 32 or value & CR0_PG and not value & CR0_PE or value & CR0_NW and not value & CR0_CD:
        raise Fault(GP, 0)
    value = value & CR0_KNOWN | CR0_ET
    old = cpu.cr0
    if value & CR0_PG and not old & CR0_PG:
        if cpu.efer & EFER_LME:
            if not cpu.cr4 & CR4_PAE or cpu.seg_attributes[CS] & ATTRIBUTE_L or not cpu.seg_attributes[TR] & 8:
                raise Fault(GP, 0)
            cpu.efer |= EFER_LMA
        elif cpu.cr4 & CR4_PAE:
            load_pointers(cpu, cpu.cr3)
    elif old & CR0_PG and not value & CR0_PG:
        if cpu.long64 or cpu.cr4 & CR4_PCIDE:
            raise Fault(GP, 0)
        cpu.efer &= ~EFER_LMA
    cpu.cr0 = value
    if (old ^ value) & (CR0_PG | CR0_PE | 1 << 16):
        cpu.flush_tlb(True)
    cpu.update_mode()


def write_cr4(cpu: Processor, value: int) -> None:
    """Bits of features that the model lacks are reserved."""
    allowed = CR4_PCE | sum(bit for bit, feature in CR4_BY_FEATURE.items() if feature in cpu.model)
    if value & ~allowed or cpu.long and not value & CR4_PAE:
        raise Fault(GP, 0)
    if value & CR4_PCIDE and not cpu.cr4 & CR4_PCIDE and (not cpu.long or cpu.cr3 & 0xFFF):
        raise Fault(GP, 0)
    if cpu.cr0 & CR0_PG and not cpu.long and value & CR4_PAE and (value ^ cpu.cr4) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP):
        load_pointers(cpu, cpu.cr3)
    changed = cpu.cr4 ^ value
    cpu.cr4 = value
    if changed & CR4_FLUSH:
        cpu.flush_tlb(True)
    cpu.update_mode()


def load_pointers(cpu: Processor, cr3: int) -> None:
    """PAE: the four directory pointers; a present one with reserved bits is #GP(0) (4.4.1)."""
    reserved = ~((1 << cpu.model.address_bits) - 1) | 0x1E6
    pointers = [cpu.read_physical((cr3 & 0xFFFFFFE0) + 8 * i, 8) for i in range(4)]
    if any(e & 1 and e & reserved for e in pointers):
        raise Fault(GP, 0)
    for i, e in enumerate(pointers):
        cpu.pdpte[i] = e


@rare
def write_xcr0(cpu: Processor, value: int) -> None:
    """x87 state cannot be turned off; AVX's rests on SSE's (SDM vol. 3, 2.6)."""
    if value & ~cpu.model.components or not value & 1 or value & 4 and not value & 2:
        raise Fault(GP, 0)
    cpu.xcr0 = value


@rare
def components_in_use(cpu: Processor, used: int) -> None:
    """XGETBV of register 1 (SDM vol. 1, 13.2)."""
    if "xgetbv1" not in cpu.model:
        raise Fault(GP, 0)
    cpu.gpr[0], cpu.gpr[2] = used, 0


@rare
def read_cr8(cpu: Processor, slot: int) -> None:
    """MOV from CR8: the local APIC's task priority."""
    cpu.gpr[slot >> 3] = cpu.task_priority()


@rare
def write_debug(cpu: Processor, number: int, value: int) -> None:
    """MOV to a debug register."""
    if cpu.dr7 & 1 << 13:
        general_detect(cpu)
    if number >= 4 and value >> 32:
        raise Fault(GP, 0)
    if number < 4:
        setattr(cpu, f"dr{number}", value)
    elif number in (4, 6):
        cpu.dr6 = value & 0xE00F | 0xFFFF0FF0
    else:
        cpu.dr7 = value & 0xFFFF2FFF | 0x400
    cpu.watch()
    cpu.inhibit = 0  # an old MOV SS must not hold back the traps that are armed now


@rare
def general_detect(cpu: Processor) -> None:
    """DR7.GD: the debug registers are watched."""
    raise Fault(DB, debug=1 << 13)


@rare
def halt(cpu: Processor) -> None:
    """HLT."""
    cpu.halt()


@rare
def ferr(cpu: Processor) -> None:
    """An x87 exception without CR0.NE: the wire FERR#, on a PC interrupt 13; the processor waits for an interrupt (SDM vol. 1, 8.7.2)."""
    cpu.numeric_error()
    cpu.halt()

