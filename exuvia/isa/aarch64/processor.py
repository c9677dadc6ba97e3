"""The processor in a machine: reset, its wires, what comes between two instructions, how an image enters it (DDI 0487, D1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from exuvia.dsl import processor
from exuvia.dsl.processor import Registers
from exuvia.dsl.tick import PENDING
from exuvia.isa.aarch64 import debug
from exuvia.isa.aarch64.cpu import EC_DATA, EC_FETCH, EC_WATCHPOINT
from exuvia.isa.aarch64.exceptions import EC_SHIFT, FIQ, IL, IRQ, SCTLR_A, SYNCHRONOUS
from exuvia.isa.aarch64.faults import Fault, rare
from exuvia.isa.aarch64.paging import FETCH, HCR_DC, HCR_FMO, HCR_IMO, HCR_TGE, SCTLR_M, STAGE2, WATCHPOINT, WNR
from exuvia.isa.aarch64.state import AWARE, BTYPE_SHIFT, DAIF, DAIF_F, DAIF_I, LANDING, PRIVILEGED, SP, SPSR_PAN, STRICT, USER, layout
from exuvia.isa.aarch64.timers import FREQUENCY, Timers
from exuvia.support import log

if TYPE_CHECKING:
    from exuvia.isa.aarch64.cpus import CpuModel

HCR_VF, HCR_VI = 1 << 6, 1 << 7
SCTLR_RESET = 0x30C50838  # the bits that are one whatever is implemented, and SPAN; no big-endian data
LINES = dict(irq=DAIF_I, fiq=DAIF_F)
VIRTUAL_LINES = dict(virq=DAIF_I, vfiq=DAIF_F)
EXTERNAL_ABORT = 0x10
ACCESS_SIZE, ACCESS_KIND = 8, 24  # in the engine's access word
MOST_WANTED = 32  # invalidations that a processor is told of one by one


class Processor(processor.Processor):
    """`controller`, if it has `read_register` and `write_register`, is the GIC's CPU interface behind the registers ICC_*.

    A machine wires `timers.virtual.output` and the others, and says by `conduit` how PSCI is called: "hvc", "smc" or "" for not at all.
    """

    layout = layout
    rare = rare

    x: Registers
    v: Registers
    el: int
    daif: int
    lines: int
    hcr_el2: int
    hpfar_el2: int
    sctlr_el1: int
    sctlr_el2: int
    btype: int
    walk_error: int
    tlb: int
    met_guarded: int
    pstate_ss: int
    step_armed: int
    mpidr_el1: int
    index: int
    machine: Any
    controller: Any
    clock: Any
    halted: bool
    powered_off: bool
    virtual_lines: int
    tick_state: int
    timers: Timers
    conduit: str
    dbgbvr: Registers
    dbgbcr: Registers
    dbgwvr: Registers
    dbgwcr: Registers
    watch_first: Registers
    watch_last: Registers
    watch_who: Registers
    watch_context: Registers
    watch_mask: Registers
    breakpoint_pages: set[int]
    resume: int
    peers: list[Any]
    engine: Any
    native: Any
    host: Callable[[int, int], int]  # (linear, access word): translates, or raises `page_fault`

    def __init__(self, state: memoryview, model: CpuModel) -> None:
        super().__init__(state, model)
        d = self.__dict__
        d["powered_off"], d["conduit"], d["breakpoint_pages"] = False, "hvc", set()
        d["flush_wanted"] = []
        d["timers"] = Timers(self)

    # -- reset and power
    def reset(self) -> None:
        """As after power-on, at the highest exception level; processors other than the first are off."""
        self.initialize()
        self.__dict__["powered_off"] = self.__dict__["halted"] = self.index != 0

    def initialize(self) -> None:
        """What the registers are after a reset."""
        super().reset()
        model, d = self.model, self.__dict__
        self.tlb_system = self.tlb_base  # what is accessed as EL0 would
        self.has_el2 = int(bool(getattr(self.machine, "virtualization", False)))
        for feature in ("pan", "dit", "bti", "e0pd"):
            setattr(self, f"has_{feature}", int(feature in model))
        self.el = self.highest
        self.midr_el1 = self.vpidr_el2 = model.kind.midr
        self.mpidr_el1 = self.vmpidr_el2 = model.mpidr
        self.ctr_el0, self.physical_bits = model.kind.ctr, model.kind.address_bits
        self.sctlr_el1 = self.sctlr_el2 = SCTLR_RESET
        self.cntfrq_el0 = FREQUENCY
        self.others = int(len(self.machine.vcpus) > 1)
        debug.arm(self)
        for timer in d["timers"].all:
            timer.update()
        self.update_mode()
        self.flush_tlb(True)

    def power_off(self) -> None:
        """Until `power_on`."""
        self.__dict__["powered_off"] = self.__dict__["halted"] = True

    def power_on(self, entry: int, context: int, el: int) -> None:
        """Start at `entry` with x0 = `context`, at the exception level of who asked."""
        for timer in self.timers.all:
            timer.write("ctl", 0)
        lines, virtual = self.lines, self.virtual_lines  # the wires are what they are
        self.initialize()
        self.lines, self.virtual_lines, self.el = lines, virtual, el
        self.x[0], self.pc, self.resume = context, entry, 0
        self.update_mode()
        self.__dict__["powered_off"] = self.__dict__["halted"] = False
        self.attention(bool(lines))

    def halt_for_good(self) -> None:
        """No instruction more: the machine goes off or resets."""
        self.__dict__["halted"] = self.__dict__["powered_off"] = True

    def enter(self, entry: Any) -> None:
        """Take the state in which a loaded image begins (boot/arm64.py)."""
        for name, value in entry.registers.items():
            self.x[int(name[1:])] = value
        self.pc = entry.pc
        self.el = min(entry.level, self.highest)
        self.update_mode()
        self.flush_tlb(True)

    @property
    def highest(self) -> int:
        """The highest exception level that there is."""
        return 2 if self.has_el2 else 1

    def update_mode(self) -> None:
        """After a change of EL or PAN."""
        self.mode = (PRIVILEGED if self.el else USER) | (LANDING if self.btype else self.strict | self.knows_guarded)
        self.switch_tlb(0 if self.el == 0 else 2 if self.pan else 1)

    @property
    def strict(self) -> int:
        """STRICT, where accesses must be aligned: SCTLR_ELx.A says so, or no translation says what is memory."""
        sctlr, hcr = self.sctlr_el2 if self.el == 2 else self.sctlr_el1, self.hcr_el2
        on = sctlr & SCTLR_M and (self.el == 2 or not hcr & HCR_TGE) or self.el < 2 and hcr & HCR_DC
        return 0 if on and not sctlr & SCTLR_A else STRICT

    @property
    def knows_guarded(self) -> int:
        """AWARE, where this exception level has met guarded pages."""
        return AWARE if self.met_guarded & (2 if self.el else 1) else 0

    # -- wires
    def signal(self, line: str, level: bool) -> None:
        """`irq`, `fiq`, and `virq`, `vfiq` of what a hypervisor sends."""
        d = self.__dict__
        if line in LINES:
            bit = LINES[line]
            self.lines = self.lines | bit if level else self.lines & ~bit
        else:
            bit = VIRTUAL_LINES[line]
            self.virtual_lines = self.virtual_lines | bit if level else self.virtual_lines & ~bit
        if level:
            if not d["powered_off"]:
                d["halted"] = False
            self.attention(True)  # whether it is masked is known when native code is left

    # -- between two instructions
    def between(self) -> bool:
        """Forget translations that another processor had us forget; take the interrupt that is welcome."""
        d, words, at = self.__dict__, self.words, self.at
        if d["flush_wanted"]:
            self.flush_as_asked()
        if d["powered_off"]:
            return True
        lines, virtual = self.waiting()
        if (lines or virtual) and (found := self.welcome(lines, virtual)) is not None:
            d["halted"] = False
            self.take(*found)
        self.attention(bool(d["flush_wanted"]))
        if (words[at["step_armed"]] or words[at["every_instruction"]]) and not words[at["resume"]] and not d["halted"]:
            (debug.software_step if words[at["step_armed"]] else debug.stepped)(self)
            return False
        return True

    # -- one instruction at a time
    def stepped(self) -> None:
        """Code on a page with a breakpoint."""
        debug.stepped(self)

    def fetchable(self) -> bool:
        """Can the instruction at `pc` be fetched? If not, its exception is what comes next."""
        access = FETCH | 1 << ACCESS_SIZE
        try:
            self.host(self.pc, access)
        except Fault:
            self.access, self.address, self.op = access, self.pc, 0
            self.resume_at("access_fault")
            return False
        return True

    def instruction(self) -> None:
        """The one at `pc`, which can be fetched. Where a branch lands, that it may is looked at first."""
        here = self.pc
        while self.mode & LANDING and self.pc == here and not self.resume:
            self.single_step()
        if self.pc == here and not self.resume:
            self.single_step()

    def waiting(self) -> tuple[int, int]:
        """Interrupts that are up, masked or not, as bits of DAIF: physical ones, and the virtual ones of the GIC and of HCR_EL2."""
        words, at = self.words, self.at
        hcr = words[at["hcr_el2"]]
        pended = (DAIF_I if hcr & HCR_VI else 0) | (DAIF_F if hcr & HCR_VF else 0) if hcr else 0
        return words[at["lines"]] | (DAIF_I if words[at["tick_state"]] == PENDING else 0), words[at["virtual_lines"]] | pended

    def welcome(self, lines: int, virtual: int) -> tuple[int, bool] | None:
        """The kind of interrupt that is not masked, and whether it is EL2's (D1.3.6)."""
        words, at = self.words, self.at
        el, daif, hcr = words[at["el"]], words[at["daif"]], words[at["hcr_el2"]]
        for bit, kind, routed in ((DAIF_F, FIQ, HCR_FMO), (DAIF_I, IRQ, HCR_IMO)):
            if lines & bit:
                to2 = bool(words[at["has_el2"]] and hcr & (routed | HCR_TGE))
                if to2 and (el < 2 or not daif & bit) or not to2 and el < 2 and not daif & bit:
                    return kind, to2
            if virtual & bit and hcr & routed and not hcr & HCR_TGE and el < 2 and not daif & bit:
                return kind, False
        return None

    def take(self, kind: int, to2: bool) -> None:
        """Begin an interrupt's exception."""
        words, at = self.words, self.at
        words[at["exception_kind"]], words[at["exception_return"]], words[at["exception_el2"]] = kind, words[at["pc"]], int(to2)
        if log.interrupts.on:
            log.interrupts(f"cpu {self.index}: {'IRQ' if kind == IRQ else 'FIQ'} at {self.pc:#x}")
        self.resume_at("exception")

    def wait_for_interrupt(self) -> None:
        """WFI: halted until a line is up, masked or not."""
        if not any(self.waiting()):
            self.__dict__["halted"] = True

    def tick_pending(self) -> None:
        """The virtual timer's interrupt, which native code delivers."""
        if not self.powered_off:
            self.__dict__["halted"] = False
            self.machine.attend(self)

    def input_arrived(self) -> None:
        """What a call of semihosting waits for."""
        if not self.powered_off:
            self.__dict__["halted"] = False
            self.machine.attend(self)

    # -- faults
    def fault(self, fault: processor.Fault, here: int) -> None:
        """A synchronous exception of the instruction at `here`."""
        assert isinstance(fault, Fault)
        if fault.address is not None:
            self.fault_address = fault.address
        self.syndrome = fault.ec << EC_SHIFT | IL | fault.iss
        self.exception_kind, self.exception_return, self.exception_el2 = SYNCHRONOUS, here, int(fault.el2)
        self.resume_at("exception")

    def page_fault(self, linear: int) -> Fault:
        """A data abort by the walk's word."""
        if self.walk_error & WATCHPOINT:
            return Fault(EC_WATCHPOINT, debug.STATUS | self.walk_error & WNR, self.fault_address)
        return Fault(EC_DATA, self.walk_error & 0xBF, linear, bool(self.walk_error & STAGE2))

    def fetch_fault(self, linear: int) -> Fault:
        """Code where no memory is: a synchronous external abort."""
        return Fault(EC_FETCH, EXTERNAL_ABORT, linear)

    # -- translations of several processors
    def everybody_forgets(self, forget: Callable[[Any], None]) -> None:
        """A TLBI of all processors: the others do it before their next instruction, and are out of what they are doing when this ends."""
        for other in self.peers:
            if other is not self and not other.powered_off:  # which has nothing to forget when it is started
                wanted = other.__dict__["flush_wanted"]
                if len(wanted) < MOST_WANTED:
                    wanted.append(forget)
                else:  # it sleeps
                    wanted[:] = [lambda processor: processor.flush_tlb(True)]
                other.attention(True)
        forget(self)
        self.engine.settle(self.native.address)

    def flush_as_asked(self) -> None:
        """What others wanted forgotten."""
        wanted, self.__dict__["flush_wanted"] = self.__dict__["flush_wanted"], []
        for forget in wanted:
            forget(self)

    # -- for people
    @property
    def nzcv(self) -> int:
        """The flags as four bits."""
        nz, cv = self.nz, self.cv
        return (nz >> 63 ^ cv & 1) << 3 | (nz == 0) << 2 | cv >> 30 & 3

    @property
    def spsr(self) -> int:
        """PSTATE as SPSR_ELx has it."""
        return self.nzcv << 28 | (SPSR_PAN if self.pan else 0) | self.btype << BTYPE_SHIFT | self.daif & DAIF | self.el << 2 | self.spsel

    def describe(self) -> str:
        """The registers, as -d cpu_reset and the monitor show them."""
        names = [f"X{i:02}={self.x[i]:016x}" for i in range(31)] + [f"SP={self.x[SP]:016x}"]
        lines = [f"PC={self.pc:016x} " + " ".join(names[:3])]
        lines += [" ".join(names[i : i + 4]) for i in range(3, 31, 4)]
        lines.append(f"{names[31]} PSTATE={self.spsr:08x} EL{self.el} HLT={int(self.halted)}")
        lines.append(f"ELR_EL1={self.elr_el1:016x} SPSR_EL1={self.spsr_el1:08x} ESR_EL1={self.esr_el1:08x} FAR_EL1={self.far_el1:016x}")
        lines.append(f"SCTLR_EL1={self.sctlr_el1:08x} TCR_EL1={self.tcr_el1:016x} TTBR0={self.ttbr0_el1:016x} TTBR1={self.ttbr1_el1:016x}")
        return "\n".join(lines)

    def take_place(self, other: processor.Processor) -> None:
        """No other accelerator has one."""
        raise NotImplementedError
