"""Descriptor tables, task state segments and page tables for tests: long mode with paging, protected mode without."""

from __future__ import annotations

from random import Random

from exuvia.isa.x86.state import CS, DS, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, ES, FS, GS, LDTR, SS, TR
from tests.isa.x86.machine import Machine

GDT, IDT, TSS, LDT, CODE, STACKS, TABLES = 0x1000, 0x2000, 0x4000, 0x5000, 0x10000, 0x20000, 0x80000
K64, KDATA, K32, UDATA, U64, U32, CONFORMING, ABSENT, RING1, RING1_DATA, TASK = (8 * i for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12))
K16, DATA16, DOWN, READ_ONLY, FRESH, EXECUTE_ONLY, SMALL = (8 * i for i in (14, 15, 16, 17, 18, 19, 20))
EVERY = [8 * i for i in (*range(1, 11), 12, *range(14, 21))]


def descriptor(base: int, limit: int, access: int, flags: int) -> int:
    """A segment descriptor; `flags` is G D L AVL."""
    return limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52 | (base >> 24) << 56


def flat(access: int, flags: int) -> int:
    return descriptor(0, 0xFFFFF, access, flags)


DESCRIPTORS = {
    K64: flat(0x9B, 0xA), KDATA: flat(0x93, 0xC), K32: flat(0x9B, 0xC), UDATA: flat(0xF3, 0xC), U64: flat(0xFB, 0xA), U32: flat(0xFB, 0xC),
    CONFORMING: flat(0x9F, 0xA), ABSENT: flat(0x13, 0xC), RING1: flat(0xBB, 0xC), RING1_DATA: flat(0xB3, 0xC), K16: flat(0x9B, 0x8),
    DATA16: flat(0x93, 0x8), DOWN: descriptor(0, 0x1F, 0x97, 0xC), READ_ONLY: flat(0x91, 0xC), FRESH: flat(0x92, 0xC),
    EXECUTE_ONLY: flat(0x99, 0xC), SMALL: descriptor(0x300, 0x21000, 0x93, 0x4),
}  # fmt: skip


def load(m: Machine, i: int, selector: int) -> None:
    """A segment register as a descriptor of ours fills it."""
    if not selector & ~3:
        m.null_segment(i, selector)
        return
    d = DESCRIPTORS[selector & ~7]
    limit = d & 0xFFFF | d >> 32 & 0xF0000
    m.set_segment(
        i, selector, d >> 16 & 0xFFFFFF | d >> 32 & 0xFF000000, limit << 12 | 0xFFF if d >> 55 & 1 else limit, d >> 40 & 0xF0FF | 1
    )


def tables(m: Machine) -> None:
    for selector, d in DESCRIPTORS.items():
        m.poke(GDT + selector, d)
    m.gdt_base, m.gdt_limit, m.idt_base, m.idt_limit = GDT, 0xFF, IDT, 0xFFF
    m.null_segment(LDTR)


def identity(m: Machine, rights: int = 7) -> None:
    """Four levels that map the RAM to itself."""
    for level in range(3):
        m.poke(TABLES + 0x1000 * level, TABLES + 0x1000 * (level + 1) | 7)
    for i in range(256):
        m.poke(TABLES + 0x3000 + 8 * i, i << 12 | rights)


def long_mode(level: int = 0, compatibility: bool = False) -> Machine:
    """A machine in IA-32e mode at a privilege level."""
    m = Machine()
    tables(m)
    identity(m)
    m.cr0, m.cr4, m.cr3, m.efer = 0x80050033, 0x20, TABLES, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
    m.poke(GDT + TASK, descriptor(TSS, 0x67, 0x8B, 0))
    m.set_segment(TR, TASK, TSS, 0x67, 0x8B)
    for i in range(10):
        m.poke(TSS + 4 + 8 * i, STACKS + 0x1000 * (i + 1))
    user = level == 3
    load(m, CS, ((U32 if user else K32) if compatibility else U64 if user else K64) | level)
    load(m, SS, (UDATA if user else KDATA) | level)
    for i in DS, ES:
        load(m, i, UDATA | 3)
    for i in FS, GS:
        m.null_segment(i)
    m.cpl, m.pc = level, CODE
    m.gpr[4] = STACKS + 0x800
    m.update_mode()
    return m


def protected_mode(level: int = 0) -> Machine:
    """A machine in 32-bit protected mode without paging."""
    m = Machine()
    tables(m)
    m.cr0 = 0x33
    m.poke(GDT + TASK, descriptor(TSS, 0x67, 0x8B, 0))
    m.set_segment(TR, TASK, TSS, 0x67, 0x8B)
    for i, ss in enumerate((KDATA, RING1_DATA | 1, UDATA | 2)):
        m.poke(TSS + 4 + 8 * i, STACKS + 0x1000 * (i + 1), 4)
        m.poke(TSS + 8 + 8 * i, ss, 4)
    load(m, CS, (U32 if level == 3 else K32) | level)
    load(m, SS, (UDATA if level == 3 else KDATA) | level)
    for i in DS, ES, FS, GS:
        load(m, i, UDATA | 3)
    m.cpl, m.pc = level, CODE
    m.gpr[4] = STACKS + 0x800
    m.update_mode()
    return m


def some_flags(rng: Random) -> int:
    """EFLAGS of a program: status flags, IF, and now and then others."""
    return rng.getrandbits(22) & 0x8D5 | 0x200 | rng.choice([0, 0, 0x400, 0x100, 0x4000, 0x40000, 0x3000, 0x200000])
