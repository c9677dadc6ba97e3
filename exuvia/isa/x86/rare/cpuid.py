"""CPUID (SDM vol. 2)."""

from exuvia.isa.x86.concrete import Processor, rare
from exuvia.isa.x86.state import CR4_OSXSAVE


@rare
def cpuid(cpu: Processor) -> None:
    """EAX and ECX ask; EAX, EBX, ECX, EDX answer."""
    leaf, subleaf = cpu.gpr[0] & 0xFFFFFFFF, cpu.gpr[1] & 0xFFFFFFFF
    a, b, c, d = cpu.model.cpuid(leaf, subleaf, osxsave=bool(cpu.cr4 & CR4_OSXSAVE), apic=bool(cpu.apic_base & 1 << 11), xcr0=cpu.xcr0)
    cpu.gpr[0], cpu.gpr[3], cpu.gpr[1], cpu.gpr[2] = a, b, c, d
