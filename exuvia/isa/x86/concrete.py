"""The processor in plain Python, for what is rare: task switches, far transfers through gates, control registers, MSRs, CPUID."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exuvia.dsl import processor
from exuvia.dsl.processor import Rare, Registers
from exuvia.isa.x86.state import (
    AC,
    ATTRIBUTE_DB,
    ATTRIBUTE_G,
    ATTRIBUTE_L,
    ATTRIBUTE_P,
    ATTRIBUTE_S,
    CR0_AM,
    CR0_PE,
    CR4_SMAP,
    CS,
    EFER_LMA,
    LDTR,
    SEGMENTS,
    SS,
    SYSTEM_FLAGS,
    TR,
    VM,
    layout,
)  # fmt: skip

if TYPE_CHECKING:
    from exuvia.isa.x86.cpus import CpuModel


class Fault(processor.Fault):
    """An exception of the processor (SDM vol. 3, 6.15). `address` is what CR2 gets where it is a page fault, `debug` what DR6 gets where
    it is a debug exception."""

    def __init__(self, vector: int, error: int | None = None, address: int | None = None, debug: int = 0) -> None:
        super().__init__(f"exception {vector}" + (f", error {error:#x}" if error is not None else ""))
        self.vector, self.error, self.address, self.debug = vector, error, address, debug


RARE = rare = Rare()
_ATTRIBUTES = 0xF0FF  # bits 11:8 hold part of the limit in a descriptor


def unpack(descriptor: int) -> tuple[int, int, int]:
    """Base, limit in bytes, attributes of an 8-byte descriptor (SDM vol. 3, 3.4.5)."""
    base = descriptor >> 16 & 0xFFFFFF | descriptor >> 32 & 0xFF000000
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    attributes = descriptor >> 40 & _ATTRIBUTES
    return base, limit << 12 | 0xFFF if attributes & ATTRIBUTE_G else limit, attributes


def ranges(limit: int, attributes: int) -> tuple[int, int, int, int]:
    """low, high for reading, low, high for writing: the offsets that a segment's type allows (SDM vol. 3, 5.3); 1, 0 is none."""
    if attributes & (ATTRIBUTE_P | ATTRIBUTE_S) != ATTRIBUTE_P | ATTRIBUTE_S:
        return 1, 0, 1, 0
    if attributes & 8:  # code
        return (0, limit, 1, 0) if attributes & 2 else (1, 0, 1, 0)
    if attributes & 4:  # expand-down
        low, high = limit + 1, 0xFFFFFFFF if attributes & ATTRIBUTE_DB else 0xFFFF
    else:
        low, high = 0, limit
    return (low, high, low, high) if attributes & 2 else (low, high, 1, 0)


class Processor(processor.Processor):
    """Registers by name over the state's bytes (`exuvia.isa.x86.state.layout`): `cpu.cr0`, `cpu.gpr[3]`, `cpu.seg_base[CS]`, `cpu.x[0]`."""

    layout, rare = layout, RARE

    def __init__(self, state: memoryview, model: CpuModel) -> None:
        super().__init__(state, model)
        d = self.__dict__
        d["gpr"] = Registers(self.state, 0, 8, 64)
        d["numeric_error"] = lambda: None

    unflat: int
    dr6: int
    model: CpuModel
    gpr: Registers
    seg_selector: Registers
    seg_base: Registers
    seg_limit: Registers
    seg_attributes: Registers
    seg_low: Registers
    seg_high: Registers
    seg_write_low: Registers
    seg_write_high: Registers
    pdpte: Registers
    x: Registers
    st: Registers
    numeric_error: Callable[[], None]  # the wire FERR#; a machine that has one connects it

    def fault(self, fault: processor.Fault, here: int) -> None:
        """Deliver a fault of the instruction at linear address `here`."""
        assert isinstance(fault, Fault)
        if fault.address is not None:
            self.cr2 = fault.address
        self.dr6 |= fault.debug
        self.vector, self.event, self.error = fault.vector, 0, fault.error or 0
        self.event_has_error = int(fault.error is not None)
        self.event_ip = self.offset(here)
        RARE["deliver"](self)

    @property
    def held(self) -> int:
        """What the instruction before holds back for the one at `pc`: INHIBIT_STI, INHIBIT_SS or 0."""
        return self.inhibit if self.inhibit_pc == self.pc else 0

    def offset(self, linear: int) -> int:
        """The IP, relative to CS, of a linear address."""
        return linear if self.long64 else linear - self.seg_base[CS] & 0xFFFFFFFF

    # -- modes
    @property
    def protected(self) -> bool:
        """Segments are descriptors: protected mode, not virtual-8086."""
        return bool(self.cr0 & CR0_PE) and not self.eflags & VM

    @property
    def long(self) -> bool:
        """IA-32e mode, 64-bit or compatibility."""
        return bool(self.efer & EFER_LMA)

    @property
    def long64(self) -> bool:
        """64-bit mode."""
        return bool(self.efer & EFER_LMA) and bool(self.seg_attributes[CS] & ATTRIBUTE_L)

    @property
    def stack_mask(self) -> int:
        """What of rSP the stack uses."""
        if self.long64:
            return 0xFFFFFFFF_FFFFFFFF
        return 0xFFFFFFFF if self.seg_attributes[SS] & ATTRIBUTE_DB else 0xFFFF

    def update_mode(self) -> None:
        """After any change of CS, SS, CPL, CR0, CR4, EFER, EFLAGS.VM or AC: the words by which engines choose code and TLB."""
        if self.long64:
            self.mode = 0
        else:
            big, wide = bool(self.seg_attributes[CS] & ATTRIBUTE_DB), bool(self.seg_attributes[SS] & ATTRIBUTE_DB)
            self.mode = 1 + big + 2 * wide + 4 * bool(self.unflat & 15)
        ac = bool(self.eflags & AC)
        self.switch_tlb((3 if ac and self.cr0 & CR0_AM else 0) if self.cpl == 3 else 2 if self.cr4 & CR4_SMAP and not ac else 1)

    # -- segments
    def set_segment(self, i: int, selector: int, base: int, limit: int, attributes: int) -> None:
        """Fill a segment register and what is derived from it; the caller ends with `update_mode`."""
        self.seg_selector[i], self.seg_base[i], self.seg_limit[i], self.seg_attributes[i] = selector, base, limit, attributes
        low, high, write_low, write_high = ranges(limit, attributes)
        self.seg_low[i], self.seg_high[i], self.seg_write_low[i], self.seg_write_high[i] = low, high, write_low, write_high
        if i < 4:
            everything = base == 0 and limit == 0xFFFFFFFF and (i == CS or (low, high, write_low, write_high) == (0, limit, 0, limit))
            self.unflat = self.unflat & ~(1 << i) | (not everything) << i

    def set_real_segment(self, i: int, selector: int) -> None:
        """As real and virtual-8086 mode load a segment register: base and selector; the limit stays (SDM vol. 3, 20.1.1)."""
        vm = bool(self.eflags & VM)
        attributes = 0xF3 if vm else self.seg_attributes[i] & (ATTRIBUTE_DB | ATTRIBUTE_G) | 0x93
        self.set_segment(i, selector, selector << 4, 0xFFFF if vm else self.seg_limit[i], attributes)

    def null_segment(self, i: int, selector: int = 0) -> None:
        """A segment register that no access may use."""
        self.set_segment(i, selector, 0, 0, 0)

    def segment_linear(self, i: int, offset: int, size: int, write: bool) -> int:
        """Linear address of `size` bytes in a segment; #SS(0) or #GP(0) where limit or type forbid it."""
        if self.long64:
            linear = offset + (self.seg_base[i] if i >= 4 else 0) & 0xFFFFFFFF_FFFFFFFF
            if not canonical(linear):
                raise Fault(12 if i == SS else 13, 0)
            return linear
        low, high = (self.seg_write_low[i], self.seg_write_high[i]) if write else (self.seg_low[i], self.seg_high[i])
        if offset < low or offset + size - 1 > high:
            raise Fault(12 if i == SS else 13, 0)
        return offset + self.seg_base[i] & 0xFFFFFFFF

    # -- the stack
    def push(self, value: int, size: int) -> None:
        """Push `size` bytes as the current privilege level."""
        mask = self.stack_mask
        top = self.gpr[4] - size & mask
        self.write(self.segment_linear(SS, top, size, True), size, value & (1 << 8 * size) - 1)
        self.gpr[4] = self.gpr[4] & ~mask | top

    def stack_at(self, offset: int, size: int) -> int:
        """Read what lies `offset` bytes above the top of the stack."""
        return self.read(self.segment_linear(SS, self.gpr[4] + offset & self.stack_mask, size, False), size)

    def drop(self, size: int) -> None:
        """Move rSP up by `size` bytes."""
        mask = self.stack_mask
        self.gpr[4] = self.gpr[4] & ~mask | self.gpr[4] + size & mask

    def jump(self, ip: int) -> None:
        """Go to an IP relative to CS; beyond the limit or not canonical is #GP(0)."""
        if self.long64:
            if not canonical(ip):
                raise Fault(13, 0)
            self.pc = ip
        else:
            if ip > self.seg_limit[CS]:
                raise Fault(13, 0)
            self.pc = ip + self.seg_base[CS] & 0xFFFFFFFF

    # -- flags
    @property
    def flags(self) -> int:
        """EFLAGS as PUSHF sees it, with RF and VM."""
        result, aux = self.result, self.aux & 0xFFFFFFFF
        cf, af = aux >> 31, aux >> 3 & 1
        pf = 1 ^ ((result ^ aux >> 8) & 0xFF).bit_count() & 1
        sf = result >> 63 ^ aux & 1
        return (
            self.eflags & SYSTEM_FLAGS | 2 | cf | pf << 2 | af << 4 | (not result) << 6 | sf << 7
            | (self.df != 1) << 10 | (aux >> 30 & 1 ^ cf) << 11
        )  # fmt: skip

    def set_flags(self, value: int, mask: int = 0x3F7FD7) -> None:
        """Change the flags in `mask`."""
        value = self.flags & ~mask | value & mask
        self.eflags = value & SYSTEM_FLAGS
        self.df = -1 if value >> 10 & 1 else 1
        cf = value & 1
        self.result = 0 if value >> 6 & 1 else 1 << 8
        self.aux = cf << 31 | (cf ^ value >> 11 & 1) << 30 | (value >> 4 & 1) << 3 | value >> 7 & 1 | (not value & 4) << 8

    # -- start
    def reset(self) -> None:
        """Power-on (SDM vol. 3, table 9-1): everything the architecture declares; the engine resets its own words."""
        super().reset()
        self.initialize()
        self.cr0 = 0x60000010
        self.set_flags(2)
        self.xcr0, self.pat, self.apic_base = 1, 0x0007040600070406, 0xFEE00800
        self.misc_enable = 1
        self.no_huge = int("pdpe1gb" not in self.model)
        self.__dict__.pop("msrs", None)
        self.fcw, self.fsw, self.c1, self.ftw = 0x40, 0, 0, 0
        self.mxcsr = 0x1F80
        self.flush_tlb(True)

    def initialize(self) -> None:
        """What INIT does too: segments, tables, IP, control registers; caches, MSRs and floating point stay (SDM vol. 3, table 9-1)."""
        self.cr0 = self.cr0 & 0x60000000 | 0x10
        self.cr2 = self.cr3 = self.cr4 = self.efer = 0
        self.cpl = self.eflags = self.unflat = self.inhibit = self.nmi_blocked = self.pending_db = 0
        for i, name in enumerate(SEGMENTS):
            system = {LDTR: 0x82, TR: 0x8B}.get(i, 0x93)
            self.set_segment(i, 0xF000 if name == "CS" else 0, 0xFFFF0000 if name == "CS" else 0, 0xFFFF, system)
        self.gdt_base = self.idt_base = 0
        self.gdt_limit = self.idt_limit = 0xFFFF
        self.dr0 = self.dr1 = self.dr2 = self.dr3 = 0
        self.dr6, self.dr7 = 0xFFFF0FF0, 0x400
        self.watch()
        for i in range(16):
            self.gpr[i] = 0
        self.gpr[2] = self.model.signature
        self.set_flags(2)
        self.pc = 0xFFFFFFF0
        self.update_mode()

    def start(self, vector: int) -> None:
        """SIPI: real mode at page `vector` (SDM vol. 3, 8.4.3)."""
        self.set_segment(CS, vector << 8, vector << 12, 0xFFFF, 0x93)
        self.pc = vector << 12
        self.update_mode()

    # -- what an engine, or `processor.Processor`, implements
    def watch(self) -> None:
        """The breakpoints in DR0 to DR3 and DR7 changed."""

    def timestamp(self) -> int:
        """The TSC, with `tsc_offset` added."""
        raise NotImplementedError

    @property
    def status_word(self) -> int:
        """The x87's, as software sees it."""
        word: int = self.fsw & 0xFFFF | self.c1 | self.top << 11
        return word

    def set_status_word(self, word: int) -> None:
        """Replace it."""
        self.fsw, self.c1, self.top = word & ~0x3A00, word & 0x200, word >> 11 & 7

    def ignore_numeric_error(self) -> None:
        """The wire IGNNE#, in answer to FERR#: waiting instructions go on until the pending x87 exception is cleared."""
        self.ignne = self.fsw >> 7 & 1

    def unblock_nmi(self) -> None:
        """NMIs are delivered again."""
        self.nmi_blocked = 0

    def shutdown(self) -> None:
        """A triple fault: the machine resets or exits."""
        raise NotImplementedError

    def task_priority(self, value: int | None = None) -> int:
        """CR8: read (None) or set the local APIC's task priority, 0-15."""
        raise NotImplementedError

    def apic_changed(self) -> None:
        """`apic_base` was written."""


def canonical(linear: int) -> bool:
    """Are bits 63:47 all equal (4-level paging)?"""
    return linear >> 47 in (0, 0x1FFFF)


