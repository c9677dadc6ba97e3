"""The decoder's tables, made from the rows: a tree over fields of the instruction word, and what each instruction's record wants."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exuvia.dsl.architecture import in_order
from exuvia.dsl.trace import now
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.mips.cpu import Cpu, needs_fpu, needs_kernel, raise_
from exuvia.isa.mips.forms import ROWS, Row
from exuvia.isa.mips.state import ADEL, CPU, RI, mode_facts

# A leaf's entry, 64 bits, and behind it the fixed bits and their mask. The immediate is (word << UP) >> DOWN << SHIFT.
UP, DOWN, SHIFT = 16, 23, 30  # where the counts stand, 7 bits each
SIGNED, WRITES_RD, WRITES_RT, WRITES_RA = (1 << i for i in range(40, 44))
ENDS, DELAYED, ALONE = (1 << i for i in range(44, 47))
JUMP = 48  # which second part a jump has
# An inner entry: the place of its children in 31:0, the field's lowest bit in 36:32, its mask from bit 40 on
INNER, CHILD_LOW, CHILD_MASK = 1 << 63, 32, 40
LEVELS = 5  # of the tree, the opcode's included

# offsets in the blob
HEAD = 0  # 1 in big-endian modes
FALLBACK = 64  # per opcode, the slot of what has no row
JUMP_FACTS = 192  # per second part: what the decoder's result says
LEAVES = 256
LEAF = 16


def undefined(cpu: Cpu) -> None:
    """Reserved Instruction (vol. III, 6.2.18)."""
    raise_(RI)


def undefined_fpu(cpu: Cpu) -> None:
    """The same, of a coprocessor that may be switched off."""
    needs_fpu(cpu)
    raise_(RI)


def undefined_system(cpu: Cpu) -> None:
    """The same of coprocessor 0."""
    needs_kernel(cpu)
    raise_(RI)


def no_coprocessor(cpu: Cpu) -> None:
    """There is no coprocessor 2."""
    raise_(CPU, 2)


def unaligned(cpu: Cpu) -> None:
    """A jump led to an address that is no instruction's."""
    raise_(ADEL, cpu.here)


def conditional(cpu: Cpu, taken: Value) -> None:
    """To the branch's target, or to what follows."""
    cpu.pc = taken.choose(Value(Node("target", 64)), now().get(("pc", 0, 64)))


def second(cpu: Cpu) -> None:
    """The second part of a branch."""
    taken = cpu.taken != 0
    cpu.then = lift(0, 64)
    conditional(cpu, taken)


def always(cpu: Cpu) -> None:
    """The second part of a branch that is certain by then."""
    cpu.then = lift(0, 64)
    cpu.pc = Value(Node("target", 64))


def region(cpu: Cpu) -> Value:
    """An address in the 256 MiB of the delay slot, of the jump whose record this is."""
    return ((cpu.here + 4) & ~0xFFF_FFFF) | cpu.field("imm")


def in_region(cpu: Cpu) -> None:
    """The second part of a jump inside of 256 MiB."""
    cpu.then = lift(0, 64)
    cpu.pc = cpu.address(region(cpu))


def computed(cpu: Cpu) -> None:
    """The second part of a jump to a register."""
    where: Value = cpu.then
    cpu.then = lift(0, 64)
    cpu.pc = cpu.address(where)


SPECIAL = [Row("", text, {"ends": True}, text.__name__) for text in (undefined, undefined_fpu, undefined_system, no_coprocessor, unaligned)]
UNDEFINED, UNDEFINED_FPU, UNDEFINED_SYSTEM, NO_COPROCESSOR, UNALIGNED = range(5)
JUMPS = {
    "conditional": Row("", second, {"branch": True}, "conditional"),
    "always": Row("", always, {"branch": True}, "always"),
    "computed": Row("", computed, {"ends": True}, "computed"),
    "region": Row("", in_region, {"ends": True, "imm": True}, "region"),
}
RELATIVE = 2
"""How many of those, the first ones, have an immediate that counts from behind the slot."""

FIRST_JUMP = len(SPECIAL)
RESULT_ENDS, RESULT_TARGET, RESULT_CONDITIONAL = 1 << 8, 1 << 9, 1 << 10
RESULTS = dict.fromkeys(JUMPS, RESULT_ENDS)
RESULTS |= {"conditional": RESULT_ENDS | RESULT_TARGET | RESULT_CONDITIONAL, "always": RESULT_ENDS | RESULT_TARGET}
OF_OPCODE = dict.fromkeys((0x12, 0x32, 0x36, 0x3A, 0x3E), NO_COPROCESSOR)
OF_OPCODE |= {0x10: UNDEFINED_SYSTEM, 0x11: UNDEFINED_FPU, 0x13: UNDEFINED_FPU}


@dataclass(frozen=True)
class Tables:
    """What the decoder works with in one mode; `blob` is what its third parameter points to. A jump's variant 1 has an empty delay slot."""

    blob: bytes
    rows: tuple[tuple[Row, int], ...]

    @property
    def slots(self) -> int:
        """How many handlers there are."""
        return len(self.rows)

    def row(self, slot: int) -> Row:
        """The row of a slot."""
        return self.rows[slot][0]


class Overlap(ValueError):
    """Two rows that nothing tells apart."""


class Builder:
    """Fills the blob."""

    def __init__(self, mode: int, features: frozenset[str] | None, rows: Iterable[Row]) -> None:
        self.big = mode_facts(mode)["big"]
        self.source = [r for r in rows if features is None or r.facts.get("feature", "") in features | {""}]
        self.rows = [(row, 0) for row in (*SPECIAL, *JUMPS.values())]
        self.leaves = [(0, 1, 0)]  # the first matches nothing: no word has a bit set that its mask has not
        self.tree: list[int] = []
        for row in self.source:
            self.leaves.append((self.leaf(row, len(self.rows)), row.value, row.mask))
            self.rows += [(row, n) for n in range(2 if row.facts.get("jump") else 1)]
        self.number = {id(row): i for i, row in enumerate(self.source, 1)}

    def leaf(self, row: Row, slot: int) -> int:
        """What the record of a row wants."""
        i, facts = row.immediate, row.facts
        e = slot | (64 - i.low - i.width if i.width else 0) << UP | (64 - i.width if i.width else 63) << DOWN | i.shift << SHIFT
        for bit, on in (
            (SIGNED, i.signed), (WRITES_RD, row.writes == "rd"), (WRITES_RT, row.writes == "rt"), (WRITES_RA, row.writes == "ra"),
            (ENDS, facts.get("ends")), (DELAYED, facts.get("jump")), (ALONE, facts.get("jump") or facts.get("alone")),
        ):  # fmt: skip
            e |= bit if on else 0
        return e | list(JUMPS).index(facts["jump"]) << JUMP if facts.get("jump") else e

    def node(self, rows: Sequence[Row], low: int, width: int, tested: int, level: int) -> int:
        """A table over the field at `low`; its place in the tree's entries."""
        assert level <= LEVELS, "the tree is deeper than the decoder goes"
        at = len(self.tree)
        self.tree += [0] * (1 << width)
        mask = ((1 << width) - 1) << low
        for i in range(1 << width):
            here = [r for r in rows if not (i << low ^ r.value) & mask & r.mask]
            self.tree[at + i] = self.entry(here, tested | mask, level)
        return at

    def entry(self, rows: Sequence[Row], tested: int, level: int) -> int:
        """The entry for rows that agree in the bits tested so far."""
        if len(rows) < 2:
            return self.number[id(rows[0])] if rows else 0
        differ = 0
        for r in rows[1:]:
            differ |= (r.value ^ rows[0].value) & r.mask & rows[0].mask | (r.mask ^ rows[0].mask)
        differ &= ~tested
        if not differ:
            rows = sorted(rows, key=lambda r: r.mask.bit_count())
            if rows[-1].mask != rows[-2].mask:  # the most particular one counts
                return self.number[id(rows[-1])]
            raise Overlap(f"{rows[-2].name} {rows[-2].text!r} and {rows[-1].name} {rows[-1].text!r} have the same encoding")
        common = differ
        for r in rows:
            common &= r.mask
        if not common:  # one is a special case of the other
            rows = sorted(rows, key=lambda r: r.mask.bit_count())
            common = differ & rows[-1].mask
        high = common.bit_length()
        low = high - 1
        while low and common >> (low - 1) & 1 and high - low < 6:
            low -= 1
        child = self.node(rows, low, high - low, tested, level + 1)
        return INNER | child | low << CHILD_LOW | ((1 << high - low) - 1) << CHILD_MASK

    def blob(self) -> bytes:
        """Head, leaves, tree; the tree's root is its first table."""
        self.node(self.source, 26, 6, 0, 1)
        head = bytearray(LEAVES)
        head[HEAD] = self.big
        for code, slot in OF_OPCODE.items():
            head[FALLBACK + code] = slot
        struct.pack_into(f"<{len(RESULTS)}Q", head, JUMP_FACTS, *RESULTS.values())
        place = LEAVES + LEAF * len(self.leaves)
        struct.pack_into("<Q", head, HEAD + 8, place)
        leaves = b"".join(struct.pack("<QII", *leaf) for leaf in self.leaves)
        return bytes(head) + leaves + struct.pack(f"<{len(self.tree)}Q", *self.tree)


def tables(mode: int, features: frozenset[str] | None = None, rows: Iterable[Row] | None = None) -> Tables:
    """The tables of a mode with the encodings that some features bring; None: all of them."""
    b = Builder(mode, features, in_order(ROWS) if rows is None else rows)
    blob = b.blob()
    return Tables(blob, tuple(b.rows))
