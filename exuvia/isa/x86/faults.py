"""How an instruction's fault becomes an event to deliver (SDM vol. 3, 6.15): the routines that engines enter with the fault's words set."""

from __future__ import annotations

from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, enter
from exuvia.isa.x86.state import AC_FAULT, CS, EXCEPTION, GP, PF, SS, SS_FAULT, WITH_ERROR_CODE

SIZE_SHIFT, SEGMENT_SHIFT = 8, 24  # in the engine's access word
MISALIGNED = (1 << 64) - 3  # in the word `walk_error`


def word(cpu: Cpu, name: str) -> Value:
    """A word of the engine's part of the state."""
    return cpu.get((name, 0, 64))


def exception(cpu: Cpu, vector: Value, error: Value) -> None:
    """An exception of the instruction at the linear address `pc`."""
    cpu.put(("vector", 0, 64), vector)
    cpu.put(("error", 0, 64), error)
    cpu.event = EXCEPTION
    cpu.event_has_error = (lift(WITH_ERROR_CODE, 64).u >> vector) & 1
    long = word(cpu, "mode") == 0
    pc = word(cpu, "pc")
    ip = long.choose(pc, (pc - cpu.get(("seg_base", CS, 64))) & 0xFFFFFFFF)
    cpu.event_ip = ip
    cpu.event_start = ip
    enter("deliver")


def fault(cpu: Cpu) -> None:
    """The text raised it."""
    exception(cpu, word(cpu, "fault_vector"), word(cpu, "fault_error"))


def access_fault(cpu: Cpu) -> None:
    """An access found no translation: #PF, or #GP or #SS where a part of it is not canonical, or #AC where it is not aligned."""
    linear, access = word(cpu, "address"), word(cpu, "access")
    last = linear + ((access.u >> SIZE_SHIFT) & 0xFFFF) - 1
    outside = (word(cpu, "mode") == 0) & ((linear.low(48).sext(64) != linear) | (last.low(48).sext(64) != last))
    stack = ((access.u >> SEGMENT_SHIFT) & 0xFF) == SS
    other = stack.choose(lift(SS_FAULT, 64), lift(GP, 64))
    paging = word(cpu, "walk_error") != MISALIGNED
    cpu.cr2 = (outside | ~paging).choose(cpu.cr2, linear)
    vector = outside.choose(other, paging.choose(lift(PF, 64), lift(AC_FAULT, 64)))
    exception(cpu, vector, (outside | ~paging).choose(lift(0, 64), word(cpu, "walk_error")))


ROUTINES = {"fault": fault, "access_fault": access_fault}
