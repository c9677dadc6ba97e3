"""Coprocessor 0's registers, and MFC0 and MTC0 (vol. III, chapter 9; vol. II). Reading is native, and so is writing where it happens often.

What is not here reads as zero, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu, leave
from exuvia.isa.mips.exceptions import look, set_status
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.state import ASID, COUNT_NS, DC, ENTRYLO, IP_SOFTWARE, IV, PAGE_MASK, TI, TIMER_LINE, VPN2, WP
from exuvia.isa.mips.tlb import set_entryhi

Read = Callable[[Cpu], Value]
Write = Callable[[Cpu, Value], None]
ALL = 0xFFFF_FFFF
NAMES: dict[tuple[int, int], str] = {}
"""Number and select -> the register's name."""


def register(
    number: int, select: int, name: str, write: int | Write = 0, *, read: Read | None = None, ends: bool = False, feature: str = ""
) -> None:
    """One register: the state's word of this name, of which `write` are the bits that MTC0 changes; or how it is read and written."""
    NAMES[number, select] = name
    place = f"rt {number:05b} 00000000 {select:03b}"

    @op(f"010000 00000 {place}", "mfc0", writes="rt", kernel=True, feature=feature)
    def mfc0(cpu: Cpu) -> None:
        v = read(cpu) if read else cpu.get((name, 0, 64))
        cpu.result(v.low(32))

    @op(f"010000 00100 {place}", "mtc0", kernel=True, ends=ends, feature=feature, hint=not write)
    def mtc0(cpu: Cpu) -> None:
        v = cpu.rt.zext(64)
        if callable(write):
            write(cpu, v)
        elif write:
            old = cpu.get((name, 0, 64))
            cpu.put((name, 0, 64), v if write == ALL else old & ~write | v & write)


def set_index(cpu: Cpu, v: Value) -> None:
    cpu.tlb_index, cpu.probed = cpu.tlb_index & 1 << 31 | v & (cpu.tlb_size - 1), lift(0, 64)


def set_wired(cpu: Cpu, v: Value) -> None:
    """Random begins at the last entry."""
    cpu.wired, cpu.random = v & (cpu.tlb_size - 1), cpu.tlb_size - 1


def set_cause(cpu: Cpu, v: Value) -> None:
    """DC stops and starts Count, which is Python's business."""
    bits = IP_SOFTWARE | IV | WP
    old = cpu.cause
    cpu.cause = old & ~bits | v & bits
    look(cpu)
    with when(((v ^ old) & DC) != 0):
        leave("stop_count", v & DC)


def count(cpu: Cpu) -> Value:
    """Count, 32 bits of it."""
    ticks = cpu.effect("virtual_time", 64).u // COUNT_NS
    stopped = (cpu.cause & DC) != 0
    r: Value = stopped.choose(cpu.count_offset, ticks + cpu.count_offset) & ALL
    return r


def requested(cpu: Cpu) -> Value:
    """Cause. The timer's interrupt is there as soon as Count is Compare, for software that waits for it a few ticks long: Python's timer
    rings later."""
    rung = cpu.effect("virtual_time", 64).u >= cpu.ring_at
    r: Value = cpu.cause | cpu.lines | rung.choose(lift(TI | 1 << 8 + TIMER_LINE, 64), lift(0, 64))
    return r


# number, select, name, bits that can be written
register(0, 0, "tlb_index", set_index)
register(1, 0, "random")
register(2, 0, "entrylo0", ENTRYLO)
register(3, 0, "entrylo1", ENTRYLO)
register(4, 0, "context", 0xFF80_0000)
register(4, 2, "userlocal", ALL, feature="userlocal")
register(5, 0, "pagemask", PAGE_MASK)
register(6, 0, "wired", set_wired)
register(7, 0, "hwrena", 0x2000_000F, feature="r2")
register(8, 0, "badvaddr")
register(9, 0, "count", lambda cpu, v: leave("count", v), read=count, ends=True)
register(10, 0, "entryhi", lambda cpu, v: set_entryhi(cpu, v & (VPN2 | ASID)), ends=True)
register(11, 0, "compare", lambda cpu, v: leave("compare", v), ends=True)
register(12, 0, "status", lambda cpu, v: set_status(cpu, cpu.status & ~cpu.status_writable | v & cpu.status_writable), ends=True)
register(12, 1, "intctl", 0x3E0, feature="r2")
register(12, 2, "srsctl", feature="r2")
register(13, 0, "cause", set_cause, read=requested, ends=True)
register(14, 0, "epc", ALL)
register(15, 0, "prid")
register(15, 1, "ebase", 0x3FFF_F000, feature="r2")
register(16, 0, "config", 7)
register(16, 1, "config1")
register(16, 2, "config2", feature="r2")
register(16, 3, "config3", feature="r2")
register(16, 7, "config7", feature="r2")
register(17, 0, "lladdr", read=lambda cpu: cpu.ll_address.u >> 4)
register(23, 0, "debug")
register(24, 0, "depc", ALL)
register(26, 0, "errctl")
register(28, 0, "taglo", ALL)
register(28, 1, "datalo")
register(29, 0, "taghi", ALL)
register(29, 1, "datahi")
register(30, 0, "errorepc", ALL)
register(31, 0, "desave", ALL)


@op("010000 00000 rt rd 00000000 sel", "mfc0", writes="rt", kernel=True)
def mfc0_unknown(cpu: Cpu) -> None:
    leave("unknown_read", cpu.field("base"), cpu.field("extra"), cpu.field("imm"))


@op("010000 00100 rt rd 00000000 sel", "mtc0", kernel=True)
def mtc0_unknown(cpu: Cpu) -> None:
    leave("unknown_write", cpu.rt, cpu.field("extra"), cpu.field("imm"))
