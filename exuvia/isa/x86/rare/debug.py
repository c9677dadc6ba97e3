"""Debug exceptions: single step, breakpoints (SDM vol. 3, chapter 17). An engine that single-steps asks here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from exuvia.isa.x86.concrete import Fault, Processor
from exuvia.isa.x86.state import CR4_DE, DB, INHIBIT_SS, RF, TF

BS, BT = 1 << 14, 1 << 15
EXECUTE, WRITE, IO, ACCESS = range(4)
LENGTHS = (1, 2, 8, 4)


def breakpoints(cpu: Processor) -> Iterator[tuple[int, int]]:
    """Kind and linear address of those that are enabled."""
    for i in range(4):
        if cpu.dr7 >> 2 * i & 3:
            yield cpu.dr7 >> 16 + 4 * i & 3, getattr(cpu, f"dr{i}")


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


def accessed(cpu: Processor, linear: int, size: int, write: bool) -> None:
    """An instruction accessed memory: the breakpoints that it touched become a trap when it is done."""
    cpu.pending_db |= matches(cpu, linear, size, (WRITE, ACCESS) if write else (ACCESS,))


def port_accessed(cpu: Processor, port: int, size: int) -> None:
    """IN or OUT: breakpoints on ports likewise, where CR4.DE makes them mean that."""
    if cpu.cr4 & CR4_DE:
        cpu.pending_db |= matches(cpu, port, size, (IO,))


def trap(cpu: Processor) -> None:
    """Between two instructions: the traps that are pending, unless MOV SS holds them back. DR6 tells which they are."""
    if cpu.pending_db and cpu.held != INHIBIT_SS:
        cpu.dr6 |= cpu.pending_db
        cpu.pending_db = 0
        cpu.fault(Fault(DB), cpu.pc)


NOTHING = 0xFF  # in the word `event`: no event was delivered since


def stepped(cpu: Processor, step: Callable[[], None]) -> None:
    """Do one instruction by `step`, which tells `accessed` what it touches, and deliver the debug exception that it earns."""
    try:
        before_instruction(cpu, cpu.pc)
    except Fault as fault:
        cpu.fault(fault, cpu.pc)
        return
    tf, rf = bool(cpu.eflags & TF), cpu.eflags & RF
    cpu.event, cpu.inhibit = NOTHING, 0
    step()
    if cpu.event != NOTHING:
        return
    cpu.eflags &= ~rf
    if tf and cpu.held != INHIBIT_SS:
        cpu.pending_db |= BS
    trap(cpu)
