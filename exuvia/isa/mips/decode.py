"""The decoder: an instruction word to a record and a handler's slot, written in guest values and made native by the engines.

`DECODE(code, out, tables, offset)`: `code` points to the instruction in host memory, `out` to a record (dsl/record.py; all fields are
written but `handler`), `tables` to a blob of `tables(mode)`, `offset` is where in its page the instruction stands. The result is
length | ends << 8 | has a target << 9 | conditional << 10 | records beyond the first << 12 | slot << 16.

A jump and its delay slot are one instruction of 8 bytes and three records: the jump's first part, which says where to go in the word
`then`; the instruction in the slot, in no way different from elsewhere; and the second part, which goes there. With an empty slot (NOP)
there is one record, the second form of the jump's row.
"""

from __future__ import annotations

from exuvia.dsl.record import RECORD
from exuvia.dsl.trace import Function, Var, now, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.mips import decode_tables as t
from exuvia.isa.mips.decode_tables import Overlap, Tables, tables
from exuvia.isa.mips.state import RA, SINK

READS = 8
RESULT_MORE, RESULT_SLOT = 12, 16


def host(address: Value, w: int) -> Value:
    """Read the host's memory."""
    return now().effect("load", w, Node("ptr", 64, (address.n,)))


def write(address: Value, v: Value) -> None:
    """Write the host's memory."""
    now().effect("store", 0, Node("ptr", 64, (address.n,)), v.n)


class Word:
    """An instruction word and what the tables know of it."""

    def __init__(self, code: Value, tab: Value) -> None:
        w = host(code, 32)
        w = (host(tab + t.HEAD, 8) != 0).choose(w.swapped, w)
        self.word = w.zext(64)
        root = tab + host(tab + t.HEAD + 8, 64)
        opcode = self.word.u >> 26
        e = Var(host(root + (opcode << 3), 64))
        self.descend(e, root, t.LEVELS - 1)
        leaf = tab + t.LEAVES + (e << 4)
        self.facts = Var(host(leaf, 64))
        with when((w & host(leaf + 12, 32)) != host(leaf + 8, 32)):
            self.facts.set(host(tab + t.FALLBACK + opcode, 8).zext(64) | t.ENDS)

    def descend(self, e: Var, root: Value, levels: int) -> None:
        """From inner entries to a leaf."""
        if levels:
            with when((e & t.INNER) != 0):
                index = (self.word.u >> ((e.u >> t.CHILD_LOW) & 31)) & ((e.u >> t.CHILD_MASK) & 63)
                e.set(host(root + (((e & 0xFFFF_FFFF) + index) << 3), 64))
                self.descend(e, root, levels - 1)

    def has(self, bit: int) -> Value:
        """Is it said of this instruction?"""
        return (self.facts & bit) != 0

    def field(self, low: int) -> Value:
        """Five bits."""
        return (self.word.u >> low) & 31

    @property
    def immediate(self) -> Value:
        """As the instruction wants it."""
        count = [(self.facts.u >> at) & 63 for at in (t.UP, t.DOWN, t.SHIFT)]
        v = self.word << count[0]
        r: Value = self.has(t.SIGNED).choose(v.s >> count[1], v.u >> count[1]) << count[2]
        return r

    @property
    def relative(self) -> Value:
        """A branch, not a jump to an address."""
        r: Value = ((self.facts.u >> t.JUMP) & 3).u < t.RELATIVE
        return r

    def record(self, out: Value, off: Value, length: Value, alone: Value | None = None) -> None:
        """Write the record of an instruction; `alone`: with an empty slot it is one of 8 bytes, and the second form of its row."""
        rd, rt = self.field(11), self.field(16)
        to = self.has(t.WRITES_RD).choose(rd, self.has(t.WRITES_RT).choose(rt, self.has(t.WRITES_RA).choose(lift(RA, 64), 0)))
        to = (to == 0).choose(lift(SINK, 64), to)
        slot, imm = self.facts & 0xFFFF, self.immediate
        if alone is not None:
            slot, imm = slot + alone.zext(64), imm - (alone & self.relative).choose(lift(4, 64), 0)
        write(out + 8, rt | self.field(21) << 8 | to << 16 | rd << 32 | self.field(6) << 40 | length << 56)
        write(out + 16, off << 32 | slot << 48)
        write(out + 24, imm)


def decode(code: Value, out: Value, tab: Value, off: Value) -> Value:
    first = Word(code, tab)
    with when((off & 3) != 0):
        first.facts.set(t.UNALIGNED | t.ENDS)
    off = off & 0xFFFF
    facts, delayed = first.facts, first.has(t.DELAYED)
    alone = delayed & (host(code + 4, 32) == 0)
    kind = (facts.u >> t.JUMP) & 3
    # the first part of what has more says by its length that nothing is done with it (`Layout.delayed`)
    length = delayed.choose(alone.choose(lift(8, 64), 0), 4)
    first.record(out, off, length, alone)
    result = Var(4 | ((facts.u >> (t.ENDS.bit_length() - 1)) & 1) << 8 | (facts & 0xFFFF) << RESULT_SLOT)
    with when(delayed):
        way = (alone & first.relative).choose(lift(list(t.JUMPS).index("conditional"), 64), kind)  # a likely branch may fall through
        result.set(8 | host(tab + t.JUMP_FACTS + (way << 3), 64) | ((facts & 0xFFFF) + 1) << RESULT_SLOT)
    with when(delayed & ~alone):
        second = Word(code + 4, tab)
        with when(second.has(t.ALONE)):
            second.facts.set(t.UNDEFINED | t.ENDS)
        second.record(out + RECORD, off + 4, lift(4, 64))
        last = out + 2 * RECORD
        slot = kind + t.FIRST_JUMP
        write(last + 8, lift(8 << 56, 64))
        write(last + 16, off << 32 | slot << 48)
        write(last + 24, first.immediate - first.relative.choose(lift(4, 64), 0))
        result.set(result & 0xFFFF | 2 << RESULT_MORE | slot << RESULT_SLOT)
    return result.read()


DECODE = Function("decode", decode, (64, 64, 64, 64), 64)

__all__ = ["DECODE", "READS", "Overlap", "Tables", "tables"]
