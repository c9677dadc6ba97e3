"""Exceptions: from an instruction's fault to the handler, and back by ERET (DDI 0487, D1.3, D1.4).

`ROUTINES["exception"]` takes an exception with the state words `syndrome` (ESR_ELx), `fault_address`, `exception_return`,
`exception_kind` (0 synchronous, 0x80 IRQ, 0x100 FIQ, 0x180 SError) and `exception_el2` (1 where it is for EL2 whatever HCR_EL2.TGE says).
"""

from __future__ import annotations

from exuvia.dsl.record import FIELDS
from exuvia.dsl.tick import PENDING
from exuvia.dsl.trace import Var, seldom, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.aarch64.cpu import (
    EC_BREAKPOINT,
    EC_BRK,
    EC_DATA,
    EC_FETCH,
    EC_ILLEGAL,
    EC_PC,
    EC_STEP,
    EC_SVC,
    EC_WATCHPOINT,
    MAINTENANCE,
    TO_EL2,
    Cpu,
    enter,
    leave,
    raise_,
    undefined,
)
from exuvia.isa.aarch64.debug import STATUS, step_armed
from exuvia.isa.aarch64.flags import nzcv_word
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.paging import (
    ADDRESS_SIZE,
    FETCH,
    GUARDED_PAGE,
    HCR_DC,
    HCR_TGE,
    PERMISSION,
    S1PTW,
    STAGE2,
    TRANSLATION,
    WATCHPOINT,
    WNR,
    WRITE,
    debug_enabled,
    debug_to_el2,
    loads_too,
    pick,
    segment,
    stage1_on,
    yes,
)
from exuvia.isa.aarch64.state import (
    AWARE,
    BTYPE_SHIFT,
    DAIF,
    DAIF_F,
    DAIF_I,
    LANDING,
    PRIVILEGED,
    SP,
    SPSR_DIT,
    SPSR_IL,
    SPSR_PAN,
    SPSR_SS,
    STRICT,
    USER,
)  # fmt: skip

SEMIHOSTING = 0xF000  # of HLT in A64 (Semihosting for AArch32 and AArch64, 2.0)
EC_SHIFT, IL = 26, 1 << 25
SYNCHRONOUS, IRQ, FIQ, SERROR = 0, 0x80, 0x100, 0x180
SCTLR_A, SCTLR_SPAN = 1 << 1, 1 << 23


def word(cpu: Cpu, name: str) -> Value:
    """A word of the engine's part of the state."""
    return cpu.get((name, 0, 64))


def synchronous(cpu: Cpu, ec: Value, iss: Value, to_el2: Value | int, back: Value) -> None:
    """Take a synchronous exception that returns to `back`."""
    cpu.syndrome = ec << EC_SHIFT | IL | iss
    cpu.exception_kind = SYNCHRONOUS
    cpu.exception_el2 = to_el2
    cpu.exception_return = back
    enter("exception")


def fault(cpu: Cpu) -> None:
    """A text raised it."""
    vector = word(cpu, "fault_vector")
    synchronous(cpu, vector & (TO_EL2 - 1), word(cpu, "fault_error"), yes((vector & TO_EL2) != 0, 1), word(cpu, "pc"))


def access_syndrome(instruction: Value) -> Value:
    """ISV, SAS, SSE, SRT, SF and AR of one that loads or stores a general register and changes no other (D17.2.37, ISS of data aborts)."""

    def is_(mask: int, match: int) -> Value:
        return (instruction & mask) == match

    size, opc = (instruction.u >> 30) & 3, (instruction.u >> 22) & 3
    offset = is_(0x3F00_0000, 0x3900_0000) | is_(0x3F20_0400, 0x3800_0000) | is_(0x3F20_0C00, 0x3820_0800)
    ordered = is_(0x3FA0_0000, 0x0880_0000) | is_(0x3FFF_FC00, 0x38BF_C000)  # LDAR, STLR, LDLAR, STLLR; LDAPR
    literal = is_(0x3F00_0000, 0x1800_0000)
    signed = pick(literal, yes(size == 2, 1), yes(offset, 1) & (opc.u >> 1))
    sas = pick(literal, pick(size == 1, 3, 2), size)
    sf = pick(literal, yes(size != 0, 1), yes((size == 3) | offset & (opc == 2), 1))
    syndrome = 1 << 24 | sas << 22 | signed << 21 | (instruction & 31) << 16 | sf << 15 | yes(ordered, 1 << 14)
    return pick(offset | ordered | literal, syndrome, 0)


def access_fault(cpu: Cpu) -> None:
    """An access found no translation: a data abort or an instruction abort."""
    access, error = word(cpu, "access"), word(cpu, "walk_error")
    with when(error == GUARDED_PAGE):  # met for the first time: it is fetched again by who knows of such pages
        cpu.met_guarded = cpu.met_guarded | pick(cpu.el == 0, 1, 2)
        enter("look_again")
    fetch, maintains = (access & FETCH) != 0, segment(access) == MAINTENANCE
    with when((error & WATCHPOINT) != 0):
        synchronous(cpu, lift(EC_WATCHPOINT, 64), error & WNR | STATUS, 0, word(cpu, "pc"))
    # of an atomic operation on memory it is the load that faults, where a load would have
    writes = ((access & WRITE) != 0) & ~(loads_too(access) & ((error & 0x3C) != PERMISSION)) | maintains
    status = error & 0xBF
    iss = pick(fetch, status, status | yes(writes, WNR) | yes(maintains, 1 << 8))
    described = Var(iss)
    with when(~fetch & ((error & (STAGE2 | S1PTW)) == STAGE2)):  # a hypervisor may want to do the access
        instruction = cpu.effect("load", 32, Node("ptr", 64, ((word(cpu, "op") + FIELDS["disp"][0]).n,))).zext(64)
        described.set(iss | access_syndrome(instruction))
    iss = described.read()
    cpu.fault_address = word(cpu, "address")
    synchronous(cpu, pick(fetch, EC_FETCH, EC_DATA), iss, yes((error & STAGE2) != 0, 1), word(cpu, "pc"))


def far(address: Value) -> Value:
    """Is it none that tables can be for: are its upper 16 bits not alike?"""
    v: Value = ~(((address.s >> 48) + 1).u < 2)
    return v


def branch_to(cpu: Cpu, target: Value) -> None:
    """AArch64.BranchTo(). The jump cache knows an address by 49 bits."""
    with seldom(far(target)):
        cpu.branch_target = target
        enter("far_branch")
    cpu.pc = target


def far_branch(cpu: Cpu) -> None:
    """To an address with a tag, which is left out (AArch64.BranchAddr()), or to one that no table is for."""
    target, el2 = cpu.branch_target, cpu.el == 2
    upper = (target.bit(55) == 1) & ~el2
    ignored, data_only = (
        pick(el2, cpu.tcr_el2.u >> own, pick(upper, cpu.tcr_el1.u >> high, cpu.tcr_el1.u >> low)).low(1) == 1
        for own, high, low in ((20, 38, 37), (29, 52, 51))
    )
    plain = pick(upper, target.low(56).sext(64), target.low(56).zext(64))
    address = pick(ignored & ~data_only, plain, target)
    with when((address & 3) != 0):
        cpu.fault_address = address
        synchronous(cpu, lift(EC_PC, 64), lift(0, 64), 0, address)
    with when(far(address)):
        for name, v in (
            ("access", FETCH | 1 << 8), ("address", address), ("op", 0),
            ("walk_error", pick(stage1_on(cpu, el2), TRANSLATION, ADDRESS_SIZE)),
        ):  # fmt: skip
            cpu.put((name, 0, 64), v)
        cpu.pc = address
        enter("access_fault")
    cpu.pc = address


def spsr_word(cpu: Cpu) -> Value:
    """PSTATE as SPSR_ELx keeps it."""
    v: Value = nzcv_word(cpu) | cpu.daif | cpu.el << 2 | cpu.spsel | cpu.btype << BTYPE_SHIFT
    for name, bit in (("pan", SPSR_PAN), ("dit", SPSR_DIT), ("pstate_ss", SPSR_SS), ("illegal", SPSR_IL)):
        v = v | yes(cpu.get((name, 0, 64)) != 0, bit)
    return v


def keep_stack_pointer(cpu: Cpu, el: Value, spsel: Value) -> None:
    """The stack pointer in use goes to its bank."""
    sp = cpu.X(SP)
    bank = pick(spsel == 0, 0, el)
    for number, name in enumerate(("sp_el0", "sp_el1", "sp_el2")):
        cpu.put((name, 0, 64), (bank == number).choose(sp, cpu.get((name, 0, 64))))


def take_stack_pointer(cpu: Cpu, el: Value, spsel: Value) -> None:
    """The stack pointer comes from its bank."""
    bank = pick(spsel == 0, 0, el)
    cpu.set_X(SP, pick(bank == 0, cpu.sp_el0, pick(bank == 1, cpu.sp_el1, cpu.sp_el2)))


def usual_mode(cpu: Cpu) -> Value:
    """The mode of an exception level, where no branch is about to land."""
    user, second = cpu.el == 0, cpu.el == 2
    sctlr = pick(second, cpu.sctlr_el2, cpu.sctlr_el1)
    strict = ((sctlr & SCTLR_A) != 0) | ~stage1_on(cpu, second) & (second | ((cpu.hcr_el2 & HCR_DC) == 0))
    aware = (cpu.met_guarded & pick(user, 1, 2)) != 0
    return pick(user, USER, PRIVILEGED) | yes(strict, STRICT) | yes(aware, AWARE)


def choose_tlb(cpu: Cpu) -> None:
    """The mode and the TLB of the exception level and of PAN."""
    cpu.mode = pick(cpu.btype != 0, LANDING | pick(cpu.el == 0, USER, PRIVILEGED), usual_mode(cpu))
    cpu.effect("switch_tlb", 0, pick(cpu.el == 0, 0, pick(cpu.pan != 0, 2, 1)))


def regime_changes(cpu: Cpu, old: Value, new: Value) -> None:
    """Between EL2 and what it guards, nothing of the TLBs is kept."""
    with when((old == 2) != (new == 2)):
        cpu.effect("flush_tlb", 0, lift(1, 64))


def exception(cpu: Cpu) -> None:
    """AArch64.TakeException()."""
    old = cpu.el
    ec = cpu.syndrome.u >> EC_SHIFT
    is_synchronous = cpu.exception_kind == SYNCHRONOUS
    debug = is_synchronous & ~(ec.u < EC_BREAKPOINT) & debug_to_el2(cpu)
    to2 = (cpu.exception_el2 != 0) | (old == 2) | ((old == 0) & ((cpu.hcr_el2 & HCR_TGE) != 0)) | debug
    new = pick(to2, 2, 1)
    same = old == new
    banked = (ec == EC_FETCH) | (ec == EC_DATA) | (ec == EC_BREAKPOINT) | (ec == EC_STEP) | (ec == EC_WATCHPOINT)
    esr = cpu.syndrome | yes(banked & same, 1 << EC_SHIFT)
    base = pick(to2, cpu.vbar_el2, cpu.vbar_el1)
    group = pick(same, pick(cpu.spsel != 0, 0x200, 0), 0x400)
    spsr = spsr_word(cpu)
    reported = is_synchronous | (cpu.exception_kind == SERROR)
    addressed = is_synchronous & (banked & (ec.u < 0x30) | (ec == EC_PC) | (ec == EC_WATCHPOINT))
    for name, c in (("_el1", ~to2), ("_el2", to2)):
        told = ("spsr", spsr, c), ("elr", cpu.exception_return, c), ("esr", esr, c & reported), ("far", cpu.fault_address, c & addressed)
        for register, value, holds in told:
            place = register + name, 0, 64
            cpu.put(place, holds.choose(value, cpu.get(place)))
    keep_stack_pointer(cpu, old, cpu.spsel)
    take_stack_pointer(cpu, new, lift(1, 64))
    sets_pan = ~to2 & (cpu.has_pan != 0) & ((cpu.sctlr_el1 & SCTLR_SPAN) == 0)
    cpu.pan = pick(sets_pan, 1, cpu.pan)
    cpu.el, cpu.spsel, cpu.daif = new, 1, DAIF
    cpu.pstate_ss = cpu.illegal = cpu.btype = cpu.step_info = 0
    cpu.step_armed = yes(step_armed(cpu, new, lift(DAIF, 64)), 1)
    cpu.exclusive = -1
    regime_changes(cpu, old, new)
    choose_tlb(cpu)
    branch_to(cpu, base + group + cpu.exception_kind)


def eret(cpu: Cpu) -> None:
    """AArch64.ExceptionReturn() (D1.4); what is illegal to return to leaves the exception level alone and sets PSTATE.IL."""
    old = cpu.el
    second = old == 2
    spsr, back = pick(second, cpu.spsr_el2, cpu.spsr_el1), pick(second, cpu.elr_el2, cpu.elr_el1)
    new, spsel = (spsr.u >> 2) & 3, spsr & 1
    illegal = ((spsr & 0x12) != 0) | (new.u > old) | ((new == 0) & (spsel == 1)) | ((new == 1) & second & ((cpu.hcr_el2 & HCR_TGE) != 0))
    new, spsel = pick(illegal, old, new), pick(illegal, cpu.spsel, spsel)
    cpu.set_flags("nzcv", (spsr.u >> 28).low(4))
    keep_stack_pointer(cpu, old, cpu.spsel)
    take_stack_pointer(cpu, new, spsel)
    own = debug_enabled(cpu, old, cpu.daif)  # who steps itself
    cpu.el, cpu.spsel, cpu.daif = new, spsel, spsr & DAIF
    cpu.pan = yes((cpu.has_pan != 0) & ((spsr & SPSR_PAN) != 0), 1)
    cpu.dit = pick(illegal, cpu.dit, yes((cpu.has_dit != 0) & ((spsr & SPSR_DIT) != 0), 1))
    cpu.illegal = yes(illegal | ((spsr & SPSR_IL) != 0), 1)
    armed = step_armed(cpu, new, spsr)
    cpu.step_armed, cpu.pstate_ss, cpu.step_info = yes(armed, 1), yes(armed & ~own & ((spsr & SPSR_SS) != 0), 1), 0
    cpu.btype = pick(cpu.has_bti != 0, (spsr.u >> BTYPE_SHIFT) & 3, 0)
    cpu.exclusive = -1
    regime_changes(cpu, old, new)
    choose_tlb(cpu)
    with when(cpu.illegal != 0):  # the instruction there is not executed (D1.3.8)
        synchronous(cpu, lift(EC_ILLEGAL, 64), lift(0, 64), 0, back)
    welcome(cpu)
    branch_to(cpu, back)


def interrupt(cpu: Cpu) -> None:
    """The tick, an IRQ of EL1, if it is welcome at `pc`: it is only lent where there is no EL2."""
    with when((cpu.daif & DAIF_I) == 0):
        cpu.exception_kind = IRQ
        cpu.exception_el2 = 0
        cpu.exception_return = word(cpu, "pc")
        enter("exception")


def welcome(cpu: Cpu) -> None:
    """If an interrupt that is waiting may come in now, have it looked at before the next block."""
    with when((cpu.tick_state == PENDING) & ((cpu.daif & DAIF_I) == 0)):
        cpu.put_at("deadline", lift(0, 64), lift(0, 64))
    waiting = (cpu.lines | cpu.virtual_lines | cpu.hcr_el2) & (DAIF_I | DAIF_F)  # VI and VF stand where I and F do
    with when(((waiting & ~cpu.daif) != 0) | ((waiting != 0) & (cpu.hcr_el2 != 0))):
        cpu.put_at("interrupt_pending", lift(0, 64), lift(1, 64))
        cpu.put_at("deadline", lift(0, 64), lift(0, 64))


ROUTINES = {
    "fault": fault, "access_fault": access_fault, "exception": exception, "eret": eret, "far_branch": far_branch, "interrupt": interrupt,
}  # fmt: skip


@op("1101011 0100 11111 000000 11111 00000", "eret", ends=True)
def eret_(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    enter("eret")


@op("11010100 000 imm16 000 01", ends=True, asm="{imm}")
def svc(cpu: Cpu) -> None:
    cpu.pstate_ss = 0  # it is done, where it was the one to be stepped
    synchronous(cpu, lift(EC_SVC, 64), cpu.imm, 0, cpu.next_pc)


@op("11010100 001 imm16 000 00", ends=True, asm="{imm}")
def brk(cpu: Cpu) -> None:
    raise_(EC_BRK, cpu.imm)


@op("11010100 010 imm16 000 00", ends=True, asm="{imm}")
def hlt(cpu: Cpu) -> None:
    with when(cpu.imm != SEMIHOSTING):
        undefined()
    leave("semihosting_call")
