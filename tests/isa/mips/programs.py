"""What the tests about exceptions and the TLB begin with: a program in KSEG0, entries of the TLB, where exceptions go."""

from __future__ import annotations

from exuvia.isa.mips import state as s
from tests.isa.mips.assembler import NOP, word
from tests.isa.mips.machine import KSEG0, Machine

CODE = 0x1000
AT = KSEG0 + CODE
REFILL, GENERAL, VECTORED = KSEG0, KSEG0 + 0x180, KSEG0 + 0x200
USER = 0x0040_0000


def begin(m: Machine, *words: int, at: int = AT) -> None:
    """A program at the pc."""
    m.put(CODE, *words)
    m.start(at)


def entry(m: Machine, index: int, page: int, lo0: int, lo1: int, mask: int = 0, asid: int = 0) -> None:
    """A TLB entry, by TLBWI."""
    cpu = m.cpu
    kept = cpu.pc, cpu.entryhi
    cpu.tlb_index, cpu.entryhi, cpu.entrylo0, cpu.entrylo1, cpu.pagemask = index, page | asid, lo0, lo1, mask
    m.put(0xF00, word("tlbwi"), NOP)
    status, cpu.status = cpu.status, 0
    m.start(KSEG0 + 0xF00)
    m.until(KSEG0 + 0xF04)
    cpu.status = status
    cpu.pc, cpu.entryhi = kept
    cpu.update_mode()


def lo(physical: int, flags: int = s.LO_V | s.LO_D) -> int:
    """EntryLo."""
    return physical >> 12 << 6 | 3 << 3 | flags


def exception(m: Machine) -> tuple[int, int, bool]:
    """ExcCode, EPC, BD."""
    return m.cpu.cause >> 2 & 31, m.cpu.epc, bool(m.cpu.cause & s.BD)
