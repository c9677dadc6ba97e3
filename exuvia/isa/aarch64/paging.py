"""Translation tables: stage 1 of EL1&0 and EL2, and stage 2, with granules of 4, 16 and 64 KiB (DDI 0487, D8). One text, compiled, for
every miss of a TLB.

`walk(cpu, linear, access, index)` puts its result into state words when it ends:

    walk_error   -1: no fault; else the fault status code (ESR_ELx.DFSC), with S1PTW, and STAGE2 where stage 2 found it
    walk_page    physical address of the 4 KiB page
    walk_rights  what a TLB entry may allow: 1 write, 2 user page, 4 execute, 8 global, 16 part of a large page, 32 read, 64 part of
                 something that is dropped only with everything
    walk_attributes  of the memory, as PAR_EL1 tells them

`access`: WRITE, FETCH; `index` is the TLB to be filled: 0 unprivileged, 1 privileged, 2 privileged while PAN keeps it from user pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from exuvia.dsl.trace import Var, loop, tracing, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.aarch64.cpu import ALIGNMENT, AT_BOTH, AT_STAGE1, MAINTENANCE, STORES, UNITS, ZEROES, Cpu
from exuvia.isa.aarch64.state import DAIF_D, GUARDED, GUARDS, WATCHPOINTS

WRITE, FETCH, ALSO_READ = 1, 4, 8
MAY_WRITE, USER_PAGE, MAY_EXECUTE, GLOBAL, LARGE, MAY_READ, HUGE = 1, 2, 4, 8, 16, 32, 64
NO_FAULT = (1 << 64) - 1
S1PTW, STAGE2 = 1 << 7, 1 << 8
SHAREABILITY = 8  # in the word `walk_attributes`, above those of MAIR_ELx
GUARDED_PAGE = 1 << 17  # no fault: an instruction from a guarded page, and who fetches it does not expect one (bti.py)
WATCHPOINT, WNR = 1 << 18, 1 << 6  # no fault either: a watchpoint means this access; only its store
FOUND = 1 << 16  # in a fault status code while the walk is under way: one of its codes is 0
ADDRESS_SIZE, TRANSLATION, ACCESS_FLAG, PERMISSION, EXTERNAL_WALK = 0x00, 0x04, 0x08, 0x0C, 0x14  # with the level in bits 1:0
ADDRESS = (1 << 48) - (1 << 12)
SCTLR_M, SCTLR_WXN = 1 << 0, 1 << 19
HCR_VM, HCR_FMO, HCR_IMO, HCR_DC, HCR_TGE = (1 << i for i in (0, 3, 4, 12, 27))
MDSCR_KDE, MDCR_TDE = 1 << 13, 1 << 8
E0PD0, E0PD1 = 55, 56  # in TCR_EL1: a half that EL0 cannot reach (FEAT_E0PD)
LARGEST_PIECE = 21  # log2 of the largest page that is dropped piece by piece


def yes(c: Value, v: int) -> Value:
    """A bit where a condition holds."""
    return c.choose(lift(v, 64), lift(0, 64))


def pick(c: Value, a: Value | int, b: Value | int) -> Value:
    """A choice, of 64 bits."""
    return c.choose(lift(a, 64), lift(b, 64))


def segment(access: Value) -> Value:
    """What an access is: MAINTENANCE and its kin (cpu.py)."""
    return (access.u >> 24) & 0xFF


def loads_too(access: Value) -> Value:
    """Is this store one of an atomic operation on memory?"""
    return ((access & ALSO_READ) != 0) & (segment(access) != STORES)


def unaligned(linear: Value, access: Value) -> Value:
    """Is this what no device takes?"""
    what = segment(access)
    whole = (what.u < UNITS) | (what == STORES)
    asks = (what == MAINTENANCE) | (what == AT_STAGE1) | (what == AT_BOTH)
    size = pick(asks, 1, pick(whole, (access.u >> 8) & 0xFFFF, lift(1, 64) << ((what - UNITS) & 7)))
    return ((access & FETCH) == 0) & (((linear & (size - 1)) != 0) | (what == ZEROES))


def stage1_on(cpu: Cpu, el2: Value) -> Value:
    """Does stage 1 of this regime, EL2's or EL1&0's, translate?"""
    off = (cpu.hcr_el2 & (HCR_DC | HCR_TGE)) != 0
    return el2.choose((cpu.sctlr_el2 & SCTLR_M) != 0, ((cpu.sctlr_el1 & SCTLR_M) != 0) & ~off)


def debug_to_el2(cpu: Cpu) -> Value:
    """Are debug exceptions of EL1 and EL0 EL2's?"""
    to_el2: Value = (cpu.has_el2 != 0) & (((cpu.mdcr_el2 & MDCR_TDE) | (cpu.hcr_el2 & HCR_TGE)) != 0)
    return to_el2


def debug_enabled(cpu: Cpu, el: Value, daif: Value) -> Value:
    """AArch64.GenerateDebugExceptionsFrom() (D2.4)."""
    target = pick(debug_to_el2(cpu), 2, 1)
    own = ((cpu.mdscr_el1 & MDSCR_KDE) != 0) & ((daif & DAIF_D) == 0)
    on: Value = (cpu.os_locked == 0) & ((el.u < target) | (el == target) & own)
    return on


@dataclass
class Regime:
    """How one set of tables is read: values, some of which depend on the address."""

    base: Value  # of the first table
    bits: Value  # of an input address
    granule: Value  # log2 of the page's bytes
    level: Value  # the first
    limit: Value  # bits of an output address


def granule0(field: Value) -> Value:
    """TG0: 4, 64 or 16 KiB."""
    return pick(field == 1, 16, pick(field == 2, 14, 12))


def granule1(field: Value) -> Value:
    """TG1: 16, 4 or 64 KiB."""
    return pick(field == 3, 16, pick(field == 1, 14, 12))


def output_bits(cpu: Cpu, field: Value) -> Value:
    """IPS, PS: bits of an output address, of those that there are."""
    bits = lift(32, 64)
    for number, n in enumerate((36, 40, 42, 44, 48, 48, 48), 1):
        bits = pick(field == number, n, bits)
    return pick(bits.u < cpu.physical_bits, bits, cpu.physical_bits)


def first_level(bits: Value, granule: Value) -> Value:
    """Where a walk of stage 1 begins (D8.2.7)."""
    left = bits - granule
    stride = granule - 3
    return pick(left.u <= stride, 3, pick(left.u <= stride * 2, 2, pick(left.u <= stride * 3, 1, 0)))


class Tables:
    """One walk of tables while it is traced."""

    def __init__(self, cpu: Cpu, regime: Regime, address: Value, stage2: Stage2 | None) -> None:
        """`address` has no bits above those of the regime. `stage2` translates the addresses of the tables."""
        self.cpu, self.regime = cpu, regime
        self.error, self.leaf, self.size, self.tables = Var(0), Var(0), Var(0), Var(0)
        self.page, self.level = Var(0), Var(regime.level)
        granule, stride = regime.granule, regime.granule - 3
        table, mask, busy = Var(regime.base), Var((1 << 64) - 1), Var(1)
        hpfar = Var(0)
        with loop(4, self.error, self.leaf, self.size, self.tables, self.page, self.level, table, mask, busy, hpfar):
            with when(busy != 0):
                level = self.level.read()
                shift = granule + stride * (lift(3, 64) - level)
                where = table + ((address.u >> shift) & mask) * 8
                real = where
                if stage2 is not None:
                    error, real = stage2.of(where, hpfar)
                    self.error.set(pick(error != 0, error | S1PTW, 0))
                host = cpu.effect("phys", 64, real)
                descriptor = Var(0)
                with when((self.error == 0) & (host == 0)):
                    self.error.set(level | (FOUND | EXTERNAL_WALK))
                with when((self.error == 0) & (host != 0)):
                    descriptor.set(cpu.effect("load", 64, host))
                d = descriptor.read()
                last = level == 3
                block = (d & 2) == 0
                blocks = (level == 2) | ((level == 1) & (granule == 12))
                wrong = ((d & 1) == 0) | pick(last, yes(block, 1), yes(block & ~blocks, 1)).low(1)
                with when((self.error == 0) & wrong):
                    self.error.set(level | (FOUND | TRANSLATION))
                inside = (lift(1, 64) << pick(block, shift, granule)) - 1
                with when((self.error == 0) & (((d & ADDRESS & ~inside).u >> regime.limit) != 0)):
                    self.error.set(level | (FOUND | ADDRESS_SIZE))
                busy.set(yes((self.error == 0) & ~last & ~block, 1))
                with when(busy != 0):
                    table.set(d & ADDRESS & ~inside)
                    self.tables.set(self.tables | d)
                    mask.set((lift(1, 64) << stride) - 1)
                    self.level.set(level + 1)
                with when((busy == 0) & (self.error == 0)):
                    span = (lift(1, 64) << shift) - 1
                    self.leaf.set(d)
                    self.size.set(shift)
                    self.page.set(d & ADDRESS & ~span | address & span & ~0xFFF)
                    with when((d & 1 << 10) == 0):
                        self.error.set(level | (FOUND | ACCESS_FLAG))
        self.hpfar = hpfar

    def fail(self, condition: Value, kind: int) -> None:
        """A fault at the level of the leaf, unless there was one."""
        with when((self.error == 0) & condition):
            self.error.set(self.level | (FOUND | kind))


class Stage2:
    """Intermediate physical addresses to physical ones (D8.2.8): VTTBR_EL2, VTCR_EL2, where HCR_EL2.VM says so."""

    def __init__(self, cpu: Cpu, on: Value) -> None:
        self.cpu, self.on = cpu, on
        vtcr = cpu.vtcr_el2
        bits = lift(64, 64) - (vtcr & 63)
        granule = granule0((vtcr.u >> 14) & 3)
        start = (vtcr.u >> 6) & 3
        level = pick(granule == 12, lift(2, 64) - start, lift(3, 64) - start)
        base = cpu.vttbr_el2 & ((1 << 48) - 2)
        self.regime = Regime(base, bits, granule, level, output_bits(cpu, (vtcr.u >> 16) & 7))

    def walk(self, address: Value) -> Tables:
        """The tables' word on an address that is not too large."""
        return Tables(self.cpu, self.regime, address, None)

    def of(self, address: Value, hpfar: Var) -> tuple[Value, Value]:
        """(error, physical address) of a table of stage 1."""
        error, real = Var(0), Var(address)
        with when(self.on):
            t = self.walk(address)
            t.fail((address.u >> self.regime.bits) != 0, TRANSLATION)
            t.fail((t.leaf & 1 << 6) == 0, PERMISSION)
            error.set(pick(t.error != 0, t.error | STAGE2, 0))
            real.set(t.page | address & 0xFFF)
            with when(t.error != 0):
                hpfar.set((address.u >> 12) << 4)
        return error.read(), real.read()


class Walk:
    """A whole translation while it is traced."""

    def __init__(self, cpu: Cpu, linear: Value, access: Value, index: Value) -> None:
        self.cpu, self.linear = cpu, linear
        self.write, self.fetch = (access & WRITE) != 0, (access & FETCH) != 0
        self.access, self.what = access, segment(access)
        self.el2 = cpu.el == 2
        self.user, self.forbidden = (index == 0) & ~self.el2, index == 2  # LDTR and STTR at EL2 are as all else there
        self.asks = (self.what == AT_STAGE1) | (self.what == AT_BOTH)
        normal = (cpu.hcr_el2 & HCR_DC) != 0
        self.attributes = Var(pick(normal, 0xFF, 2 << SHAREABILITY))  # with stage 1 off: normal memory, or a device
        self.unaligned = unaligned(linear, access)
        self.error, self.page, self.rights, self.hpfar, self.guard = Var(NO_FAULT), Var(0), Var(0), Var(0), Var(0)
        self.stage2 = Stage2(cpu, ((cpu.hcr_el2 & (HCR_VM | HCR_DC)) != 0) & ~self.el2)

    def regime(self) -> tuple[Regime, Value, Value]:
        """Tables, the address within them, and whether there are none for it."""
        cpu, linear, el2 = self.cpu, self.linear, self.el2
        upper = (linear.bit(55) == 1) & ~el2
        tcr = pick(el2, cpu.tcr_el2, cpu.tcr_el1)
        size = pick(upper, (tcr.u >> 16) & 63, tcr & 63)
        size = pick(size.u < 16, 16, pick(size.u > 39, 39, size))
        bits = lift(64, 64) - size
        granule = pick(upper, granule1((tcr.u >> 30) & 3), granule0((tcr.u >> 14) & 3))
        ignored = pick(el2, (tcr.u >> 20) & 1, pick(upper, (tcr.u >> 38) & 1, (tcr.u >> 37) & 1)) != 0
        above = ignored.choose(linear.low(56).sext(64), linear)
        wrong = (above.s >> bits) != pick(upper, -1, 0)
        disabled = ~el2 & (pick(upper, (tcr.u >> 23) & 1, (tcr.u >> 7) & 1) != 0)
        disabled = disabled | self.user & (cpu.has_e0pd != 0) & (pick(upper, cpu.tcr_el1.u >> E0PD1, cpu.tcr_el1.u >> E0PD0).low(1) == 1)
        ttbr = pick(el2, cpu.ttbr0_el2, pick(upper, cpu.ttbr1_el1, cpu.ttbr0_el1))
        level = first_level(bits, granule)
        entries = bits - granule - (granule - 3) * (lift(3, 64) - level)
        align = pick(entries.u < 3, 6, entries + 3)
        base = (ttbr & ((1 << 48) - 2)).u >> align << align
        limit = output_bits(cpu, pick(el2, (tcr.u >> 16) & 7, (tcr.u >> 32) & 7))
        inside = linear & ((lift(1, 64) << bits) - 1)
        return Regime(base, bits, granule, level, limit), inside, wrong | disabled

    def stage1(self) -> None:
        """Rights and page by the tables of stage 1."""
        cpu, el2, user = self.cpu, self.el2, self.user
        regime, inside, nothing = self.regime()
        with when(nothing):
            self.error.set(TRANSLATION)
        with when(~nothing):
            t = Tables(cpu, regime, inside, self.stage2)
            d, tables = t.leaf.read(), t.tables.read()
            tcr = cpu.tcr_el1
            upper = self.linear.bit(55) == 1
            hierarchy = pick(el2, cpu.tcr_el2.u >> 24, pick(upper, tcr.u >> 42, tcr.u >> 41)).low(1) == 0
            tables = pick(hierarchy, tables, 0)
            for_user = (d.bit(6) == 1) & (tables.bit(61) == 0) & ~el2
            writable = (d.bit(7) == 0) & (tables.bit(62) == 0)
            wxn = (pick(el2, cpu.sctlr_el2, cpu.sctlr_el1) & SCTLR_WXN) != 0
            uxn, pxn = (d.bit(54) | tables.bit(60)) == 1, (d.bit(53) | tables.bit(59)) == 1
            may_read = user.choose(for_user, ~(for_user & self.forbidden))
            may_write = may_read & writable
            own = ~pxn & ~(for_user & writable)
            may_execute = user.choose(~uxn, el2.choose(~uxn, own)) & ~(wxn & writable & user.choose(for_user, lift(1, 1)))
            allowed = self.fetch.choose(may_execute, self.write.choose(may_write, may_read))
            t.fail(~allowed, PERMISSION)
            attributes = pick(el2, cpu.mair_el2, cpu.mair_el1).u >> ((d.u >> 2) & 7) * 8
            device = (attributes & 0xF0) == 0
            with when((t.error == 0) & device & self.unaligned):
                t.error.set(ALIGNMENT | FOUND)
            may_read, may_write = may_read & ~device, may_write & ~device  # each access is looked at
            self.page.set(t.page)
            self.hpfar.set(t.hpfar)
            self.attributes.set(attributes & 0xFF | pick(device, 2, (d.u >> 8) & 3) << SHAREABILITY)
            with when(t.error != 0):
                self.error.set(t.error & ~FOUND)
            guarded = (cpu.has_bti != 0) & (d.bit(50) == 1)
            self.guard.set(yes(guarded, GUARDED))
            unaware = guarded & may_execute & ((cpu.met_guarded & pick(user, 1, 2)) == 0)
            with when((self.error == NO_FAULT) & self.fetch & unaware):
                self.error.set(GUARDED_PAGE)
            may_execute = may_execute & ~unaware
            common = (el2 | (d.bit(11) == 0)) & ~(guarded & for_user)  # `met_guarded` is forgotten with the address space
            rights = yes(t.size.u > 12, LARGE) | yes(t.size.u > LARGEST_PIECE, HUGE)
            self.allow(rights, may_read, may_write, may_execute, for_user, common)

    def allow(self, rights: Value, may_read: Value, may_write: Value, may_execute: Value, for_user: Value, common: Value) -> None:
        """The rights as a word."""
        tagged = self.linear.low(56).sext(64) != self.linear
        rights = rights | yes(may_read, MAY_READ) | yes(may_write, MAY_WRITE) | yes(may_execute, MAY_EXECUTE)
        self.rights.set(rights | yes(for_user, USER_PAGE) | yes(common, GLOBAL) | yes(tagged, HUGE))

    def flat(self) -> None:
        """With stage 1 off addresses are what they are."""
        with when((self.linear.low(56).u >> self.cpu.physical_bits.low(56)) != 0):
            self.error.set(ADDRESS_SIZE)
        one = lift(1, 1)
        self.page.set(self.linear & ((1 << 56) - (1 << 12)))
        self.allow(lift(0, 64), one, one, one, one, one)

    def second(self) -> None:
        """Stage 2 of what stage 1 gave."""
        address = self.page.read()
        t = self.stage2.walk(address)
        t.fail((address.u >> self.stage2.regime.bits) != 0, TRANSLATION)
        d = t.leaf.read()
        may_read, may_write, may_execute = d.bit(6) == 1, d.bit(7) == 1, d.bit(54) == 0
        t.fail(~self.fetch.choose(may_execute, self.write.choose(may_write, may_read)), PERMISSION)
        device = ((d.u >> 4) & 3) == 0
        with when((t.error == 0) & device & self.unaligned):
            t.error.set(ALIGNMENT | FOUND)
        may_read, may_write = may_read & ~device, may_write & ~device
        self.attributes.set(pick(device, ((d.u >> 2) & 3) << 2 | 2 << SHAREABILITY, self.attributes.read()))
        with when(t.error != 0):
            self.error.set(t.error & ~FOUND | STAGE2)
            self.hpfar.set((address.u >> 12) << 4)
        self.page.set(t.page)
        keep = yes(may_read, MAY_READ) | yes(may_write, MAY_WRITE) | yes(may_execute, MAY_EXECUTE) | (USER_PAGE | GLOBAL | LARGE | HUGE)
        self.rights.set(self.rights & keep | yes(t.size.u > 12, LARGE) | yes(t.size.u > LARGEST_PIECE, HUGE))

    def watch(self) -> None:
        """Watchpoints (AArch64.WatchpointMatch()): pages with one have no entry in a TLB."""
        cpu, access = self.cpu, self.access
        first = self.linear.low(56).sext(64)
        room = lift(4096, 64) - (first & 0xFFF)
        size = (access.u >> 8) & 0xFFFF
        last = first + pick(size.u < room, size, room) - 1
        reads = ~self.write | loads_too(access)
        level = pick(self.user, 0, cpu.el * 2)
        known = cpu.contextidr_el1 & 0xFFFF_FFFF | ((cpu.vttbr_el2.u >> 48) & 0xFF) << 32
        near, load, store, far = lift(0, 1), lift(0, 1), lift(0, 1), self.linear
        for i in range(WATCHPOINTS):
            low, high, who, context, mask = (
                cpu.get((f"watch_{name}", i, 64)) for name in ("first", "last", "who", "context", "mask")
            )  # fmt: skip
            near = near | ~((first | 0xFFF).u < low) & ~(high.u < (first & ~0xFFF))
            touched = ~(last.u < low) & ~(high.u < first) & ((known & mask) == context)
            of_load, of_store = (touched & c & ((who.u >> level).bit(k) == 1) for k, c in enumerate((reads, self.write)))
            load, store = load | of_load, store | of_store
            far = pick((of_load | of_store) & (first.u < low), low, far)
        with when(near):
            self.rights.set(self.rights & ~(MAY_READ | MAY_WRITE))
        with when((load | store) & (segment(access) != MAINTENANCE) & debug_enabled(cpu, cpu.el, cpu.daif)):
            self.error.set(WATCHPOINT | yes(~load, WNR))
            cpu.fault_address = far

    def run(self) -> None:
        """Both stages."""
        cpu = self.cpu
        on = stage1_on(cpu, self.el2)
        with when(on):
            self.stage1()
        with when(~on):
            self.flat()
        with when((self.error == NO_FAULT) & self.stage2.on & (self.what != AT_STAGE1)):
            self.second()
        self.rights.set(pick(self.asks, GLOBAL, self.rights.read()))
        with when((self.error == NO_FAULT) & ~self.fetch & ~self.asks & (cpu.watchpoints != 0)):
            self.watch()
        second = (self.error != NO_FAULT) & ((self.error & STAGE2) != 0)
        cpu.hpfar_el2 = second.choose(self.hpfar.read(), cpu.hpfar_el2)
        with when(~self.asks):
            cpu.put_at("guards", (self.linear.u >> 12) & (GUARDS - 1), self.linear & ~0xFFF | self.guard)
        for name in ("error", "page", "rights", "attributes"):
            cpu.put(("walk_" + name, 0, 64), getattr(self, name).read())


def walk_trace() -> Cpu:
    """The walk as a trace with three parameters: linear address, access, TLB index."""
    cpu = Cpu()
    with tracing(cpu):
        Walk(cpu, *(Value(Node("param", 64, (), i)) for i in range(3))).run()
    return cpu
