"""The processor in a machine: its wires, what comes between two instructions, and how an image enters it (SDM vol. 3, 6.6, 6.8, 8.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from exuvia.dsl import processor
from exuvia.dsl.tick import PENDING
from exuvia.isa.x86 import concrete
from exuvia.isa.x86.concrete import Fault, canonical
from exuvia.isa.x86.rare import debug
from exuvia.isa.x86.state import EXTERNAL, GP, IF, INHIBIT_SS, NMI, PF, RF, TF, UD
from exuvia.support import log

if TYPE_CHECKING:
    from exuvia.isa.x86.cpus import CpuModel

SEGMENT_NAMES = {"es": 0, "cs": 1, "ss": 2, "ds": 3, "fs": 4, "gs": 5, "ldtr": 6, "tr": 7}
GPR64 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
WORD_MASK = (1 << 64) - 1


class Pending(NamedTuple):
    """An exception, or an interrupt that was acknowledged, whose delivery has not begun."""

    vector: int
    error: int | None
    external: bool


class Processor(concrete.Processor):
    """One with a local APIC, which drives INTR, NMI, INIT and SIPI. What it needs of an engine is in dsl/processor.py."""

    intr: bool
    nmi_pending: bool
    intr_high: int
    others: int
    tick_state: int
    waiting: bool  # for SIPI
    halted: bool
    long_mode: bool  # it has 64-bit mode
    acknowledge: Callable[[], int]
    ports_watched: bool
    count: Callable[[], int]  # the host's counter, which the machine stops with virtual time
    index: int
    machine: Any
    controller: Any
    single_step: Callable[[], None]

    def __init__(self, state: memoryview, model: CpuModel) -> None:
        super().__init__(state, model)
        d = self.__dict__
        d["intr"] = d["nmi_pending"] = d["waiting"] = d["ports_watched"] = False
        d["long_mode"] = "lm" in model
        d["acknowledge"] = lambda: 0xFF

    @property
    def apic(self) -> Any:
        """The local APIC."""
        return self.controller

    # -- wires
    def signal(self, line: str, level: bool) -> None:
        """`intr` or `nmi`, which is an edge."""
        if line == "intr":
            self.interrupt(level)
        elif level:
            self.nmi()

    def interrupt(self, level: bool) -> None:
        """Drive the INTR line."""
        self.__dict__["intr"] = level
        self.intr_high = int(level)
        self.show_pending()

    def tick_pending(self) -> None:
        """The local APIC's timer interrupt, which native code delivers."""
        if not self.waiting and self.eflags & IF:
            self.__dict__["halted"] = False
            self.machine.attend(self)

    @property
    def interrupted(self) -> bool:
        """Does an interrupt wait that IF lets in or not?"""
        return self.intr or self.tick_state == PENDING

    def nmi(self) -> None:
        """A non-maskable interrupt, before the next instruction."""
        self.__dict__["nmi_pending"] = True
        self.show_pending()

    @property
    def nmi_welcome(self) -> bool:
        """Is there one, and none is being handled (SDM vol. 3, 6.7.1)?"""
        return self.nmi_pending and not self.nmi_blocked

    def unblock_nmi(self) -> None:
        """One that came meanwhile is next."""
        super().unblock_nmi()
        self.show_pending()

    def show_pending(self) -> None:
        """After any change of what waits: the engine is to look, and HLT may end."""
        d = self.__dict__
        nmi = d["nmi_pending"] and self.nmi_welcome
        # with IF clear it is looked at when that is set; of a processor that another thread runs, the word may be old
        pending = nmi or d["intr"] and bool(self.others or self.words[self.at["eflags"]] & IF)
        self.attention(pending)
        if pending and not d["waiting"] and (nmi or self.words[self.at["eflags"]] & IF):
            d["halted"] = False

    def init(self) -> None:
        """INIT."""
        self.initialize()
        self.resume = 0
        self.flush_tlb(True)
        d = self.__dict__
        d["waiting"] = d["halted"] = self.index != 0
        d["nmi_pending"] = False

    def start(self, vector: int) -> None:
        """SIPI; ignored unless it was waited for."""
        if self.waiting:
            self.__dict__["waiting"] = self.__dict__["halted"] = False
            super().start(vector)

    def reset(self) -> None:
        """As after power-on; processors other than the first wait for SIPI."""
        super().reset()
        vcpus = self.machine.vcpus
        self.tsc_offset = vcpus[0].tsc_offset if self.index else -self.count()
        self.apic_base = self.apic.base
        self.others = int(len(vcpus) > 1)
        d = self.__dict__
        d["intr"] = d["nmi_pending"] = False
        self.intr_high = 0
        d["waiting"] = d["halted"] = self.index != 0
        self.show_pending()

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

    # -- between two instructions
    def between(self) -> bool:
        """Traps, then interrupts, then the single step that TF or an instruction breakpoint asks for."""
        d, words, at = self.__dict__, self.words, self.at
        if words[at["pending_db"]]:
            if self.held == INHIBIT_SS:  # held back for one instruction
                debug.stepped(self, self.single_step)
                return False
            debug.trap(self)
        if d["intr"] or d["nmi_pending"] or words[at["tick_state"]] == PENDING:
            if not (words[at["eflags"]] & IF or d["nmi_pending"]):
                self.attention(False)  # it is looked at when IF is set
            elif not self.take_interrupt():
                return False
        if not d["halted"] and not words[at["resume"]] and words[at["eflags"]] & (TF | RF):
            debug.stepped(self, self.single_step)
            return False
        return True

    def take_interrupt(self) -> bool:
        """Begin the delivery of what is pending, if it is welcome; False if an instruction has to run before."""
        d, words, at = self.__dict__, self.words, self.at
        nmi = d["nmi_pending"] and self.nmi_welcome
        if not nmi and not (self.interrupted and words[at["eflags"]] & IF):
            self.attention(False)
            return True
        if words[at["inhibit"]] and self.held and not d["halted"]:
            debug.stepped(self, self.single_step)
            return False
        words[at["inhibit"]] = 0
        d["halted"] = False
        if nmi:
            d["nmi_pending"] = False
            self.nmi_blocked = 1
            vector = NMI
        else:
            vector = self.acknowledge()
        self.show_pending()
        if log.interrupts.on:
            log.interrupts(f"cpu {self.index}: interrupt {vector:#x} at {self.pc:#x}")
        self.begin(Pending(vector, None, True))
        return True

    def begin(self, pending: Pending) -> None:
        """Deliver an interrupt or an exception next."""
        vector = pending.vector
        if not pending.external:
            self.fault(Fault(vector, pending.error), self.pc)
            return
        words, at = self.words, self.at
        words[at["vector"]], words[at["error"]], words[at["event"]], words[at["event_has_error"]] = vector, 0, EXTERNAL, 0
        words[at["event_ip"]] = words[at["event_start"]] = self.offset(words[at["pc"]])
        self.resume_at("deliver")

    def halt(self) -> None:
        """Until an interrupt."""
        if not ((self.interrupted and self.eflags & IF) or self.nmi_welcome):
            self.__dict__["halted"] = True

    def shutdown(self) -> None:
        """A triple fault."""
        log.cpu_reset(f"cpu {self.index}: triple fault at {self.pc:#x}\n{self.describe()}")
        self.__dict__["halted"] = True
        self.machine.request_reset("triple fault")

    # -- faults of fetching and translation
    def page_fault(self, linear: int) -> Fault:
        """Why there was no translation."""
        if self.long64 and not canonical(linear):
            return Fault(GP, 0)
        return Fault(PF, self.walk_error, linear)

    def fetch_fault(self, linear: int) -> Fault:
        """What devices and nothing answer is no instruction."""
        return Fault(UD)

    def limit_fault(self) -> Fault:
        """The code segment ends before the instruction does."""
        return Fault(GP, 0)

    # -- breakpoints
    def watch(self) -> None:
        """Pages with breakpoints are kept from the fast paths: their code is stepped through, accesses to their data are reported."""
        enabled = list(debug.breakpoints(self))
        pages: tuple[list[int], list[int]] = [], []
        for kind, linear in enabled:
            if kind != debug.IO:
                pages[kind == debug.EXECUTE].append(linear & ~0xFFF)
        self.__dict__["ports_watched"] = any(kind == debug.IO for kind, _ in enabled)
        self.watch_pages(*pages)

    def stepped(self) -> None:
        """Code on a page with a breakpoint."""
        debug.stepped(self, self.single_step)

    def accessed(self, linear: int, size: int, write: bool) -> None:
        """An access to a page with a breakpoint."""
        debug.accessed(self, linear, size, write)

    def port_accessed(self, port: int, size: int) -> None:
        """IN or OUT while `ports_watched`."""
        debug.port_accessed(self, port, size)

    # -- the local APIC, time
    def task_priority(self, value: int | None = None) -> int:
        """CR8."""
        if value is not None:
            self.apic.task_priority = value
        return int(self.apic.task_priority)

    def apic_changed(self) -> None:
        """IA32_APIC_BASE was written."""
        try:
            self.apic.base = self.apic_base
        except ValueError:
            raise Fault(GP, 0) from None

    def timestamp(self) -> int:
        """The TSC."""
        return (self.count() & self.tsc_runs) + self.tsc_offset & WORD_MASK

    def hold_counter(self) -> None:
        """The TSC goes on by `skip` alone."""
        self.tsc_runs = self.tsc_offset = 0

    def skip(self, ticks: int) -> None:
        """The TSC does not count what the host's did just now."""
        self.tsc_offset = self.tsc_offset - ticks & WORD_MASK

    # -- for people, and in another's place
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

    def take_place(self, other: processor.Processor) -> None:
        """Wires, MSRs and what is pending are as `other` had them."""
        d, o = self.__dict__, other.__dict__
        for name in ("waiting", "nmi_pending", "acknowledge", "numeric_error"):
            d[name] = o[name]
        d["intr"] = self.apic.intr.level
        self.intr_high = int(d["intr"])
        d["msrs"] = dict(o.get("msrs", {}))
        self.others = int(len(self.machine.vcpus) > 1)
        self.watch()
        self.attention(d["intr"] or self.nmi_welcome)
