"""What the processors of every accelerator have in common: how an image enters, how registers are shown, how one takes another's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from exuvia.dsl.state import ISA_AT
from exuvia.isa.x86.concrete import Processor
from exuvia.isa.x86.state import layout
from exuvia.vcpu.accelerators import Unavailable

if TYPE_CHECKING:
    from exuvia.isa.x86.cpus import CpuModel
    from exuvia.memory.space import AddressSpace

SEGMENT_NAMES = {"es": 0, "cs": 1, "ss": 2, "ds": 3, "fs": 4, "gs": 5, "ldtr": 6, "tr": 7}
GPR64 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
GPR_BYTES = 136  # of the state: the registers and the word that is zero


class Pending(NamedTuple):
    """An exception, or an interrupt that was acknowledged, whose delivery has not begun."""

    vector: int
    error: int | None
    external: bool


class MachineProcessor(Processor):
    """A processor in a machine."""

    index: int
    memory: AddressSpace
    ports: AddressSpace
    apic: Any
    machine: Any
    halted: bool
    waiting: bool  # for SIPI
    kicked: bool
    intr: bool
    nmi_pending: bool
    long_mode: bool
    acknowledge: Callable[[], int]
    alone: Callable[[Callable[[], object]], object]  # has something done while no processor runs

    def __init__(self, state: memoryview, model: CpuModel, index: int, memory: AddressSpace, ports: AddressSpace, apic: Any, machine: Any):
        super().__init__(state, model)
        d = self.__dict__
        d["index"], d["memory"], d["ports"], d["apic"], d["machine"] = index, memory, ports, apic, machine
        d["halted"], d["waiting"], d["kicked"], d["intr"], d["nmi_pending"] = False, False, False, False, False
        d["long_mode"] = "lm" in model
        d["alone"] = lambda work: work()
        d["acknowledge"] = lambda: 0xFF

    def enter(self, entry: Any) -> None:
        """Take the state in which a loaded image begins (boot/entry.py)."""
        self.cr3, self.cr4, self.efer, self.cr0 = entry.cr3, entry.cr4, entry.efer, entry.cr0
        self.gdt_base, self.gdt_limit = entry.gdt
        for name, s in entry.segments.items():
            self.set_segment(SEGMENT_NAMES[name], s.selector, s.base, s.limit, s.access | s.flags << 12)
        for i, name in enumerate(GPR64):
            self.gpr[i] = entry.registers.get(name, 0)
        self.set_flags(entry.rflags)
        self.cpl = 0
        self.pc = entry.ip if self.long64 else entry.ip + self.seg_base[1] & 0xFFFFFFFF
        self.update_mode()
        self.flush_tlb(True)

    def start(self, vector: int) -> None:
        """SIPI; ignored unless it was waited for."""
        if self.waiting:
            self.__dict__["waiting"] = self.__dict__["halted"] = False
            super().start(vector)

    def describe(self) -> str:
        """The registers, as -d cpu_reset and the monitor show them."""
        lines = [" ".join(f"{GPR64[i].upper():3}={self.gpr[i]:016x}" for i in range(row, row + 4)) for row in range(0, 16, 4)]
        lines.append(f"RIP={self.offset(self.pc):016x} RFL={self.flags:08x} CPL={self.cpl} HLT={int(self.halted)}")
        for name, i in SEGMENT_NAMES.items():
            lines.append(
                f"{name.upper():4}={self.seg_selector[i]:04x} {self.seg_base[i]:016x} {self.seg_limit[i]:08x} {self.seg_attributes[i]:04x}"
            )
        lines.append(f"GDT= {self.gdt_base:016x} {self.gdt_limit:08x}  IDT= {self.idt_base:016x} {self.idt_limit:08x}")
        lines.append(f"CR0={self.cr0:08x} CR2={self.cr2:016x} CR3={self.cr3:016x} CR4={self.cr4:08x} EFER={self.efer:016x}")
        return "\n".join(lines)

    def read_physical(self, address: int, size: int) -> int:
        """Guest-physical memory."""
        return self.memory.read(address, size)

    # -- one in another's place
    def settle(self) -> Pending | None:
        """Stand between two instructions, all of the state in its words; what is to be delivered before the next."""
        raise NotImplementedError

    def begin(self, pending: Pending) -> None:
        """Deliver this next."""
        raise NotImplementedError

    def must_be_like(self, other: MachineProcessor) -> None:
        """Raises Unavailable where this one lacks something that the guest knows the other by."""
        if type(other.model) is not type(self.model):
            raise Unavailable(f"-cpu {other.model.name} is a processor that only its own accelerator has")
        if lacking := other.model.features - self.model.features:
            raise Unavailable(f"it lacks features that the guest was shown: {', '.join(sorted(lacking))}")

    def adopt(self, other: MachineProcessor, pending: Pending | None) -> None:
        """Go on where `other`, of another accelerator, has settled with what is `pending`. No processor may run."""
        self.state[ISA_AT : layout.size] = other.state[ISA_AT : layout.size]
        self.state[:GPR_BYTES] = other.state[:GPR_BYTES]
        self.pc = other.pc
        d, o = self.__dict__, other.__dict__
        for name in ("halted", "waiting", "nmi_pending", "acknowledge", "numeric_error"):
            d[name] = o[name]
        d["intr"] = self.apic.intr.level
        d["model"] = other.model
        d["msrs"] = dict(o.get("msrs", {}))
        self.update_mode()
        self.flush_tlb(True)
        self.watch()
        if pending is not None:
            self.begin(pending)
