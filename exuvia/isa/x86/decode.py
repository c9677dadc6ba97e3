"""The decoder: bytes to a record and a handler's slot (SDM vol. 2, chapter 2), written in guest values and made native by the engines.

`DECODE(code, out, tables, offset)`: `code` points to the instruction in host memory (up to `READS` bytes from there are read, whatever
its length), `out` to a record (dsl/record.py; all fields are written but `handler`), `tables` to a blob of `tables(mode)`, `offset` is
where in its page the instruction stands. The result is length | ends << 8 | has a target << 9 | conditional << 10 | shadow << 11 |
slot << 16.
"""

from __future__ import annotations

from exuvia.dsl.trace import Function, Var, loop, now, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.x86 import decode_tables as t
from exuvia.isa.x86.decode_tables import Overlap, Tables, tables
from exuvia.isa.x86.state import DS, SS, ZERO

READS = 40
UNROLLED, PREFIX_LIMIT = 3, 15
RESULT_ENDS, RESULT_SLOT = 1 << 8, 16


def host(address: Value, w: int) -> Value:
    """Read the host's memory."""
    return now().effect("load", w, Node("ptr", 64, (address.n,)))


def byte(address: Value) -> Value:
    """A byte of the host's memory, as 64 bits."""
    return host(address, 8).zext(64)


def write(address: Value, v: Value) -> None:
    """Write the host's memory."""
    now().effect("store", 0, Node("ptr", 64, (address.n,)), v.n)


def has(x: Value | Var, bit: int) -> Value:
    """Is one of these bits set?"""
    return (x & bit) != 0


def pick(c: Value, yes: int, no: int) -> Value:
    """A choice of two constants, as 64 bits."""
    return c.choose(lift(yes, 64), lift(no, 64))


class Reader:
    """The place in the instruction, and what the prefixes said."""

    def __init__(self, code: Value, tab: Value) -> None:
        self.tab = tab
        self.at, self.op = Var(code + 1), Var(byte(code))
        self.pre, self.rex = Var(0), Var(0)

    def next_byte(self) -> Value:
        """The next byte of the instruction."""
        v = byte(self.at.read())
        self.at.set(self.at + 1)
        return v

    def prefixes(self) -> None:
        """REX counts only as the last of them (SDM vol. 2, 2.2.1)."""

        def one(rest: int) -> None:
            kind = host(self.tab + t.PREFIXES + (self.op << 2), 32).zext(64)
            with when(kind != 0):
                self.pre.set((self.pre & ~(kind.u >> 16)) | (kind & 0xFFFF))
                self.rex.set((kind == t.PREX).choose(self.op.read(), lift(0, 64)))
                self.op.set(self.next_byte())
                if rest > 1:
                    one(rest - 1)
                elif rest == 1:
                    with loop(PREFIX_LIMIT - UNROLLED, self.at, self.op, self.pre, self.rex):
                        one(0)

        one(UNROLLED)

    def immediate(self, e: Value, osize: Value) -> Value:
        """The immediate, sign-extended to 64 bits."""
        kind = (e.u >> t.IMMEDIATE) & 15
        size = byte(self.tab + t.IMMEDIATES + (kind << 3) + (osize << 1) + ((self.pre.u >> 3) & 1))
        unused = lift(64, 64) - (size << 3)
        imm = Var((host(self.at.read(), 64) << unused).s >> unused)
        self.at.set(self.at + size)
        with when((kind == t.FAR) & (size == 4)):
            imm.set((imm & 0xFFFF) | ((imm.u >> 16) & 0xFFFF) << 32)
        with when(kind == t.UPPER_HALF):
            imm.set((imm.u >> 4) & (byte(self.tab + t.HEAD) == 0).choose(lift(15, 64), 7))
        return imm.read()


def decode(code: Value, out: Value, tab: Value, off: Value) -> Value:
    r = Reader(code, tab)
    r.prefixes()
    pre, rex, op = r.pre, r.rex, r.op

    # opcode map and class of mandatory prefix
    mandatory = pre & 7
    cls = Var((mandatory.u > 1).choose((mandatory.u >> 1) + 1, mandatory))
    table, extra = Var(0), Var(0)
    with when(op == 0x0F):
        op.set(r.next_byte())
        table.set(t.MAP_SIZE)
        with when((op & 0xFD) == 0x38):
            table.set(pick(op == 0x38, 2 * t.MAP_SIZE, 3 * t.MAP_SIZE))
            op.set(r.next_byte())
    with when((table == 0) & ((op & 0xFE) == 0xC4)):
        vex(r, cls, table, extra)
    e = Var(host(tab + table + (cls << 11) + (op << 3), 64))

    # registers, and the operand in memory
    reg, rm = Var(0), Var((op & 7) | (rex & 1) << 3)
    base, index, scale, disp = Var(lift(ZERO, 64)), Var(lift(ZERO, 64)), Var(0), Var(0)
    memory, rip, seg, wrong = Var(0), Var(0), Var(lift(DS, 64)), Var(lift(0, 1))
    with when(has(e, t.MODRM)):
        m = r.next_byte()
        in_register = m.u >= 0xC0
        with when(has(e, t.GROUP)):
            e.set(host(tab + t.GROUPS + ((e & 0xFFFF) << 7) + pick(in_register, 64, 0) + (m & 0x38), 64))
            with when(has(e, t.SUBGROUP)):
                e.set(host(tab + t.SUBGROUPS + ((e & 0xFFFF) << 6) + ((m & 7) << 3), 64))
        reg.set((m.u >> 3) & 7 | (rex & 4) << 1)
        rm.set(m & 7 | (rex & 1) << 3)
        with when(~in_register & ~has(e, t.REGISTERS_ONLY)):
            memory.set(4)
            d = host(tab + t.MODRMS + ((pre & t.P67) << 8) + (m << 3), 64)
            form, size = Var(d), Var((d.u >> t.DISP_SHIFT) & 7)
            index.set((d.u >> 8) & 0xFF)
            wrong.set(has(e, t.VSIB) & ~has(d, t.HAS_SIB))
            with when(has(d, t.HAS_SIB)):
                sib = r.next_byte()
                s = host(tab + t.SIBS + pick(m.u < 0x40, 2048, 0) + (sib << 3), 64)
                form.set(s)
                none = has(s, t.NO_INDEX)
                index.set(has(rex, 2).choose(none.choose(lift(96, 64), ((s.u >> 8) & 0xFF) + 64), (s.u >> 8) & 0xFF))
                scale.set((s.u >> t.SCALE_SHIFT) & 3)
                with when(has(s, t.SIB_DISP)):
                    size.set(4)
                with when(has(e, t.VSIB)):  # the index is a vector, which the record has in `rm`
                    index.set(ZERO)
                    rm.set((sib.u >> 3) & 7 | (rex & 2) << 2)
            extended = has(form, t.BASE_EXTENDS) & has(rex, 1)
            base.set((form & 0xFF) + pick(extended, 64, 0))
            rip.set(pick(has(d, t.RIP), 1, 0))
            seg.set(pick(has(form, t.STACK) & ~extended, SS, DS))
            unused = lift(32, 32) - (size << 3).low(32)
            disp.set(((host(r.at.read(), 32) << unused).s >> unused).sext(64))
            r.at.set(r.at + size)

    osize = byte(tab + t.OSIZES + (((e.u >> t.OSIZE_CLASS) & 7) << 2) + ((rex.u >> 2) & 2) + (pre & 1))
    imm = r.immediate(e.read(), osize)
    length = r.at - code

    # the handler
    repeat = has(pre, t.LOCK).choose(lift(3, 64), (pre.u >> 1) & 3)
    variant = osize | memory | (pre & (t.P67 | t.PSEG)) | repeat << 4
    dense = byte(tab + t.COMPACT + ((e.u >> (t.COMPACT_CLASS - 7)) & (63 << 7)) + variant)
    refused = (dense == t.REFUSED) | wrong | (extra != 0) & ~has(e, t.EXTRA)
    known = refused.choose(lift(t.UNDEFINED_SLOT, 64), (e & 0xFFFF) + dense)
    slot = (length.u > 15).choose(lift(t.TOO_LONG_SLOT, 64), known)
    facts = (slot.u <= t.TOO_LONG_SLOT).choose(lift(RESULT_ENDS, 64), (e.u >> 32) & 0xF00)

    # the record
    def register(number: Var, kind: int) -> Value:
        return byte(tab + t.REGISTERS + (((e.u >> kind) & 3) << 5) + pick(rex != 0, 16, 0) + number)

    segment = has(pre, t.PHAS).choose((pre.u >> t.SEG_SHIFT) & 7, seg.read())
    final = disp + (rip != 0).choose(off + length, lift(0, 64))
    low = register(reg, t.REG_KIND) | register(rm, t.RM_KIND) << 8 | base << 16 | index << 24
    write(out + 8, low | (extra << pick(has(e, t.EXTRA_GENERAL), 3, 0)) << 32 | scale << 40 | segment << 48 | (length & 0xFF) << 56)
    write(out + 16, (final & 0xFFFF_FFFF) | (off & 0xFFFF) << 32 | slot << 48)
    write(out + 24, imm)
    return (length & 0xFF) | facts | slot << RESULT_SLOT


def vex(r: Reader, cls: Var, table: Var, extra: Var) -> None:
    """VEX (SDM vol. 2, 2.3.5). Outside of 64-bit mode C4 and C5 are LES and LDS unless the next byte's top two bits are set; where there is
    no protection the instruction's text says #UD, as LES and LDS with a register do."""
    legacy = byte(r.tab + t.HEAD)
    with when((legacy == 0) | (byte(r.at.read()).u >= 0xC0)):
        first = r.next_byte()
        number, last = Var(1), Var(first & 0x7F)
        inverted = Var(((first ^ 0x80).u >> 5) & 4)
        with when(r.op == 0xC4):
            number.set(first & 31)
            inverted.set(((~first).u >> 5) & 7)
            last.set(r.next_byte())
        wrong = has(r.pre, t.P66 | t.PF3 | t.PF2 | t.LOCK) | (r.rex != 0) | ((number - 1).u > 2)
        which = (number << 2) + ((last.u >> 2) & 1) + ((last.u >> 6) & 2)
        table.set(wrong.choose(lift(t.NOTHING, 64), which * t.MAP_SIZE))
        cls.set(wrong.choose(lift(0, 64), last & 3))
        mask = pick(legacy == 0, 15, 7)
        extra.set((((~last.read()).u >> 3) & 15) & mask)
        r.rex.set((legacy == 0).choose(0x40 | inverted | (last.u >> 4) & 8, lift(0, 64)))
        r.op.set(r.next_byte())


DECODE = Function("decode", decode, (64, 64, 64, 64), 64)

__all__ = ["DECODE", "READS", "Overlap", "Tables", "tables"]
