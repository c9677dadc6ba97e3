"""WAIT, Count and Compare, registers of coprocessor 0 that are not there (vol. III, 9.16, 9.18)."""

from __future__ import annotations

from exuvia.isa.mips.concrete import WORD_MASK, Processor, rare
from exuvia.isa.mips.state import COUNT_NS, DC, SINK, TI, TIMER_LINE


@rare
def wait(cpu: Processor) -> None:
    """Until an interrupt is requested that is not masked, whether it is taken or not (Config7.WII)."""
    if not cpu.asked and not cpu.nmi:
        cpu.halted = True


@rare
def let_in(cpu: Processor) -> None:
    """EI: an interrupt waits."""
    cpu.attention(True)


@rare
def compare(cpu: Processor, value: int) -> None:
    """Writing Compare takes the timer's interrupt away."""
    cpu.compare = value
    cpu.lines &= ~TI
    cpu.signal(f"ip{TIMER_LINE}", False)
    cpu.arm()


@rare
def count(cpu: Processor, value: int) -> None:
    """Count goes on from this value."""
    cpu.count_offset = value - (0 if cpu.cause & DC else cpu.clock.now() // COUNT_NS) & WORD_MASK
    cpu.arm()


@rare
def stop_count(cpu: Processor, stopped: int) -> None:
    """Cause.DC changed: Count stands still, or goes on."""
    value = cpu.ticks
    cpu.cause = cpu.cause & ~DC | stopped
    count(cpu, value)


@rare
def unknown_read(cpu: Processor, to: int, number: int, select: int) -> None:
    """MFC0: zero."""
    cpu.unknown(f"coprocessor 0 register {number}, {select} read")
    if to != SINK:
        cpu.r[to] = 0


@rare
def unknown_write(cpu: Processor, value: int, number: int, select: int) -> None:
    """MTC0: nothing."""
    cpu.unknown(f"coprocessor 0 register {number}, {select} written, {value:#x}")
