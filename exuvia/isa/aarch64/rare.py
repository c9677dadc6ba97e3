"""What instructions leave to plain Python: registers that are no words, timers, the GIC, waiting, calls of firmware (DDI 0487, D19)."""

from __future__ import annotations

from exuvia.isa.aarch64 import debug, gic, psci
from exuvia.isa.aarch64.cpu import AT_BOTH, AT_STAGE1, EC_DATA, EC_HVC, EC_SMC
from exuvia.isa.aarch64.faults import Fault, fields, rare, trap, undefined
from exuvia.isa.aarch64.maintenance import PAGE
from exuvia.isa.aarch64.paging import HCR_FMO, HCR_IMO, S1PTW, SHAREABILITY, STAGE2, WNR, WRITE
from exuvia.isa.aarch64.processor import ACCESS_KIND, ACCESS_SIZE, Processor
from exuvia.isa.aarch64.state import DAIF_F, DAIF_I, SINK, ZR
from exuvia.isa.aarch64.system import HCR_TID2
from exuvia.isa.aarch64.timers import EL0PTEN, EL0VTEN, EL1PCEN

HCR_TID1, HCR_TID3, HCR_TSC, HCR_HCD, HCR_TLOR = (1 << i for i in (16, 18, 19, 29, 35))
RES1, NOT_SECURE = 1 << 11, 1 << 9  # in PAR_EL1
CM = 1 << 8  # in ESR_ELx, of a data abort of AT
Encoding = tuple[int, int, int, int, int]
IDENTIFICATION = {
    (4, 0): "pfr0", (4, 1): "pfr1", (5, 0): "dfr0", (6, 0): "isar0", (6, 1): "isar1", (7, 0): "mmfr0", (7, 1): "mmfr1", (7, 2): "mmfr2",
}  # fmt: skip  # ID_AA64*_EL1 by CRm and op2
TIMERS = {
    (3, 3, 14, 2, 0): ("physical", "tval"), (3, 3, 14, 2, 1): ("physical", "ctl"), (3, 3, 14, 2, 2): ("physical", "cval"),
    (3, 3, 14, 3, 0): ("virtual", "tval"), (3, 3, 14, 3, 1): ("virtual", "ctl"), (3, 3, 14, 3, 2): ("virtual", "cval"),
    (3, 4, 14, 2, 0): ("hypervisor", "tval"), (3, 4, 14, 2, 1): ("hypervisor", "ctl"), (3, 4, 14, 2, 2): ("hypervisor", "cval"),
}  # fmt: skip
LIMITED_ORDERING = [(3, 0, 10, 4, op2) for op2 in (0, 1, 2, 3, 7)]  # LORSA, LOREA, LORN, LORC, LORID: there are no regions
CNTFRQ = (3, 3, 14, 0, 0)
ISR, RVBAR1, RVBAR2 = (3, 0, 12, 1, 0), (3, 0, 12, 0, 1), (3, 4, 12, 0, 1)
OF_AARCH32 = [(3, 4, 4, 3, op2) for op2 in range(4)]  # SPSR_irq, _abt, _und, _fiq: RES0 where EL1 has AArch64 only


def timer_trapped(p: Processor, where: Encoding, instruction: int) -> None:
    """CNTKCTL_EL1 says whether EL0 has the timers, CNTHCTL_EL2 whether EL1 and EL0 have the physical one."""
    physical = where[1:4] == (3, 14, 2)
    if p.el == 0 and not p.cntkctl_el1 & (EL0PTEN if physical else EL0VTEN):
        raise trap(instruction)
    if physical and p.has_el2 and p.el < 2 and not p.cnthctl_el2 & EL1PCEN:
        raise trap(instruction, el2=True)


@rare
def read_system_register(p: Processor, instruction: int) -> None:
    where = fields(instruction)
    value = read(p, where, instruction)
    if instruction & 31 != ZR:
        p.x[instruction & 31] = value
    else:
        p.x[SINK] = value


def read(p: Processor, where: Encoding, instruction: int) -> int:
    """The value; Fault where there is none at this exception level."""
    op0, op1, n, m, op2 = where
    if where in TIMERS and (op1 == 3 or p.el == 2):
        timer_trapped(p, where, instruction)
        name, register = TIMERS[where]
        return int(getattr(p.timers, name).read(register))
    if p.el == 0 and where not in debug.OF_EL0:
        raise undefined()
    if (name_ := gic.register(p, where, instruction)) is not None:
        return int(p.controller.read_register(name_))
    if (op0, op1, n) == (3, 0, 0):
        known_to_el2(p, instruction, HCR_TID3 if m else HCR_TID1)
        if (end := IDENTIFICATION.get((m, op2))) is not None:
            return int(p.model.identification(bool(p.has_el2), hasattr(p.controller, "read_register"))[end])
        if m <= 7:
            return 0  # AArch32, and what is reserved
    if (op0, op1, n, m) == (3, 1, 0, 0):
        known_to_el2(p, instruction, HCR_TID1 if op2 == 7 else HCR_TID2)
        kind = p.model.kind
        return int({0: kind.caches[{0: 0, 1: 1}.get(p.csselr_el1 & 15, 2)], 1: kind.clidr}.get(op2, 0))
    if where in LIMITED_ORDERING and "lor" in p.model:
        known_to_el2(p, instruction, HCR_TLOR)
        return 0
    if op0 == 2:
        return debug.read(p, where, instruction)
    if where == ISR:
        return pending(p)
    if where == (RVBAR2 if p.has_el2 else RVBAR1) and p.el == p.highest or where in OF_AARCH32 and p.el == 2:
        return 0
    p.unknown(f"read of system register S{op0}_{op1}_C{n}_C{m}_{op2} at {p.here:#x}")
    raise undefined()


def known_to_el2(p: Processor, instruction: int, bit: int) -> None:
    """A trap of HCR_EL2."""
    if p.el == 1 and p.hcr_el2 & bit:
        raise trap(instruction, el2=True)


def pending(p: Processor) -> int:
    """ISR_EL1 (D19.2.67), whose bits stand where DAIF's do: interrupts that wait, EL1's own virtual ones where EL2 has it so."""
    physical, virtual = p.waiting()
    routed = p.hcr_el2 & HCR_IMO and DAIF_I, p.hcr_el2 & HCR_FMO and DAIF_F
    own = sum(routed) if p.el == 1 and p.has_el2 else 0
    return physical & ~own | virtual & own


@rare
def write_system_register(p: Processor, instruction: int, value: int) -> None:
    where = op0, op1, n, m, op2 = fields(instruction)
    if where in TIMERS and (op1 == 3 or p.el == 2):
        timer_trapped(p, where, instruction)
        name, register = TIMERS[where]
        getattr(p.timers, name).write(register, value)
        return
    if p.el == 0 and where not in debug.OF_EL0:
        raise undefined()
    if (name_ := gic.register(p, where, instruction)) is not None:
        p.controller.write_register(name_, value)
    elif where == CNTFRQ and p.el == p.highest:
        p.cntfrq_el0 = value
    elif where in LIMITED_ORDERING[:-1] and "lor" in p.model:
        known_to_el2(p, instruction, HCR_TLOR)
    elif op0 == 2:
        debug.write(p, where, instruction, value)
    elif where not in OF_AARCH32 or p.el != 2:
        p.unknown(f"write of system register S{op0}_{op1}_C{n}_C{m}_{op2} at {p.here:#x}")
        raise undefined()


@rare
def between_instructions(p: Processor) -> None:
    """`Processor.between` sees what there is to do."""


@rare
def timers_change(p: Processor) -> None:
    """CNTVOFF_EL2 was written."""
    p.timers.virtual.update()


@rare
def wait(p: Processor) -> None:
    """WFI."""
    p.wait_for_interrupt()


@rare
def hypervisor_call(p: Processor, number: int) -> None:
    """HVC: firmware's, where there is no EL2."""
    if p.has_el2:
        if p.hcr_el2 & HCR_HCD:
            raise undefined()
        call(p, EC_HVC, number)
    elif p.conduit == "hvc":
        psci.call(p)
    else:
        raise undefined()


@rare
def secure_monitor_call(p: Processor, number: int) -> None:
    """SMC: firmware's; there is no EL3."""
    if p.has_el2 and p.el == 1 and p.hcr_el2 & HCR_TSC:
        raise Fault(EC_SMC, number, el2=True)
    if p.conduit != "smc":
        raise undefined()
    psci.call(p)


def call(p: Processor, ec: int, number: int) -> None:
    """An exception to EL2 that comes back behind the instruction."""
    p.pstate_ss = 0  # it is done, where it was the one to be stepped
    p.fault(Fault(ec, number, el2=True), p.pc)


@rare
def invalidate(p: Processor, what: int, linear: int) -> None:
    """TLBI of all processors."""
    if what == PAGE:
        p.everybody_forgets(lambda other: other.invalidate_page(linear))
    else:
        p.everybody_forgets(lambda other: other.flush_tlb(bool(what - 1)))


@rare
def translate_address(p: Processor, instruction: int, linear: int) -> None:
    """AT: what the tables say, into PAR_EL1 (D8.14): of stage 1 of EL1&0 or EL2, or of both stages, whoever asks."""
    op1, op2, el, tlb = instruction >> 16 & 7, instruction >> 5 & 7, p.el, p.tlb
    if op1 == 4 and el != 2:
        raise undefined()
    second, both, unprivileged = op1 == 4 and op2 < 2, op2 >= 4, bool(op2 & 2)
    kept = p.hpfar_el2
    p.invalidate_page(linear)
    p.el = 2 if second else 1
    p.switch_tlb(0 if unprivileged else 1)
    try:
        p.host(linear, 1 << ACCESS_SIZE | (AT_BOTH if both else AT_STAGE1) << ACCESS_KIND | (WRITE if op2 & 1 else 0))
    except Fault:
        error = p.walk_error
        if el == 1 and error & STAGE2:  # the hypervisor's fault, in a table of stage 1
            p.el = el
            p.fault(Fault(EC_DATA, error & 0xBF | CM | WNR, linear, True), p.here)
            return
        p.hpfar_el2 = kept
        p.par_el1 = RES1 | bool(error & STAGE2) << 9 | bool(error & S1PTW) << 8 | (error & 0x3F) << 1 | 1
    else:
        attributes = p.walk_attributes
        shared = attributes >> SHAREABILITY
        p.par_el1 = (attributes & 0xFF) << 56 | p.walk_page & (1 << 48) - 1 & ~0xFFF | RES1 | NOT_SECURE | shared << 7
    finally:
        p.el, p.tlb = el, tlb
