"""Debug exceptions: single step, breakpoints (SDM vol. 3, chapter 17). An engine that single-steps asks here."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.isa.x86.concrete import Fault, Processor
from exuvia.isa.x86.state import DB, RF, TF

BS, BT = 1 << 14, 1 << 15
EXECUTE, WRITE, IO, ACCESS = range(4)
LENGTHS = (1, 2, 8, 4)


def watching(cpu: Processor) -> bool:
    """Must instructions be done one by one: TF, or an enabled breakpoint?"""
    return bool(cpu.eflags & TF) or bool(cpu.dr7 & 0xFF)


def watching_data(cpu: Processor) -> bool:
    """Is a breakpoint on data enabled? Then an engine must tell what instructions touch."""
    return any(cpu.dr7 >> 2 * i & 3 and cpu.dr7 >> 16 + 4 * i & 1 for i in range(4))


def matches(cpu: Processor, linear: int, size: int, kinds: tuple[int, ...]) -> int:
    """DR6 bits of the breakpoints that `size` bytes at `linear` touch, enabled or not, as long as one enabled is among them."""
    found = enabled = 0
    for i in range(4):
        kind, length = cpu.dr7 >> 16 + 4 * i & 3, LENGTHS[cpu.dr7 >> 18 + 4 * i & 3]
        if kind not in kinds:
            continue
        start = getattr(cpu, f"dr{i}") & ~(length - 1)
        if start < linear + size and linear < start + length:
            found |= 1 << i
            enabled |= cpu.dr7 >> 2 * i & 3
    return found if enabled else 0


def before_instruction(cpu: Processor, linear: int) -> None:
    """An instruction breakpoint is a fault, unless RF is set; DR6 tells which."""
    if not cpu.eflags & RF and (found := matches(cpu, linear, 1, (EXECUTE,))):
        raise Fault(DB, debug=found)


def after_instruction(cpu: Processor, stepped: bool, accesses: list[tuple[int, int, bool]]) -> bool:
    """After an instruction began with TF (`stepped`) and accessed memory (linear, size, write): is there a #DB trap? DR6 is set."""
    found = BS if stepped else 0
    for linear, size, write in accesses:
        found |= matches(cpu, linear, size, (WRITE, ACCESS) if write else (ACCESS,))
    found |= cpu.pending_db
    cpu.pending_db = 0
    cpu.dr6 |= found
    return bool(found)


NOTHING = 0xFF  # in the word `event`: no event was delivered since


def stepped(cpu: Processor, step: Callable[[], None], accesses: Callable[[], list[tuple[int, int, bool]]] | None = None) -> None:
    """Do one instruction by `step` and deliver the debug exception that it earns. `accesses` tells what the instruction touched."""
    try:
        before_instruction(cpu, cpu.pc)
    except Fault as fault:
        cpu.fault(fault, cpu.pc)
        return
    tf, rf = bool(cpu.eflags & TF), cpu.eflags & RF
    cpu.event = NOTHING
    step()
    if cpu.event != NOTHING:
        return
    cpu.eflags &= ~rf
    if after_instruction(cpu, tf and not cpu.inhibit, accesses() if accesses is not None else []):
        cpu.fault(Fault(DB), cpu.pc)
