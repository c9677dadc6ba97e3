"""Self-hosted debug: breakpoints, watchpoints, software step (DDI 0487, D2).

What is off costs nothing. Pages with a breakpoint are kept from the decoder (`watch_pages`), and each instruction there is looked at before
it is done; pages with a watchpoint are kept from the TLB, and the walk compares what is accessed (paging.py, `Walk.watch`). `arm` makes the
walk's words out of the registers whenever one of those changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exuvia.dsl.trace import seldom
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import EC_BREAKPOINT, EC_STEP, Cpu, leave
from exuvia.isa.aarch64.faults import Fault, trap, undefined
from exuvia.isa.aarch64.paging import HCR_TGE, MDCR_TDE, MDSCR_KDE, debug_enabled
from exuvia.isa.aarch64.state import BREAKPOINTS, DAIF_D, WATCHPOINTS

if TYPE_CHECKING:
    from exuvia.isa.aarch64.processor import Processor

MDSCR_SS, MDSCR_TDCC, MDSCR_MDE = 1 << 0, 1 << 12, 1 << 15
MDCR_TDA, MDCR_TDOSA, MDCR_TDRA = 1 << 9, 1 << 10, 1 << 11
CONTEXT_AWARE = 2  # breakpoints that can compare CONTEXTIDR_EL1 and the VMID: the last ones
FEATURES = 6 | (BREAKPOINTS - 1) << 12 | (WATCHPOINTS - 1) << 20 | (CONTEXT_AWARE - 1) << 28  # ID_AA64DFR0_EL1
STATUS = 0x22  # of debug exceptions
ISV, EX = 1 << 24, 1 << 6
ENABLED, LINKED = 1 << 0, 1 << 20
BCR_BITS, BCR_ONES, WCR_BITS = 0x00FF_E007, 0xF << 5, 0x1F1F_FFFF
ADDRESS, CONTEXT, VMID, BOTH = 0, 1, 4, 5  # BT without its lowest bit, which says that it is linked: what is compared
FAR_BITS = 49  # an address's, with the one that says which half it is of
Encoding = tuple[int, int, int, int, int]

MDSCR, OSLAR, OSLSR, OSDLR, PRCR = (2, 0, 0, 2, 2), (2, 0, 1, 0, 4), (2, 0, 1, 1, 4), (2, 0, 1, 3, 4), (2, 0, 1, 4, 4)
MDRAR, CLAIMSET, CLAIMCLR, AUTHSTATUS, MDCCSR = (2, 0, 1, 0, 0), (2, 0, 7, 8, 6), (2, 0, 7, 9, 6), (2, 0, 7, 14, 6), (2, 3, 0, 1, 0)
CONSTANT = {MDRAR: 0, AUTHSTATUS: 0, PRCR: 0, OSDLR: 0, MDCCSR: 0, CLAIMSET: 0xFF}
CHANNEL = {(2, 3, 0, 4, 0), (2, 3, 0, 5, 0)}  # DBGDTR_EL0, and DBGDTRRX_EL0 and DBGDTRTX_EL0: to an external debugger, which is not there
TRANSFER = CHANNEL | {(2, 0, 0, 0, 2), (2, 0, 0, 2, 0), (2, 0, 0, 3, 2), (2, 0, 0, 6, 2)}  # what else is its
OF_EL0 = CHANNEL | {MDCCSR}
FILES = {4: "dbgbvr", 5: "dbgbcr", 6: "dbgwvr", 7: "dbgwcr"}  # by op2; CRm is the number


# -- registers
def trapped(p: Processor, where: Encoding, instruction: int) -> None:
    """The traps of MDSCR_EL1 and MDCR_EL2."""
    if p.el == 0 and p.mdscr_el1 & MDSCR_TDCC:
        raise trap(instruction)
    if p.has_el2 and p.el < 2:
        if where in (OSLAR, OSLSR, OSDLR, PRCR):
            wanted = MDCR_TDOSA
        else:
            wanted = MDCR_TDRA if where == MDRAR else MDCR_TDA
        if p.mdcr_el2 & (wanted | MDCR_TDE) or p.hcr_el2 & HCR_TGE:
            raise trap(instruction, el2=True)


def file(where: Encoding) -> str | None:
    """The file of a breakpoint's or watchpoint's register; CRm is its number there."""
    _, op1, n, number, op2 = where
    name = FILES.get(op2) if (op1, n) == (0, 0) else None
    return name if name and number < (BREAKPOINTS if name[3] == "b" else WATCHPOINTS) else None


def read(p: Processor, where: Encoding, instruction: int) -> int:
    """A register of op0 2."""
    trapped(p, where, instruction)
    if name := file(where):
        return int(getattr(p, name)[where[3]])
    if where == MDSCR:
        return p.mdscr_el1
    if where == OSLSR:
        return 8 | p.os_locked << 1
    if where == CLAIMCLR:
        return p.claimed
    if where in TRANSFER:
        return 0
    if where in CONSTANT:
        return CONSTANT[where]
    raise undefined()


def write(p: Processor, where: Encoding, instruction: int, value: int) -> None:
    """Likewise."""
    trapped(p, where, instruction)
    if name := file(where):
        keep = {"dbgbcr": BCR_BITS, "dbgwcr": WCR_BITS, "dbgwvr": ~3}.get(name, -1)
        getattr(p, name)[where[3]] = value & keep | (BCR_ONES if name == "dbgbcr" else 0)
    elif where == MDSCR:
        p.mdscr_el1 = value & 0xFFFFFFFF
    elif where == OSLAR:
        p.os_locked = value & 1
    elif where in (CLAIMSET, CLAIMCLR):
        p.claimed = p.claimed | value & 0xFF if where == CLAIMSET else p.claimed & ~value
        return
    elif where in (OSDLR, PRCR) or where in TRANSFER:
        return
    else:
        raise undefined()
    arm(p)
    p.step_armed = int(stepping(p))


# -- what is compared
def target(p: Processor) -> int:
    """The exception level of debug exceptions."""
    return 2 if p.has_el2 and (p.mdcr_el2 & MDCR_TDE or p.hcr_el2 & HCR_TGE) else 1


def enabled(p: Processor) -> bool:
    """AArch64.GenerateDebugExceptions()."""
    if p.os_locked:
        return False
    return p.el < target(p) or p.el == target(p) and bool(p.mdscr_el1 & MDSCR_KDE) and not p.daif & DAIF_D


def stepping(p: Processor) -> bool:
    """Is software step on?"""
    return bool(p.mdscr_el1 & MDSCR_SS) and enabled(p)


def levels(p: Processor, control: int) -> int:
    """Exception levels that a control register means, as bits (D2.8.3, D2.9.3: SSC, HMC and PMC or PAC; we are not secure)."""
    state, higher, privilege = control >> 14 & 3, control >> 13 & 1, control >> 1 & 3
    if state == 2 or state == 3 and not higher:
        return 0
    second = p.has_el2 and (higher and (state, privilege) != (2, 0) or state == 3)
    return privilege >> 1 | (privilege & 1) << 1 | bool(second) << 2


def context(p: Processor, number: int) -> tuple[int, int] | None:
    """What a context-aware breakpoint compares, as `compared` words are: (value, mask); None where it compares nothing."""
    if number not in range(BREAKPOINTS - CONTEXT_AWARE, BREAKPOINTS) or not p.dbgbcr[number] & ENABLED:
        return None
    kind, value = p.dbgbcr[number] >> 21 & 7, p.dbgbvr[number]
    mask = {CONTEXT: 0xFFFF_FFFF, VMID: 0xFF << 32, BOTH: 0xFF_FFFF_FFFF}.get(kind)
    if mask is None or kind != CONTEXT and not p.has_el2:
        return None
    return value & mask, mask


def linked(p: Processor, control: int, is_linked: bool) -> tuple[int, int] | None:
    """Likewise, for who is linked to one; all is well where nobody is."""
    if not is_linked:
        return 0, 0
    number = control >> 16 & 15
    return context(p, number) if number < BREAKPOINTS and p.dbgbcr[number] >> 20 & 1 else None


def compared(p: Processor) -> int:
    """CONTEXTIDR_EL1 and the VMID."""
    return p.contextidr_el1 & 0xFFFF_FFFF | (p.vttbr_el2 >> 48 & 0xFF) << 32


def extended(address: int) -> int:
    """An address of DBGBVR or DBGWVR, whose upper bits are copies."""
    low = address & (1 << FAR_BITS) - 1
    return low | (-1 << FAR_BITS & (1 << 64) - 1 if low >> FAR_BITS - 1 else 0)


def arm(p: Processor) -> None:
    """The registers changed: what the walk compares, and the pages that are looked at."""
    on = p.mdscr_el1 & MDSCR_MDE and not p.os_locked
    pages: set[int] = set()
    every = watched = False
    for i in range(BREAKPOINTS):
        control, value = p.dbgbcr[i], p.dbgbvr[i]
        kind = control >> 21 & 7
        if on and control & ENABLED and (kind == ADDRESS or not control >> 20 & 1):
            if kind == ADDRESS:
                pages.add(extended(value) & ~0xFFF)
            else:  # any instruction of a context
                every = True
    for i in range(WATCHPOINTS):
        p.watch_first[i], p.watch_last[i], p.watch_who[i] = 1, 0, 0
        if on and p.dbgwcr[i] & ENABLED and (condition := linked(p, p.dbgwcr[i], bool(p.dbgwcr[i] & LINKED))) is not None:
            p.watch_first[i], p.watch_last[i], p.watch_who[i] = watchpoint(p, p.dbgwvr[i], p.dbgwcr[i])
            p.watch_context[i], p.watch_mask[i] = condition
            watched = True
    if watched or p.watchpoints:
        p.flush_tlb(True)
    p.watchpoints, p.every_instruction = int(watched), int(every)
    if pages != p.__dict__["breakpoint_pages"]:
        p.__dict__["breakpoint_pages"] = pages
        p.watch_pages([], sorted(pages))


def watchpoint(p: Processor, value: int, control: int) -> tuple[int, int, int]:
    """The first and the last byte, and whose loads and stores: two bits for each exception level."""
    mask, bytes_ = control >> 24 & 31, control >> 5 & 0xFF
    if value & 4:
        bytes_ &= 0xF
    first = extended(value)
    if mask > 2:
        first &= ~((1 << mask) - 1)
        last = first | (1 << mask) - 1
    elif bytes_:  # without a gap, as the manual asks
        last = first + bytes_.bit_length() - 1
        first += (bytes_ & -bytes_).bit_length() - 1
    else:
        return 1, 0, 0
    means, kinds = levels(p, control), control >> 3 & 3
    return first, last, sum(kinds << 2 * level for level in range(3) if means >> level & 1)


def breakpoint_hit(p: Processor) -> bool:
    """Does one of them mean the instruction at `pc`? (AArch64.BreakpointMatch())"""
    if not p.mdscr_el1 & MDSCR_MDE or not enabled(p):
        return False
    for i in range(BREAKPOINTS):
        control, is_linked = p.dbgbcr[i], bool(p.dbgbcr[i] >> 20 & 1)
        if not control & ENABLED or not levels(p, control) >> p.el & 1:
            continue
        if control >> 21 & 7 == ADDRESS:
            condition = linked(p, control, is_linked) if extended(p.dbgbvr[i]) & ~3 == p.pc else None
        else:
            condition = None if is_linked else context(p, i)
        if condition is not None and compared(p) & condition[1] == condition[0]:
            return True
    return False


# -- one instruction at a time
def stepped(p: Processor) -> None:
    """Do one instruction, unless a breakpoint means it."""
    if p.fetchable():
        if breakpoint_hit(p):
            p.fault(Fault(EC_BREAKPOINT, STATUS), p.pc)
        else:
            p.instruction()


def software_step(p: Processor) -> None:
    """One instruction; or it was done, and its exception is due (D2.12)."""
    if not stepping(p):  # the instruction before masked it
        p.step_armed = 0
    elif not p.pstate_ss:
        p.fault(Fault(EC_STEP, STATUS | p.step_info), p.pc)
        p.step_armed = 0
    else:
        stepped(p)
        if p.step_armed and not p.resume:
            p.pstate_ss, p.step_info = 0, ISV | (EX if p.exclusive != (1 << 64) - 1 else 0)


def step_armed(cpu: Cpu, el: Value, daif: Value) -> Value:
    """Is software step on at this exception level with these masks?"""
    on: Value = ((cpu.mdscr_el1 & MDSCR_SS) != 0) & debug_enabled(cpu, el, daif)
    return on


def masks_changed(cpu: Cpu) -> None:
    """PSTATE.D was written at EL1 or EL2: software step may be on now."""
    with seldom((cpu.mdscr_el1 & MDSCR_SS) != 0):
        cpu.step_armed = step_armed(cpu, cpu.el, cpu.daif).choose(lift(1, 64), 0)
        leave("between_instructions")
