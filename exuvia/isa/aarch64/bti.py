"""Branch target identification: FEAT_BTI (DDI 0487, D8.4.6, C6.2: BTI; J1: BTypeCompatible and its kin).

An exception level that has met no guarded page knows nothing of all this: its BR and BLR are jumps. The first fetch of an instruction from
one is refused by the walk (paging.py, GUARDED_PAGE), makes the level AWARE, and is done again. From then on BR and BLR leave PSTATE.BTYPE
and the mode LANDING behind, in which the decoder knows only what may stand at the target of such a branch: one instruction, looked at and
left. So a landing pad costs one short block, and a target that is none a look into the words `guards`, which each walk fills.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.aarch64.cpu import EC_BRK, EC_BTI, Cpu, enter, raise_, undefined
from exuvia.isa.aarch64.exceptions import SEMIHOSTING, branch_to, choose_tlb, usual_mode, word
from exuvia.isa.aarch64.forms import Row
from exuvia.isa.aarch64.paging import pick
from exuvia.isa.aarch64.state import GUARDED, GUARDS, LANDING, LR, USER

BY_X16, BY_CALL, BY_JUMP = 1, 2, 3  # PSTATE.BTYPE behind BR by x16 and x17, and from pages that are not guarded; BLR; any other BR
X16 = 16
SCTLR_BT0, SCTLR_BT = 1 << 35, 1 << 36  # of EL0 (SCTLR_EL1), of the exception level itself: PACIASP is no target of BY_JUMP
PAGE = ~0xFFF


def known(cpu: Cpu, address: Value) -> tuple[Value, Value]:
    """Did a walk say whether this page is guarded, and is it?"""
    entry = cpu.get_at("guards", (address.u >> 12) & (GUARDS - 1), 64)
    return (entry & PAGE) == (address & PAGE), (entry & GUARDED) != 0


def lands(cpu: Cpu, btype: Value | int) -> None:
    """The next instruction is a branch's target."""
    cpu.btype = btype
    cpu.mode = LANDING | (USER if cpu.el0 else 0)


def jump(cpu: Cpu, target: Value) -> None:
    """BR and its kin."""
    if cpu.aware:
        here = cpu.this_pc
        seen, guarded = known(cpu, here)
        with when(~seen):
            look_again(cpu)
        through = (cpu.field("base") & -2) == X16
        lands(cpu, pick(through | ~guarded, BY_X16, BY_JUMP))
    branch_to(cpu, target)


def call(cpu: Cpu, target: Value) -> None:
    """BLR and its kin."""
    if cpu.aware:
        lands(cpu, BY_CALL)
    cpu.set_X(LR, cpu.next_pc)
    branch_to(cpu, target)


def look_again(cpu: Cpu) -> None:
    """Go on at this instruction: with what a walk finds, in the mode that BTYPE says."""
    cpu.pc = cpu.this_pc
    enter("look_again")


def look_again_routine(cpu: Cpu) -> None:
    """If the page is not known, its translation is forgotten, so that it is walked to."""
    here = word(cpu, "pc")  # and so it stays
    with when(~known(cpu, here)[0]):
        cpu.effect("invalidate_page", 0, here)
    choose_tlb(cpu)


ROUTINES = {"look_again": look_again_routine}


# what may stand at a target: the rows of the mode LANDING
def other(cpu: Cpu) -> None:
    """No landing pad: right only where the page is not guarded."""
    seen, guarded = known(cpu, cpu.this_pc)
    with when(seen & guarded):
        raise_(EC_BTI, cpu.btype)
    cpu.btype = pick(seen, 0, cpu.btype)
    look_again(cpu)


def bti(cpu: Cpu) -> None:
    """BTI, BTI c, BTI j, BTI jc; it does nothing else."""
    if cpu.targets == 0:
        return other(cpu)
    if cpu.targets < 3:
        with when(cpu.btype == (BY_JUMP if cpu.targets == 1 else BY_CALL)):
            other(cpu)
    cpu.mode, cpu.btype = usual_mode(cpu), 0


def paciasp(cpu: Cpu) -> None:
    """PACIASP and PACIBSP are BTI c, and jc unless SCTLR_ELx.BT0 or BT says otherwise; what they do they do after that."""
    strict = (cpu.sctlr_el1 & SCTLR_BT0) != 0 if cpu.el0 else (pick(cpu.el == 2, cpu.sctlr_el2, cpu.sctlr_el1) & SCTLR_BT) != 0
    with when((cpu.btype == BY_JUMP) & strict):
        other(cpu)
    cpu.btype = 0
    look_again(cpu)


def brk(cpu: Cpu) -> None:
    """Its own exception comes first (D1.3.5)."""
    raise_(EC_BRK, cpu.bits("imm16"))


def hlt(cpu: Cpu) -> None:
    """Likewise."""
    with when(cpu.bits("imm16") != SEMIHOSTING):
        undefined()
    cpu.btype = 0
    look_again(cpu)


def row(text: str, name: str, run: Callable[[Cpu], None]) -> Row:
    """One of those rows."""
    made = Row(text, run, {"ends": True})
    made.name = name
    return made


OTHER = row("x" * 32, "other", other)
ROWS = [
    row("11010101000000110010 0100 targets:2 0 11111", "bti", bti),
    row("11010101000000110010 0011 001 11111", "paciasp", paciasp),
    row("11010101000000110010 0011 011 11111", "pacibsp", paciasp),
    row("11010100 001 imm16=16 000 00", "brk", brk),
    row("11010100 010 imm16=16 000 00", "hlt", hlt),
]
