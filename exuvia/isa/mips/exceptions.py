"""Exceptions and modes (vol. III, chapters 3, 6 and 9.21): the routines that engines enter with a fault's words set.

Interrupts are taken by `concrete.Processor.between`, which says the same in plain Python.
"""

from __future__ import annotations

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu, in_kernel
from exuvia.isa.mips.state import ADEL, ADES, BD, BEV, CE, CE_SHIFT, CPU, ERL, EXC_CODE, EXL, FR, IE, IM, KSU, SM, VPN2, WIDE_FPU
from exuvia.isa.mips.tlb import IS_FETCH, REFILL

GENERAL_VECTOR, INTERRUPT_VECTOR, BOOT_BASE = 0x180, 0x200, 0xBFC0_0200
CODE = 0xFF  # of the word `walk_error`


def word(cpu: Cpu, name: str) -> Value:
    """A word of the engine's part of the state."""
    return cpu.get((name, 0, 64))


def exception(cpu: Cpu, code: Value, ce: Value, refill: Value, slot: Value) -> None:
    """An exception of the instruction at `pc`; `slot`: of the one behind it, in its delay slot."""
    status, pc = cpu.status, word(cpu, "pc")
    first = (status & EXL) == 0
    delayed = cpu.then != 0
    cause = cpu.cause & ~(EXC_CODE | CE) | (code << 2) | (ce << CE_SHIFT)
    with when(first):
        cpu.epc = delayed.choose(cpu.address(pc - 4), pc)
        cause = first.choose(cause & ~BD | (delayed | slot).choose(lift(BD, 64), 0), cause)
    cpu.cause = cause
    cpu.status = status | EXL
    cpu.then = lift(0, 64)
    base = ((status & BEV) != 0).choose(lift(BOOT_BASE, 64), cpu.ebase & 0xFFFF_F000)
    cpu.pc = base + (refill & first).choose(lift(0, 64), GENERAL_VECTOR)
    cpu.effect("switch_tlb", 0, lift(1, 64))


def fault(cpu: Cpu) -> None:
    """The text raised it."""
    code, detail = word(cpu, "fault_vector"), word(cpu, "fault_error")
    with when((code == ADEL) | (code == ADES)):
        cpu.badvaddr = detail
    exception(cpu, code, (code == CPU).choose(detail & 3, 0), lift(0, 1), lift(0, 1))


def access_fault(cpu: Cpu) -> None:
    """An access found no translation (vol. III, 6.2.8 to 6.2.11)."""
    linear, error = word(cpu, "address"), word(cpu, "walk_error")
    code = error & CODE
    cpu.badvaddr = linear
    with when((code != ADEL) & (code != ADES)):
        cpu.context = cpu.context & 0xFF80_0000 | (linear.u >> 9) & 0x7F_FFF0
        cpu.entryhi = cpu.entryhi & ~VPN2 | linear & VPN2
    slot = ((error & IS_FETCH) != 0) & (linear != word(cpu, "pc"))
    exception(cpu, code, lift(0, 64), (error & REFILL) != 0, slot)


ROUTINES = {"fault": fault, "access_fault": access_fault}


def set_status(cpu: Cpu, v: Value) -> None:
    """Change Status: which TLB and which code are in force, and whether an interrupt that waits may come."""
    with when(((v ^ cpu.status) & ERL) != 0):  # kuseg is mapped otherwise
        cpu.effect("flush_tlb", 0, lift(1, 64))
    cpu.status = v
    supervisor = ((v & KSU) == SM).choose(lift(2, 64), 0)
    cpu.effect("switch_tlb", 0, in_kernel(v).choose(lift(1, 64), supervisor))
    cpu.put(("mode", 0, 64), word(cpu, "mode") & ~WIDE_FPU | ((v & FR) != 0).choose(lift(WIDE_FPU, 64), 0))
    look(cpu)


def waiting(cpu: Cpu) -> Value:
    """Is there an interrupt to be taken (vol. III, 6.1)?"""
    asked = ((cpu.cause | cpu.lines) & cpu.status & IM) != 0
    r: Value = asked & ((cpu.status & (IE | EXL | ERL)) == IE)
    return r


def look(cpu: Cpu) -> None:
    """After Status or Cause changed."""
    cpu.welcome = waiting(cpu).zext(64)
