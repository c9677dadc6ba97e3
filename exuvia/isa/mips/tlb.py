"""The translation lookaside buffer (vol. III, 4.8 and chapter 9; vol. II, TLBP, TLBR, TLBWI, TLBWR), and the walk over it.

An entry maps two pages side by side. It is kept so that one comparison tells whether it maps an address: `tlb_care` has the bits of
`tlb_hi` that count, the ASID's not where the entry is global.

Engines remember translations that entries gave them. Of other address spaces they remember nothing, so that a new ASID is a flush. When
TLBWI replaces an entry they forget what it gave. When TLBWR does, they need not yet: software that changes a mapping looks for it with
TLBP first, or replaces all entries with TLBWI, or takes a new ASID. Until then what is remembered is as good as the entry was.

The walk puts its result into state words, as dsl/state.py's engine words say:

    walk_error   -1: no fault; else Cause.ExcCode, with REFILL where no entry matched and IS_FETCH of an instruction
    walk_page    physical address of the 4 KiB page
    walk_rights  1 write, 4 execute, 8 global, 32 read

TLBs of engines: 0 user, 1 kernel, 2 supervisor mode.
"""

from __future__ import annotations

from exuvia.dsl.trace import Var, loop, tracing, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.forms import op
from exuvia.isa.mips.state import (
    ADEL,
    ADES,
    ASID,
    ENTRYLO,
    ERL,
    LO_D,
    LO_G,
    LO_V,
    MOD,
    PAGE_MASK,
    TLB_MOST,
    TLBL,
    TLBS,
    VPN2,
)  # fmt: skip

WRITE, FETCH = 1, 4  # of the access
MAY_WRITE, MAY_EXECUTE, GLOBAL, MAY_READ = 1, 4, 8, 32
NO_FAULT = (1 << 64) - 1
REFILL, IS_FETCH = 1 << 8, 1 << 9
NOWHERE = 1 << 63
"""`tlb_hi` and `tlb_care` of an entry that maps nothing: no address has this bit set."""


def search(cpu: Cpu, what: Value, kind: str = "tlb", count: str = "tlb_size") -> Value:
    """The number of the entry for a VPN2 with ASID, all ones for none."""
    index, found = Var(0), Var(lift(-1, 64))
    with loop(cpu.get((count, 0, 64)), index, found):
        hit = ((cpu.get_at(f"{kind}_hi", index.read()) ^ what) & cpu.get_at(f"{kind}_care", index.read())) == 0
        found.set(hit.choose(index.read(), found.read()))
        index.set(index + 1)
    return found.read()


def forget(cpu: Cpu, hi: Value) -> None:
    """Engines forget two pages of 4 KiB."""
    page = hi & VPN2
    cpu.effect("invalidate_page", 0, page)
    cpu.effect("invalidate_page", 0, page + 4096)


def remembered(cpu: Cpu, hi: Value, care: Value) -> Value:
    """May engines know of this entry: is it one of the running address space?"""
    r: Value = ((hi ^ cpu.entryhi) & care & (ASID | NOWHERE)) == 0
    return r


def replace(cpu: Cpu, index: Value, later: bool) -> None:
    """An entry is going to be written; what it gave is forgotten, now or `later`."""
    hi, care, mask = (cpu.get_at(file, index) for file in ("tlb_hi", "tlb_care", "tlb_mask"))
    with when(remembered(cpu, hi, care)):
        with when(mask != 0):
            cpu.effect("flush_tlb", 0, lift(1, 64))
        with when(mask == 0):
            if not later:
                forget(cpu, hi)
                return
            at = Var(cpu.olds)
            with when(at == TLB_MOST):
                cpu.effect("flush_tlb", 0, cpu.old_global)
                at.set(0)
                cpu.old_global = lift(0, 64)
            cpu.put_at("old_hi", at.read(), hi)
            cpu.put_at("old_care", at.read(), care)
            cpu.olds = at + 1
            cpu.old_global = ((care & ASID) == 0).choose(lift(1, 64), cpu.old_global)


def fill(cpu: Cpu, index: Value) -> None:
    """Write an entry from the registers (vol. II, TLBWI)."""
    lo0, lo1, mask = cpu.entrylo0, cpu.entrylo1, cpu.pagemask
    both = lo0 & lo1 & LO_G
    page = ~mask & VPN2
    cpu.put_at("tlb_hi", index, cpu.entryhi & (page | ASID))
    cpu.put_at("tlb_care", index, page | (both != 0).choose(lift(0, 64), ASID))
    cpu.put_at("tlb_mask", index, mask)
    cpu.put_at("tlb_lo0", index, lo0 & ~LO_G | both)
    cpu.put_at("tlb_lo1", index, lo1 & ~LO_G | both)


@op("010000 10000 00000 00000 00000 000010", kernel=True, ends=True)
def tlbwi(cpu: Cpu) -> None:
    """Index.P, which a probe that found nothing leaves, says nothing of the entry that is meant."""
    with when((cpu.probed == 0) & (cpu.olds != 0)):
        cpu.effect("flush_tlb", 0, lift(1, 64))
        cpu.olds, cpu.old_global = lift(0, 64), lift(0, 64)
    index = cpu.tlb_index & (cpu.tlb_size - 1)
    replace(cpu, index, later=False)
    fill(cpu, index)


@op("010000 10000 00000 00000 00000 000110", kernel=True, ends=True)
def tlbwr(cpu: Cpu) -> None:
    """Random then is the next entry below, of those that are not wired: the one that was written longest ago."""
    index = cpu.random
    replace(cpu, index, later=True)
    fill(cpu, index)
    cpu.random = (index.u > cpu.wired).choose(index - 1, cpu.tlb_size - 1)


@op("010000 10000 00000 00000 00000 001000", kernel=True, ends=True)
def tlbp(cpu: Cpu) -> None:
    found = search(cpu, cpu.entryhi)
    none = found == NO_FAULT
    cpu.tlb_index, cpu.probed = none.choose(lift(1 << 31, 64), found), (~none).zext(64)
    with when(none & (cpu.olds != 0)):
        with when(search(cpu, cpu.entryhi, "old", "olds") != NO_FAULT):
            forget(cpu, cpu.entryhi)


@op("010000 10000 00000 00000 00000 000001", kernel=True, ends=True)
def tlbr(cpu: Cpu) -> None:
    index = cpu.tlb_index & (cpu.tlb_size - 1)
    hi, mask, lo0, lo1 = (cpu.get_at(file, index) for file in ("tlb_hi", "tlb_mask", "tlb_lo0", "tlb_lo1"))
    set_entryhi(cpu, hi & (VPN2 | ASID))
    cpu.pagemask, cpu.entrylo0, cpu.entrylo1 = mask & PAGE_MASK, lo0 & ENTRYLO, lo1 & ENTRYLO


def set_entryhi(cpu: Cpu, v: Value) -> None:
    """Another ASID is another address space."""
    with when(((v ^ cpu.entryhi) & ASID) != 0):
        cpu.effect("flush_tlb", 0, lift(0, 64))
        cpu.olds = (cpu.old_global != 0).choose(cpu.olds, lift(0, 64))
    cpu.entryhi = v


def walk(cpu: Cpu, linear: Value, access: Value, which: Value) -> None:
    """Translate an address: by its segment (vol. III, 4.2 to 4.7), or by the entry that maps it."""
    write, fetch = (access & WRITE) != 0, (access & FETCH) != 0
    error, page, rights = Var(lift(NO_FAULT, 64)), Var(linear & 0x1FFF_F000), Var(lift(MAY_READ | MAY_WRITE | MAY_EXECUTE | GLOBAL, 64))
    segment = linear.u >> 29
    unmapped = (segment == 4) | (segment == 5)
    with when((segment.u < 4) & ((cpu.status & ERL) != 0)):  # kuseg, while an error is handled
        page.set(linear & 0xFFFF_F000)
    allowed = (which == 1) | (segment.u < 4) | ((which == 2) & (segment == 6))
    wrong = ~allowed | (fetch & ((linear & 3) != 0))
    fetched = fetch.choose(lift(IS_FETCH, 64), 0)
    with when(wrong):
        error.set(write.choose(lift(ADES, 64), ADEL) | fetched)
    with when(~wrong & ~unmapped & ((segment.u >= 4) | ((cpu.status & ERL) == 0))):
        missing = write.choose(lift(TLBS, 64), TLBL) | fetched
        index = search(cpu, linear & VPN2 | cpu.entryhi & ASID)
        error.set(missing | REFILL)
        with when(index != NO_FAULT):
            mask = cpu.get_at("tlb_mask", index)
            inside = (mask.u >> 1) | 0xFFF
            odd = (linear & (inside + 1)) != 0
            lo = odd.choose(cpu.get_at("tlb_lo1", index), cpu.get_at("tlb_lo0", index))
            error.set(missing)
            with when((lo & LO_V) != 0):
                dirty = (lo & LO_D) != 0
                error.set((write & ~dirty).choose(lift(MOD, 64), NO_FAULT))
                page.set((lo.u >> 6) << 12 & ~inside & 0xFFFF_F000 | linear & inside & ~0xFFF)
                more = dirty.choose(lift(MAY_WRITE, 64), 0) | ((lo & LO_G) != 0).choose(lift(GLOBAL, 64), 0)
                rights.set(more | (MAY_READ | MAY_EXECUTE))
    for name, v in (("error", error), ("page", page), ("rights", rights)):
        cpu.put(("walk_" + name, 0, 64), v.read())


def walk_trace() -> Cpu:
    """The walk as a trace with three parameters: address, access, TLB index."""
    cpu = Cpu()
    with tracing(cpu):
        walk(cpu, *(Value(Node("param", 64, (), i)) for i in range(3)))
    return cpu
