"""The decoder's tables, made from the rows: candidates by bits 31:21, and by bits 15:10 where those are many."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

from exuvia.dsl.architecture import in_order
from exuvia.dsl.values import lift, signed
from exuvia.isa.aarch64 import bti
from exuvia.isa.aarch64.cpu import EC_PC, Cpu, raise_, undefined
from exuvia.isa.aarch64.forms import IMMEDIATES, ROWS, Row, place
from exuvia.isa.aarch64.state import SINK, SP, ZR

# A candidate: mask 32, value 32, then 64 bits that say what to do.
SLOT, KIND, LEFT, RIGHT, SCALE, FACTS, REGISTERS = 0, 16, 20, 26, 32, 40, 48
SIGNED = 1 << 38
LOWER = 1 << 39  # rm has 4 bits
SEVERAL, SEVERAL_N = 1 << 43, 1 << 44  # extra, seg and scale are the vector registers behind Vt; behind Vn
ENDS, TARGET, CONDITIONAL = 1 << 8, 1 << 9, 1 << 10  # above the length in the decoder's result
AS_ZERO, AS_STACK, AS_SINK = range(3)  # what register 31 is, two bits each for reg, base, extra, rm, seg
FIELDS = "reg base extra rm seg".split()
MANY = 3  # candidates that are still looked through one by one

# The blob: a first table of 2,048 entries {offset of a list of candidates or of 64 more entries << 8 | how many, 255 for a table}, logical
# immediates, the lists.
LOGICAL = 2048 * 8
LISTS = LOGICAL + 128 * 8
TABLE = 255

UNDEFINED = Row("0" * 32, lambda cpu: undefined(), {"ends": True})
UNDEFINED.name = "udf"
MISALIGNED = Row("0" * 32, lambda cpu: misaligned_pc(cpu), {"ends": True})
MISALIGNED.name = "misaligned"
UNDEFINED_SLOT, MISALIGNED_SLOT = range(2)


def misaligned_pc(cpu: Cpu) -> None:
    """A PC alignment fault (D1.3.9)."""
    cpu.put_at("fault_address", lift(0, 64), cpu.this_pc)
    raise_(EC_PC)


class Overlap(ValueError):
    """Two rows that nothing tells apart."""


Rows = tuple[tuple[Row, dict[str, int]], ...]


@dataclass(frozen=True)
class Tables:
    """What the decoder works with: rows and variants by slot."""

    rows: Rows

    @cached_property
    def blob(self) -> bytes:
        """What the decoder's third parameter points to. Raises Overlap."""
        return Builder(self.rows).build()

    @property
    def slots(self) -> int:
        """How many handlers there are: slot 0 is the undefined instruction, slot 1 one at an address that is no multiple of 4."""
        return len(self.rows)

    def row(self, slot: int) -> tuple[Row, dict[str, int]]:
        """The row and variant of a slot."""
        return self.rows[slot]


class Candidate(NamedTuple):
    """An encoding to compare with."""

    mask: int
    match: int
    word: int
    row: Row

    def meets(self, mask: int, match: int) -> bool:
        """Can an instruction have these bits?"""
        return not (self.match ^ match) & self.mask & mask

    def packed(self) -> bytes:
        return struct.pack("<IIQ", self.mask, self.match, self.word)


def immediate(row: Row, variant: dict[str, int]) -> int:
    """The part of a candidate's word that says how the immediate is made."""
    scale: Any = row.facts.get("scale", 0)
    scale = int(scale(variant) if callable(scale) else scale)
    kind = row.facts.get("imm") or ("branch" if row.facts.get("branch") else "field" if row.immediate else "none")
    word: int = IMMEDIATES.index(kind) << KIND | scale << SCALE
    if row.immediate:
        name, width, signed = row.immediate
        word |= 63 - row.fields[name][0] << LEFT | 64 - width << RIGHT | (SIGNED if signed else 0)
    if kind == "bitfield" and not variant.get("sf", 1):
        word |= 1 << SCALE  # counts are those of 32 bits
    return word


def registers(row: Row) -> int:
    """What register 31 is in each field."""
    word = 0
    writes = {"Rd", "Rt", "Rt2"} - set(row.facts.get("reads", "").split())
    for name, stack in row.registers.items():
        if name[0] == "V":
            continue
        kind = AS_STACK if stack else AS_SINK if name in writes else AS_ZERO
        word |= kind << 2 * FIELDS.index(place(name))
    return word | AS_SINK << 2 * FIELDS.index("seg")


@cache
def common(row: Row) -> int:
    """What the words of a row's candidates have in common."""
    facts = row.facts
    word = registers(row) << REGISTERS | (LOWER if facts.get("lower") else 0)
    word |= {"Vt": SEVERAL, "Vn": SEVERAL | SEVERAL_N}.get(facts.get("several", ""), 0)
    branch = facts.get("branch")
    for bit, on in ((ENDS, facts.get("ends") or branch), (TARGET, branch), (CONDITIONAL, facts.get("conditional"))):
        word |= bit >> 8 << FACTS if on else 0
    return word


def logical_immediates() -> bytes:
    """DecodeBitMasks() before its rotation, by N:imms; 0 where that is reserved (C6.2, shared/functions/common)."""
    out = []
    for n_imms in range(128):
        length = (n_imms & 64 | ~n_imms & 63).bit_length() - 1
        size = 1 << max(length, 0)
        ones = (n_imms & size - 1) + 1
        if length < 1 or ones == size:
            out.append(0)
        else:
            out.append(((1 << ones) - 1) * (((1 << 64) - 1) // ((1 << size) - 1)))
    return struct.pack("<128Q", *out)


def immediate_value(row: Row, variant: dict[str, int], code: int) -> int:
    """The immediate of an instruction as the native decoder makes it (decode.py), for people."""
    word = immediate(row, variant)
    kind, scale = IMMEDIATES[word >> KIND & 15], word >> SCALE & 63
    if kind == "logical":
        (element,) = struct.unpack_from("<Q", logical_immediates(), 8 * (code >> 16 & 64 | code >> 10 & 63))
        rotation = code >> 16 & 63
        return int((element >> rotation | element << 64 - rotation) & (1 << 64) - 1)
    if kind == "move":
        return (code >> 5 & 0xFFFF) << (code >> 17 & 0x30)
    if kind == "address":
        return (signed(code >> 5 & 0x7FFFF, 19) << 2 | code >> 29 & 3) << scale
    if kind == "bit":
        return (signed(code >> 5 & 0x3FFF, 14) << 2) - 4
    if row.immediate is None:
        return 0
    name, width, with_sign = row.immediate
    field = code >> row.fields[name][1] & (1 << width) - 1
    field = signed(field, width) if with_sign else field
    return (field << 2) - 4 if kind == "branch" else field << scale


def by_bits(some: Iterable[Candidate], shift: int, bits: int) -> dict[int, list[Candidate]]:
    """Which of them an instruction can meet, by its bits from `shift` on."""
    found: dict[int, list[Candidate]] = {}
    for c in some:
        fixed = c.match >> shift & bits
        free = bits & ~(c.mask >> shift)
        sub = free
        while True:  # every value of the bits that are not fixed
            found.setdefault(fixed & ~free | sub, []).append(c)
            if not sub:
                break
            sub = sub - 1 & free
    return found


class Builder:
    """Fills the blob."""

    def __init__(self, rows: Rows) -> None:
        self.candidates = [
            Candidate(*row.pattern(variant), common(row) | slot | immediate(row, variant), row)
            for slot, (row, variant) in enumerate(rows)
            if slot > MISALIGNED_SLOT
        ]
        self.blob = bytearray(LISTS)
        self.lists: dict[tuple[int, ...], int] = {}  # by the slots

    def ordered(self, some: list[Candidate]) -> list[Candidate]:
        """The more particular encoding last: it counts. Raises Overlap, unless just what two have in common is a third's."""
        some = sorted(some, key=lambda c: c.mask.bit_count())
        own = {c[:2] for c in some}
        for i, a in enumerate(some):
            for b in some[i + 1 :]:
                if a.meets(b.mask, b.match) and a.mask & ~b.mask and (a.mask | b.mask, a.match | b.match) not in own:
                    raise Overlap(f"{a.row} and {b.row} have encodings in common")
        return some

    def list(self, some: list[Candidate]) -> int:
        """The entry for a list of candidates."""
        if not some:
            return 0
        key = tuple(c.word for c in some)
        if key not in self.lists:
            self.lists[key] = len(self.blob) << 8 | len(key)
            for c in self.ordered(some):
                self.blob += c.packed()
        return self.lists[key]

    def build(self) -> bytes:
        """The blob."""
        for number, some in by_bits(self.candidates, 21, 0x7FF).items():
            if len(some) <= MANY:
                entry = self.list(some)
            else:
                parts = by_bits(some, 10, 63)
                entries = [self.list(parts.get(k, [])) for k in range(64)]
                entry = len(self.blob) << 8 | TABLE
                self.blob += struct.pack("<64Q", *entries)
            struct.pack_into("<Q", self.blob, 8 * number, entry)
        self.blob[LOGICAL:LISTS] = logical_immediates()
        return bytes(self.blob)


def made_of(other: Row, rows: Iterable[Row]) -> Tables:
    """Tables of all variants of some rows; what is none of them is `other`."""
    every = ((row, variant) for row in rows for variant in row.variants)
    made = Tables(((other, {}), (MISALIGNED, {}), *every))
    if made.slots > 65536:
        raise ValueError(f"{made.slots} slots are too many")
    return made


@cache
def tables(features: frozenset[str] | None = None) -> Tables:
    """The decoder's tables of all modes but LANDING; only rows whose `feature` is among `features`, all if that is None."""
    return made_of(UNDEFINED, (row for row in in_order(ROWS) if features is None or row.features <= features))


@cache
def landing_tables() -> Tables:
    """Those of LANDING: what may stand at the target of an indirect branch, and everything else."""
    return made_of(bti.OTHER, bti.ROWS)


__all__ = ["SINK", "SP", "ZR", "Overlap", "Tables", "tables"]
