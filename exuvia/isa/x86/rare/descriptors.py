"""Descriptors and what asks about them: LLDT, LTR, LAR, LSL, VERR, VERW (SDM vol. 2; vol. 3, 5.10)."""

from __future__ import annotations

from dataclasses import dataclass

from exuvia.isa.x86.concrete import Fault, Processor, rare, unpack
from exuvia.isa.x86.state import ATTRIBUTE_L, ATTRIBUTE_P, ATTRIBUTE_S, CS, GP, LDTR, NP, SS, SS_FAULT, TR, TS


@dataclass
class Descriptor:
    """One descriptor, unpacked, and where it stands."""

    selector: int
    where: int
    base: int
    limit: int
    attributes: int

    @property
    def kind(self) -> int:
        """Type and S: 5 bits."""
        return self.attributes & 0x1F

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.attributes >> 5 & 3

    @property
    def present(self) -> bool:
        """The P bit."""
        return bool(self.attributes & ATTRIBUTE_P)

    @property
    def code(self) -> bool:
        """Is it a code segment?"""
        return self.kind & 0x18 == 0x18

    @property
    def conforming(self) -> bool:
        """A code segment that runs at its caller's level."""
        return self.kind & 0x1C == 0x1C

    @property
    def data(self) -> bool:
        """Is it a data segment?"""
        return self.kind & 0x18 == 0x10

    @property
    def writable_data(self) -> bool:
        """Is it a data segment that may be written?"""
        return self.kind & 0x1A == 0x12

    @property
    def readable(self) -> bool:
        """Is it data, or code that may be read?"""
        return self.data or self.kind & 0x1A == 0x1A


def find(cpu: Processor, selector: int) -> Descriptor | None:
    """The descriptor of a selector, or None outside of its table; a system descriptor in IA-32e mode has 64 bits of base."""
    base, limit = (cpu.seg_base[LDTR], cpu.seg_limit[LDTR]) if selector & 4 else (cpu.gdt_base, cpu.gdt_limit)
    if (selector | 7) > limit:
        return None
    where = base + (selector & 0xFFF8)
    return Descriptor(selector, where, *unpack(cpu.read(where, 8, True)))


def fetch(cpu: Processor, selector: int, vector: int = GP, external: int = 0) -> Descriptor:
    """The descriptor of a selector that is not null; a fault with the selector where there is none."""
    if not selector & 0xFFFC:
        raise Fault(vector, external)
    d = find(cpu, selector)
    if d is None:
        raise Fault(vector, selector & 0xFFFC | external)
    return d


def wide_base(cpu: Processor, d: Descriptor) -> None:
    """A 16-byte system descriptor: the base's upper half (SDM vol. 3, 7.2.3)."""
    base, limit = (cpu.seg_base[LDTR], cpu.seg_limit[LDTR]) if d.selector & 4 else (cpu.gdt_base, cpu.gdt_limit)
    if (d.selector & 0xFFF8) + 15 > limit:
        raise Fault(GP, d.selector & 0xFFFC)
    high = cpu.read(base + (d.selector & 0xFFF8) + 8, 8, True)
    if high >> 40 & 0x1F:
        raise Fault(GP, d.selector & 0xFFFC)
    d.base |= (high & 0xFFFFFFFF) << 32


def accessed(cpu: Processor, d: Descriptor) -> None:
    """Set the accessed bit where it is not set."""
    if not d.attributes & 1:
        d.attributes |= 1
        cpu.write(d.where + 5, 1, d.attributes & 0xFF, True)


def set_code(cpu: Processor, d: Descriptor, level: int) -> None:
    """CS from a checked descriptor, at a privilege level; CPL follows."""
    accessed(cpu, d)
    cpu.set_segment(CS, d.selector & 0xFFFC | level, d.base, d.limit, d.attributes)
    cpu.cpl = level


def check_stack(cpu: Processor, selector: int, level: int, vector: int, external: int = 0) -> Descriptor:
    """A stack segment for a level; what does not fit is `vector`, one that is not present #SS."""
    d = fetch(cpu, selector, vector, external)
    if selector & 3 != level or d.dpl != level or not d.writable_data:
        raise Fault(vector, selector & 0xFFFC | external)
    if not d.present:
        raise Fault(SS_FAULT, selector & 0xFFFC | external)
    return d


def set_stack(cpu: Processor, d: Descriptor) -> None:
    """SS from a checked descriptor."""
    accessed(cpu, d)
    cpu.set_segment(SS, d.selector, d.base, d.limit, d.attributes)


def check_code_size(cpu: Processor, d: Descriptor) -> None:
    """In IA-32e mode L and D together are reserved."""
    if cpu.long and d.attributes & 0x6000 == 0x6000:
        raise Fault(GP, d.selector & 0xFFFC)


def load_data(cpu: Processor, i: int, selector: int, vector: int = GP) -> None:
    """Load DS, ES, FS or GS as a task switch does."""
    if not selector & 0xFFFC:
        cpu.null_segment(i, selector)
        return
    d = fetch(cpu, selector, vector)
    if not d.readable or not d.conforming and (selector & 3 > d.dpl or cpu.cpl > d.dpl):
        raise Fault(vector, selector & 0xFFFC)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC)
    accessed(cpu, d)
    cpu.set_segment(i, selector, d.base, d.limit, d.attributes)


def load_ldt(cpu: Processor, selector: int, vector: int = GP) -> None:
    """LDTR; a null selector leaves no table."""
    if not selector & 0xFFFC:
        cpu.null_segment(LDTR, selector)
        return
    if selector & 4:
        raise Fault(vector, selector & 0xFFFC)
    d = fetch(cpu, selector, vector)
    if d.kind != 2:
        raise Fault(vector, selector & 0xFFFC)
    if not d.present:
        raise Fault(NP if vector == GP else TS, selector & 0xFFFC)
    if cpu.long:
        wide_base(cpu, d)
    cpu.set_segment(LDTR, selector, d.base, d.limit, d.attributes)


@rare
def lldt(cpu: Processor, selector: int) -> None:
    """Load the local descriptor table register."""
    load_ldt(cpu, selector)


@rare
def ltr(cpu: Processor, selector: int) -> None:
    """Load the task register and mark the TSS busy."""
    if selector & 4:
        raise Fault(GP, selector & 0xFFFC)
    d = fetch(cpu, selector)
    if d.kind not in ((9,) if cpu.long else (1, 9)):
        raise Fault(GP, selector & 0xFFFC)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC)
    if cpu.long:
        wide_base(cpu, d)
    d.attributes |= 2
    cpu.write(d.where + 5, 1, d.attributes & 0xFF, True)
    cpu.set_segment(TR, selector, d.base, d.limit, d.attributes)


def zero_flag(cpu: Processor, value: bool) -> None:
    """Only ZF tells the answer."""
    cpu.set_flags(value << 6, 1 << 6)


def visible(cpu: Processor, selector: int) -> Descriptor | None:
    """A descriptor that the current level and the selector's may ask about."""
    if not selector & 0xFFFC:
        return None
    d = find(cpu, selector)
    if d is not None and not d.conforming and (cpu.cpl > d.dpl or selector & 3 > d.dpl):
        return None
    return d


@rare
def verr(cpu: Processor, selector: int) -> None:
    """May the segment be read?"""
    d = visible(cpu, selector)
    zero_flag(cpu, d is not None and d.readable)


@rare
def verw(cpu: Processor, selector: int) -> None:
    """May the segment be written?"""
    d = visible(cpu, selector)
    zero_flag(cpu, d is not None and d.writable_data)


def answer(cpu: Processor, slot: int, width: int, value: int) -> None:
    """Write a general register (its byte offset) at 16, 32 or 64 bits."""
    i = slot >> 3
    cpu.gpr[i] = cpu.gpr[i] & ~0xFFFF | value & 0xFFFF if width == 16 else value & 0xFFFFFFFF
    zero_flag(cpu, True)


@rare
def lar(cpu: Processor, selector: int, slot: int, width: int) -> None:
    """Access rights."""
    d = visible(cpu, selector)
    kinds = (2, 9, 11, 12) if cpu.long else (1, 2, 3, 4, 5, 9, 11, 12)
    if d is None or not d.attributes & ATTRIBUTE_S and d.kind not in kinds:
        return zero_flag(cpu, False)
    return answer(cpu, slot, width, cpu.read(d.where + 4, 4, True) & (0xFF00 if width == 16 else 0x00FFFF00))


@rare
def lsl(cpu: Processor, selector: int, slot: int, width: int) -> None:
    """The limit, in bytes."""
    d = visible(cpu, selector)
    kinds = (2, 9, 11) if cpu.long else (1, 2, 3, 9, 11)
    if d is None or not d.attributes & ATTRIBUTE_S and d.kind not in kinds:
        return zero_flag(cpu, False)
    return answer(cpu, slot, width, d.limit)


def is_64(d: Descriptor) -> bool:
    """A 64-bit code segment?"""
    return bool(d.attributes & ATTRIBUTE_L)
