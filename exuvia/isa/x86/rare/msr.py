"""Model-specific registers (SDM vol. 4; AMD64 manual vol. 2, appendix A)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, canonical, rare
from exuvia.isa.x86.state import CR0_PG, CR4_PCE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, FS, GP, GS

WORDS = {
    0x174: "sysenter_cs", 0x175: "sysenter_esp", 0x176: "sysenter_eip", 0x1A0: "misc_enable", 0x277: "pat", 0xC0000081: "star",
    0xC0000082: "lstar", 0xC0000083: "cstar", 0xC0000084: "fmask", 0xC0000102: "kernel_gs_base", 0xC0000103: "tsc_aux",
}  # fmt: skip
CANONICAL = {0x175, 0x176, 0xC0000082, 0xC0000083, 0xC0000102}
BASES = {0xC0000100: FS, 0xC0000101: GS}
# what kernels read on their way up and may write without effect: numbers -> value
CONSTANT = {
    0x17: 0, 0x2A: 0, 0x3A: 1, 0x8B: 0x01000065 << 32, 0xCD: 3, 0xCE: 0, 0x140: 0, 0x1D9: 0, 0x1DB: 0, 0x1DC: 0, 0x1FC: 0, 0x606: 0,
    0xC0010010: 0, 0xC0010015: 0, 0xC001001F: 0, 0xC0010055: 0, 0xC0010058: 0, 0xC0010112: 0, 0xC0010113: 0, 0xC0010114: 0, 0xC0010117: 0,
    0xC0011020: 0, 0xC0011021: 0, 0xC0011022: 0, 0xC0011023: 0, 0xC0011029: 0, 0xC001102A: 0,
}  # fmt: skip
MTRR_CAP, MTRR_DEFAULT = 0xFE, 0x2FF
MTRRS = {*range(0x200, 0x210), 0x250, 0x258, 0x259, *range(0x268, 0x270), MTRR_DEFAULT}
MACHINE_CHECK = range(0x400, 0x428)
APIC_BASE, TSC, TSC_ADJUST, MCG_CAP, MCG_STATUS, MCG_CTL, MICROCODE = 0x1B, 0x10, 0x3B, 0x179, 0x17A, 0x17B, 0x79
EFER = 0xC0000080
# which feature announces it; the others come with `msr`
FEATURE = {
    TSC: "tsc", APIC_BASE: "apic", TSC_ADJUST: "tsc_adjust", 0x277: "pat", 0xC0000081: "syscall", 0xC0000084: "syscall", MTRR_CAP: "mtrr",
    **dict.fromkeys((0x174, 0x175, 0x176), "sep"), **dict.fromkeys(MTRRS, "mtrr"),
    **dict.fromkeys((MCG_CAP, MCG_STATUS, MCG_CTL, *MACHINE_CHECK), "mca"),
    **dict.fromkeys((0xC0000082, 0xC0000083, 0xC0000102, *BASES), "lm"),
}  # fmt: skip
ANY_OF = {EFER: {"syscall", "lm", "nx"}, 0xC0000103: {"rdtscp", "rdpid"}}
PERFORMANCE = {*range(0xC1, 0xC5), *range(0x186, 0x18A), *range(0xC0010000, 0xC0010008), 0x38D, 0x38F, 0x390}


def stored(cpu: Processor) -> dict[int, int]:
    """MSRs that only keep what is written: memory types and machine-check banks."""
    values: dict[int, int] = cpu.__dict__.setdefault("msrs", {})
    return values


def pair(cpu: Processor) -> int:
    """EDX:EAX."""
    return cpu.gpr[0] & 0xFFFFFFFF | (cpu.gpr[2] & 0xFFFFFFFF) << 32


@rare
def rdmsr(cpu: Processor) -> None:
    """ECX names it, EDX:EAX gets it; an unknown one is #GP(0)."""
    value = read(cpu, cpu.gpr[1] & 0xFFFFFFFF)
    cpu.gpr[0], cpu.gpr[2] = value & 0xFFFFFFFF, value >> 32


@rare
def wrmsr(cpu: Processor) -> None:
    """ECX names it, EDX:EAX goes there; an unknown one, or a value it cannot take, is #GP(0)."""
    write(cpu, cpu.gpr[1] & 0xFFFFFFFF, pair(cpu))


def missing(cpu: Processor, number: int, what: str) -> Fault:
    """The fault of an MSR that does not exist, logged."""
    cpu.unknown(f"{what} of unknown MSR {number:#x}")
    return Fault(GP, 0)


def announced(cpu: Processor, number: int) -> bool:
    """Does CPUID say that there is this MSR, or is it one of those that need not be said?"""
    feature, one_of = FEATURE.get(number), ANY_OF.get(number)
    return (feature is None or feature in cpu.model) and (one_of is None or bool(one_of & cpu.model.features))


def read(cpu: Processor, number: int) -> int:
    """An MSR's value."""
    if not announced(cpu, number):
        raise missing(cpu, number, "read")
    if number in WORDS:
        return int(getattr(cpu, WORDS[number]))
    if number in BASES:
        return cpu.seg_base[BASES[number]]
    if number == EFER:
        return cpu.efer
    if number == TSC:
        return cpu.timestamp()
    if number == APIC_BASE:
        return cpu.apic_base
    if number in MTRRS or number in MACHINE_CHECK:
        return stored(cpu).get(number, 0xC06 if number == MTRR_DEFAULT else 0)
    if number == MTRR_CAP:
        return 0x508
    if number == MCG_CAP:
        return 0x10A
    if number in (MCG_STATUS, MCG_CTL, TSC_ADJUST, 0xE7, 0xE8):
        return stored(cpu).get(number, 0)
    if number in CONSTANT:
        return CONSTANT[number]
    if number in PERFORMANCE:
        return 0
    raise missing(cpu, number, "read")


def write(cpu: Processor, number: int, value: int) -> None:
    """Write an MSR."""
    if not announced(cpu, number):
        raise missing(cpu, number, "write")
    if number in CANONICAL and not canonical(value) or number in BASES and not canonical(value):
        raise Fault(GP, 0)
    if number == 0x277 and any(value >> 8 * i & 0xFF not in (0, 1, 4, 5, 6, 7) for i in range(8)):
        raise Fault(GP, 0)
    if number in WORDS:
        setattr(cpu, WORDS[number], value & 0xFFFFFFFF if number in (0xC0000103, 0xC0000084) else value)
    elif number in BASES:
        cpu.seg_base[BASES[number]] = value
    elif number == EFER:
        write_efer(cpu, value)
    elif number == TSC:
        delta = value - cpu.timestamp()
        cpu.tsc_offset += delta
        stored(cpu)[TSC_ADJUST] = stored(cpu).get(TSC_ADJUST, 0) + delta & (1 << 64) - 1
    elif number == TSC_ADJUST:
        cpu.tsc_offset += value - stored(cpu).get(number, 0)
        stored(cpu)[number] = value
    elif number == APIC_BASE:
        if value & ~((1 << cpu.model.address_bits) - 1 & ~0xFF | 0x900) or value & 0x400:
            raise Fault(GP, 0)
        cpu.apic_base = value & ~0x100 | cpu.apic_base & 0x100
        cpu.apic_changed()
    elif number in MTRRS or number in MACHINE_CHECK or number in (MCG_STATUS, MCG_CTL):
        stored(cpu)[number] = value
    elif number not in CONSTANT and number not in PERFORMANCE and number != MICROCODE:
        raise missing(cpu, number, "write")


def write_efer(cpu: Processor, value: int) -> None:
    """LME cannot change under paging; LMA is the processor's own."""
    known = (EFER_SCE if "syscall" in cpu.model else 0) | (EFER_LME if "lm" in cpu.model else 0) | (EFER_NXE if "nx" in cpu.model else 0)
    if value & ~(known | EFER_LMA) or (value ^ cpu.efer) & EFER_LME and cpu.cr0 & CR0_PG:
        raise Fault(GP, 0)
    old, cpu.efer = cpu.efer, value & ~EFER_LMA | cpu.efer & EFER_LMA
    if (old ^ cpu.efer) & EFER_NXE:
        cpu.flush_tlb(True)


@rare
def rdpmc(cpu: Processor) -> None:
    """There are no performance counters."""
    if cpu.cpl and not cpu.cr4 & CR4_PCE:
        raise Fault(GP, 0)
    if (cpu.gpr[1] & 0xFFFFFFFF) > 3:
        raise Fault(GP, 0)
    cpu.gpr[0] = cpu.gpr[2] = 0
