"""Paging: 32-bit, PAE and 4-level page tables (SDM vol. 3, chapter 4). One text, compiled, for every miss of a TLB.

`walk(cpu, linear, access, index)` puts its result into state words when it ends:

    walk_error   -1: no fault; -2: another processor changed the tables, walk again; else the error code of #PF
    walk_page    physical address of the 4 KiB page
    walk_rights  what a TLB entry may allow without another walk: 1 write (it is dirty), 2 user page, 4 execute, 8 global, 16 part of a
                 large page, 32 read

`access`: WRITE, FETCH; `index` is the TLB to be filled: 0 user, 1 supervisor, 2 supervisor while SMAP keeps it from user pages.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import Var, tracing, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.state import CR0_PG, CR0_WP, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SMEP, EFER_LMA, EFER_NXE

WRITE, FETCH = 1, 4
MAY_WRITE, USER_PAGE, MAY_EXECUTE, GLOBAL, LARGE, MAY_READ, HUGE = 1, 2, 4, 8, 16, 32, 64
NO_FAULT, AGAIN = (1 << 64) - 1, (1 << 64) - 2

# page table entries
P, RW, US, A, D, PS, G = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
NX = 1 << 63
ADDRESS_BITS = 40  # physical address bits of every processor model
ADDRESS = (1 << ADDRESS_BITS) - 0x1000
RESERVED = (1 << 52) - (1 << ADDRESS_BITS)
E_PRESENT, E_WRITE, E_USER, E_RESERVED, E_FETCH = 1, 2, 4, 8, 16


class Walk:
    """One walk while it is traced: what is asked, and the variables that the levels change."""

    def __init__(self, cpu: Cpu, linear: Value, access: Value, index: Value) -> None:
        self.cpu, self.linear = cpu, linear
        self.write, self.fetch = (access & WRITE) != 0, (access & FETCH) != 0
        self.user, self.smap = index == 0, index == 2
        self.nxe = (cpu.efer & EFER_NXE) != 0
        told = (self.nxe & ((cpu.cr4 & CR4_PAE) != 0)) | ((cpu.cr4 & CR4_SMEP) != 0)
        bits = [(self.write, E_WRITE), (self.user, E_USER), (self.fetch & told, E_FETCH)]
        self.code = lift(0, 64)
        for c, bit in bits:
            self.code = self.code | c.choose(lift(bit, 64), lift(0, 64))
        self.error, self.page, self.rights = Var(self.code), Var(0), Var(0)
        self.rw, self.us, self.nx = Var(1, 1), Var(1, 1), Var(0, 1)

    def entry(self, address: Value, w: int) -> tuple[Value, Value]:
        """An entry (extended to 64 bits) and the host's pointer to it; what is no RAM reads as not present."""
        host = self.cpu.effect("phys", 64, address)
        e = Var(0)
        with when(host != 0):
            e.set(self.cpu.effect("load", w, host).zext(64))
        return e.read(), host

    def mark(self, host: Value, e: Value, bits: Value | int, w: int) -> Value:
        """Set accessed and dirty bits where they are not yet; False where another processor was there meanwhile."""
        new = e | bits
        fine = Var(1, 1)
        with when(new != e):
            fine.set(self.cpu.effect("cas", w, host, e.low(w), new.low(w)) == e.low(w))
        return fine.read()

    def leaf(self, host: Value, e: Value, w: int, shift: int, base: Value, wrong: Value) -> None:
        """The entry that maps the page: rights, then accessed and dirty."""
        cpu = self.cpu
        with when(wrong):
            self.error.set(self.code | (E_PRESENT | E_RESERVED))
        with when(~wrong):
            writable, user = self.rw.read(), self.us.read()
            executable = ~self.nx.read()
            may_read = self.user.choose(user, ~(user & self.smap))
            may_write = may_read & (writable | (~self.user & ((cpu.cr0 & CR0_WP) == 0)))
            may_execute = executable & self.user.choose(user, ~(user & ((cpu.cr4 & CR4_SMEP) != 0)))
            allowed = self.fetch.choose(may_execute, self.write.choose(may_write, may_read))
            self.error.set(self.code | E_PRESENT)
            with when(allowed):
                self.error.set(AGAIN)
                with when(self.mark(host, e, self.write.choose(lift(A | D, 64), lift(A, 64)), w)):
                    self.error.set(NO_FAULT)
                    offset = self.linear & ((1 << shift) - 0x1000)
                    self.page.set(base | offset)
                    dirty = self.write | ((e & D) != 0)
                    rights = lift(0 if shift == 12 else HUGE if shift == 30 else LARGE, 64)
                    for c, bit in [
                        (may_write & dirty, MAY_WRITE), (user, USER_PAGE), (may_execute, MAY_EXECUTE),
                        (((e & G) != 0) & ((cpu.cr4 & CR4_PGE) != 0), GLOBAL), (may_read, MAY_READ),
                    ]:  # fmt: skip
                        rights = rights | c.choose(lift(bit, 64), lift(0, 64))
                    self.rights.set(rights)

    def reserved(self, e: Value, bits: int) -> Value:
        """Is a reserved bit set? NX is one without EFER.NXE."""
        return lift(((e & bits) != 0) | (((e & NX) != 0) & ~self.nxe))

    def level(self, table: Value, shift: int) -> None:
        """4-level and PAE: the entry for bits `shift` and up, and what lies below."""
        e, host = self.entry(table + ((self.linear.u >> shift) & 0x1FF) * 8, 64)
        with when((e & P) != 0):
            self.rw.set(self.rw & e.bit(1))
            self.us.set(self.us & e.bit(2))
            self.nx.set(self.nx | e.bit(63))
            if shift == 12:
                self.leaf(host, e, 64, 12, e & ADDRESS, self.reserved(e, RESERVED))
                return
            large = ((e & PS) != 0) if shift < 39 else lift(0, 1)
            if shift < 39:
                with when(large):
                    inside = (1 << shift) - (1 << 13)
                    wrong = self.reserved(e, RESERVED | inside)
                    if shift == 30:
                        wrong = wrong | (self.cpu.no_huge != 0)
                    self.leaf(host, e, 64, shift, e & ADDRESS & ~((1 << shift) - 1), wrong)
            with when(~large):
                self.down(host, e, self.reserved(e, RESERVED | (PS if shift == 39 else 0)), lambda: self.level(e & ADDRESS, shift - 9), 64)

    def down(self, host: Value, e: Value, wrong: Value, below: Callable[[], None], w: int) -> None:
        """An entry that points to a table."""
        with when(wrong):
            self.error.set(self.code | (E_PRESENT | E_RESERVED))
        with when(~wrong):
            self.mark(host, e, A, w)
            below()

    def long(self) -> None:
        """4-level paging; who asks has checked that the address is canonical."""
        self.level(self.cpu.cr3 & ADDRESS, 39)

    def pae(self) -> None:
        """PAE: four registers without rights, then as below a gigabyte of 4-level paging."""
        e = self.cpu.get(("pdpte", 0, 64))
        for i in 1, 2, 3:
            e = (((self.linear.u >> 30) & 3) == i).choose(self.cpu.get(("pdpte", i, 64)), e)
        with when((e & P) != 0):
            self.level(e & ADDRESS, 21)

    def legacy(self) -> None:
        """32-bit paging, 4 MiB pages with PSE-36."""
        e, host = self.entry((self.cpu.cr3 & 0xFFFFF000) + ((self.linear.u >> 22) & 0x3FF) * 4, 32)
        with when((e & P) != 0):
            self.rw.set(e.bit(1))
            self.us.set(e.bit(2))
            large = ((e & PS) != 0) & ((self.cpu.cr4 & CR4_PSE) != 0)
            with when(large):
                base = e & 0xFFC00000 | ((e.u >> 13) & 0xFF) << 32
                self.leaf(host, e, 32, 22, base, (e & (1 << 21)) != 0)
            with when(~large):
                self.down(host, e, lift(0, 1), lambda: self.legacy_page(e), 32)

    def legacy_page(self, table: Value) -> None:
        """The second level of 32-bit paging."""
        e, host = self.entry((table & 0xFFFFF000) + ((self.linear.u >> 12) & 0x3FF) * 4, 32)
        with when((e & P) != 0):
            self.rw.set(self.rw & e.bit(1))
            self.us.set(self.us & e.bit(2))
            self.leaf(host, e, 32, 12, e & 0xFFFFF000, lift(0, 1))


def walk(cpu: Cpu, linear: Value, access: Value, index: Value) -> None:
    """Translate a linear address (64 bits; in 32-bit modes the upper half is zero)."""
    w = Walk(cpu, linear, access, index)
    paging = (cpu.cr0 & CR0_PG) != 0
    pae = (cpu.cr4 & CR4_PAE) != 0
    long = (cpu.efer & EFER_LMA) != 0
    with when(paging & long & (linear.low(48).sext(64) == linear)):  # else it stays a fault, which `access_fault` makes #GP or #SS
        w.long()
    with when(paging & ~long & pae):
        w.pae()
    with when(paging & ~pae):
        w.legacy()
    with when(~paging):
        w.error.set(NO_FAULT)
        w.page.set(linear & 0xFFFFF000)
        w.rights.set(MAY_READ | MAY_WRITE | MAY_EXECUTE | USER_PAGE)
    for name in ("error", "page", "rights"):
        cpu.put(("walk_" + name, 0, 64), getattr(w, name).read())


def walk_trace() -> Cpu:
    """The walk as a trace with three parameters: linear address, access, TLB index."""
    cpu = Cpu()
    with tracing(cpu):
        walk(cpu, *(Value(Node("param", 64, (), i)) for i in range(3)))
    return cpu
