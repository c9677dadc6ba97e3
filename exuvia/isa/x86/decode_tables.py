"""The decoder's tables, made from the rows: opcode maps (SDM vol. 2, appendix A), ModRM and SIB forms (vol. 2, 2.1.5), handler slots."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exuvia.dsl.architecture import in_order
from exuvia.dsl.state import PAGE_AT
from exuvia.isa.x86.cpu import leave, raise_
from exuvia.isa.x86.forms import ROWS, Row
from exuvia.isa.x86.state import CS, DS, ES, FS, GP, GS, SS, ZERO, mode_facts

# An entry of an opcode map, 64 bits.
COMPACT_CLASS, OSIZE_CLASS, IMMEDIATE, REG_KIND, RM_KIND = 16, 22, 25, 29, 31  # bit positions; the slot, or a group's number, is in 15:0
MODRM, GROUP, SUBGROUP, EXTRA, REGISTERS_ONLY, VSIB, EXTRA_GENERAL = (1 << i for i in range(33, 40))
ENDS, TARGET, CONDITIONAL, SHADOW = (1 << i for i in range(40, 44))

# A prefix's entry, 32 bits: what it sets in 15:0, what it takes back in 31:16. Bits 3 and 6 are those of the variant number.
P66, PF3, PF2, P67, LOCK, PSEG, PREX, POTHER, PHAS = 1, 2, 4, 8, 16, 64, 128, 1 << 12, 1 << 11
SEG_SHIFT = 8

# ModRM and SIB entries: base slot 7:0, index slot 15:8
DISP_SHIFT, HAS_SIB, BASE_EXTENDS, RIP, STACK = 16, 1 << 19, 1 << 20, 1 << 21, 1 << 22
SCALE_SHIFT, SIB_DISP, NO_INDEX = 16, 1 << 18, 1 << 19

KINDS = {"": 0, "b": 1, "w": 2, "z": 3, "v": 4, "d": 5, "q": 6, "wb": 7, "bb": 8, "O": 9, "A": 10, "L": 11}
FAR, UPPER_HALF = KINDS["A"], KINDS["L"]
GENERAL, BYTE, FULL, LOW3 = range(4)  # how a register number becomes a slot

# Offsets in the blob. An opcode map has a table of 256 entries for each class of mandatory prefix: none, 66, F3, F2. Those of VEX are
# four each: by L, and by 2 * W.
MAP_SIZE = 4 * 256 * 8
MAPS = {"": 0, "0F": 1, "0F38": 2, "0F3A": 3}
VEX_MAPS = {"0F": 4, "0F38": 8, "0F3A": 12}
MAP_COUNT = 16
NOTHING = MAP_COUNT * MAP_SIZE  # 256 entries without an instruction
CLASSES = {None: 0, "NP": 0, "66": 1, "F3": 2, "F2": 3}
HEAD = NOTHING + 2048  # 1 where C4 and C5 are LES and LDS unless ModRM names a register
PREFIXES = HEAD + 64
MODRMS = PREFIXES + 256 * 4  # native addressing, then that of prefix 67
SIBS = MODRMS + 2 * 2048  # mod 1 and 2, then mod 0
REGISTERS = SIBS + 2 * 2048  # kind, REX present, number
OSIZES = REGISTERS + 4 * 32
IMMEDIATES = OSIZES + 64
COMPACT = IMMEDIATES + 128
GROUPS = COMPACT + 64 * 128
GROUP_LIMIT, SUBGROUP_LIMIT = 512, 512
SUBGROUPS = GROUPS + GROUP_LIMIT * 128
SIZE = SUBGROUPS + SUBGROUP_LIMIT * 64

REFUSED = 255  # in a compact table: this combination of prefixes and operands is undefined
UNDEFINED_SLOT, TOO_LONG_SLOT = 0, 1

UNDEFINED = Row("0F FF", lambda cpu: leave("undefined"), {"ends": True})
UNDEFINED.name = "undefined"
TOO_LONG = Row("0F FF", lambda cpu: raise_(GP, 0), {"ends": True})
TOO_LONG.name = "too_long"


@dataclass(frozen=True)
class Tables:
    """What the decoder works with in one mode; `blob` is what its third parameter points to."""

    blob: bytes
    rows: tuple[tuple[Row, int], ...]

    @property
    def slots(self) -> int:
        """How many handlers there are: slot 0 is the undefined instruction, slot 1 one of more than 15 bytes."""
        return len(self.rows)

    def row(self, slot: int) -> tuple[Row, int]:
        """The row and variant number (see `Row.mask`) of a slot."""
        return self.rows[slot]


def osize_class(row: Row) -> int:
    """Which line of the operand size table: v, d64, f64, or REX.W alone."""
    if row.only_w:
        return 3
    return 2 if row.facts.get("f64") else 1 if row.facts.get("d64") else 0


def osizes(code: int) -> bytes:
    """Operand size codes by class, REX.W and prefix 66 (SDM vol. 2, 2.2.1.2 and appendix A.2.5)."""
    if code == 64:
        return bytes([1, 0, 2, 2, 2, 0, 2, 2, 2, 2, 2, 2, 1, 1, 2, 2])
    return bytes((0, 1) if code == 16 else (1, 0)) * 6 + bytes([1, 1, 2, 2])


def map_numbers(row: Row) -> list[int]:
    """The opcode maps that it stands in."""
    if not row.vex:
        return [MAPS[row.map]]
    lengths = (0, 1) if row.length is None else (row.length,)
    return [VEX_MAPS[row.map] + n + 2 * w for n in lengths for w in ((0, 1) if row.wide is None else (row.wide,))]


def named(x: str) -> bool:
    """Is the operand a register by its name, which takes nothing from the encoding?"""
    return x in ("AL", "CL", "DX") or x[0] == "r"


def immediate_kind(row: Row) -> int:
    """The immediate's kind: sizes of several are joined."""
    kind = ""
    for x in row.operands:
        x = x.removeprefix("s") if x.startswith("sI") else x
        if x[0] in "IJ":
            kind += x[1:]
        elif x[0] == "L":
            kind = "L"
        elif x[0] in "OA" and not named(x):
            kind += x[0]
    return KINDS[kind]


def immediates(code: int) -> bytes:
    """Sizes in bytes by kind, operand size code and prefix 67."""
    out = bytearray(128)
    fixed = {"b": 1, "w": 2, "d": 4, "q": 8, "wb": 3, "bb": 2, "L": 1}
    address = {64: (8, 4), 32: (4, 2), 16: (2, 4)}[code]
    for kind, k in KINDS.items():
        for osize in range(4):
            for p67 in (0, 1):
                size = {"z": (2, 4, 4, 0), "v": (2, 4, 8, 0), "A": (4, 6, 6, 0)}.get(kind, (fixed.get(kind, 0),) * 4)[osize]
                out[k * 8 + osize * 2 + p67] = address[p67] if kind == "O" else size
    return bytes(out)


def register_kinds(row: Row) -> tuple[int, int]:
    """How ModRM.reg and ModRM.rm (or the opcode's low bits) become slots."""
    reg = rm = GENERAL
    for x in row.operands:
        if x == "ST":
            rm = LOW3
        elif named(x):
            continue
        elif x[0] in "GVPSCD":
            reg = {"G": BYTE if x[1:] == "b" else GENERAL, "V": FULL, "C": FULL, "D": FULL}.get(x[0], LOW3)
        elif x[0] in "ERZWUQN":
            rm = FULL if x[0] in "WU" else LOW3 if x[0] in "QN" else BYTE if x[1:] == "b" else GENERAL
    return reg, rm


def registers() -> bytes:
    """Slots by kind, whether there is a REX prefix, and number."""
    general = [8 * n for n in range(16)]
    legacy = [8 * n if n < 4 else 8 * (n - 4) + 1 for n in range(8)] + general[8:]
    full, low = list(range(16)), [n & 7 for n in range(16)]
    return bytes(general * 2 + legacy + general + full * 2 + low * 2)


class Compactor:
    """Dense numbers for the variants of a row that mean something; rows of the same shape share a table of 128 bytes."""

    def __init__(self, code: int) -> None:
        self.sizes = osizes(code)
        self.tables: dict[bytes, int] = {bytes(128): 0}
        self.shapes: dict[tuple[object, ...], tuple[int, list[int]]] = {}

    def of(self, row: Row) -> tuple[int, list[int]]:
        """The table's number, and the variants in the order of their dense numbers."""
        k = 4 * osize_class(row)
        facts = (row.facts.get(name) for name in ("locks", "string", "repne", "asize", "segment"))
        shape = k, row.mask(), row.memory, row.register, row.far_memory, *facts
        if shape not in self.shapes:
            self.shapes[shape] = self.compact(row, k)
        return self.shapes[shape]

    def compact(self, row: Row, k: int) -> tuple[int, list[int]]:
        """The same for a row of a new shape; `k` is where its line of operand sizes begins."""
        numbers: dict[int, int] = {}
        table = bytearray(128)
        sizes = sorted(set(self.sizes[k : k + 4]))
        for variant in range(128):
            plain = self.plain(row, variant, row.mask())
            if plain is None:
                table[variant] = REFUSED
            elif (variant & 3) in sizes:
                table[variant] = numbers.setdefault(plain, len(numbers))
        number = self.tables.setdefault(bytes(table), len(self.tables))
        return number, list(numbers)

    def plain(self, row: Row, variant: int, mask: int) -> int | None:
        """The variant without the bits that do not matter to the row; None where the prefixes are refused."""
        if row.memory and not row.register:
            variant |= 4
        memory = row.memory and bool(variant & 4)
        lock = variant >> 4 & 3 == 3
        if lock and not (row.facts.get("locks") and memory):
            return None
        if not memory and not row.far_memory and not row.facts.get("string"):
            mask &= ~((0 if row.facts.get("asize") else 8) | (0 if row.facts.get("segment") else 64))
        if row.facts.get("string"):
            if variant & 32 and not row.facts.get("repne"):
                variant = variant & ~48 | 16
        elif not lock or row.facts.get("locks") == "always":
            mask &= ~48
        return variant & mask


def cells(row: Row) -> Iterable[tuple[int, int]]:
    """Where the row stands in its group: (register form << 3 | ModRM.reg, ModRM.rm)."""
    for form in range(16):
        register, digit = form >> 3, form & 7
        if row.fixed is not None:
            low = row.fixed & 7
            if register and digit == row.fixed >> 3 & 7:
                yield from ((form, rm) for rm in range(low, low + row.fixed_count))
        elif (row.digit is None or row.digit == digit) and (registers_only(row) or (row.register if register else row.memory)):
            yield from ((form, rm) for rm in range(8))


def registers_only(row: Row) -> bool:
    """Control and debug registers: ModRM.mod is ignored (SDM vol. 2, MOV to/from control registers)."""
    return any(x[0] in "CD" and not named(x) for x in row.operands)


def rank(row: Row) -> int:
    """Of two rows with the same encoding the more particular one counts."""
    return (4 if row.fixed is not None else 2 if row.digit is not None else 0) + (8 if row.prefix else 0) + (0 if row.plus else 1)


class Overlap(ValueError):
    """Two rows that nothing tells apart."""


class Builder:
    """Fills the blob."""

    def __init__(self, mode: int, features: frozenset[str] | None, rows: Iterable[Row]) -> None:
        facts = mode_facts(mode)
        self.code, self.flat = int(facts["code"]), bool(facts["flat"])
        only = 64 if self.code == 64 else 32
        self.source = [
            r for r in rows if r.facts.get("only", only) == only and (features is None or r.features <= features)
        ]
        self.features = features
        self.compactor = Compactor(self.code)
        self.rows: list[tuple[Row, int]] = [(UNDEFINED, 0), (TOO_LONG, 0)]
        self.nothing = ENDS
        self.groups: dict[tuple[int, ...], int] = {}
        self.subgroups: dict[tuple[int, ...], int] = {}
        self.entries = {row.id: self.entry(row) for row in self.source}

    def entry(self, row: Row) -> int:
        """The map entry of a row; takes its slots."""
        number, variants = self.compactor.of(row)
        reg, rm = register_kinds(row)
        e = len(self.rows) | number << COMPACT_CLASS | osize_class(row) << OSIZE_CLASS
        e |= immediate_kind(row) << IMMEDIATE | reg << REG_KIND | rm << RM_KIND
        facts = row.facts
        wide = facts.get("wide_feature")
        lacks = wide is not None and self.features is not None and wide not in self.features
        self.rows += [(UNDEFINED, 0) if lacks and v & 2 else (row, v) for v in variants]
        for bit, on in (
            (MODRM, row.modrm), (EXTRA, row.extra), (REGISTERS_ONLY, registers_only(row)), (VSIB, facts.get("vsib")),
            (EXTRA_GENERAL, any(x[0] == "B" for x in row.operands)),
            (ENDS, facts.get("ends") or facts.get("branch")), (TARGET, facts.get("branch")),
            (CONDITIONAL, facts.get("conditional")), (SHADOW, facts.get("shadow")),
        ):  # fmt: skip
            e |= bit if on else 0
        return e

    def opcode(self, rows: Sequence[Row]) -> int:
        """The entry for the rows that share an opcode, all under one class of mandatory prefix."""
        if len(rows) == 1 and not rows[0].modrm:
            return self.entries[rows[0].id]
        best: dict[tuple[int, int], Row] = {}
        for row in rows:
            for cell in cells(row) if row.modrm else [(f, rm) for f in range(16) for rm in range(8)]:
                other = best.get(cell)
                if other is not None and rank(other) == rank(row):
                    raise Overlap(f"{other.name} {other.text!r} and {row.name} {row.text!r} have the same encoding")
                if other is None or rank(row) > rank(other):
                    best[cell] = row
        if not best:
            return self.nothing
        table = [[self.entries[best[f, rm].id] if (f, rm) in best else self.nothing for rm in range(8)] for f in range(16)]
        if all(e == table[0][0] for line in table for e in line):
            return table[0][0]
        forms = []
        for line in table:
            if all(e == line[0] for e in line):
                forms.append(line[0])
            else:
                forms.append(SUBGROUP | self.subgroups.setdefault(tuple(line), len(self.subgroups)))
        return MODRM | GROUP | self.groups.setdefault(tuple(forms), len(self.groups))

    def maps(self) -> bytes:
        """The opcode maps."""
        shared: dict[tuple[int, int], list[Row]] = {}
        for row in self.source:
            for number in map_numbers(row):
                for opcode in range(row.opcode, row.opcode + (8 if row.plus else 1)):
                    shared.setdefault((number, opcode), []).append(row)
        out = [self.nothing] * (MAP_COUNT * 4 * 256 + 256)
        made: dict[tuple[Row, ...], int] = {(): self.nothing}  # most are the same under every mandatory prefix
        for (number, opcode), rows in shared.items():
            for cls in range(4):
                here = tuple(row for row in rows if row.prefix is None or CLASSES[row.prefix] == cls)
                if here not in made:
                    made[here] = self.opcode(here)
                out[(number * 4 + cls) * 256 + opcode] = made[here]
        return struct.pack(f"<{len(out)}Q", *out)

    def prefixes(self) -> bytes:
        """Prefix bytes (SDM vol. 2, 2.1.1 and 2.2.1). In 64-bit mode ES, CS, SS and DS are read over."""
        out = [0] * 256
        repeats, segments = PF3 | PF2, PHAS | PSEG | 7 << SEG_SHIFT
        for byte, bits, clears in ((0x66, P66, 0), (0x67, P67, 0), (0xF0, LOCK, 0), (0xF3, PF3, repeats), (0xF2, PF2, repeats)):
            out[byte] = bits | clears << 16
        for byte, seg in ((0x26, ES), (0x2E, CS), (0x36, SS), (0x3E, DS), (0x64, FS), (0x65, GS)):
            if self.code == 64 and seg not in (FS, GS):
                out[byte] = POTHER
            else:
                out[byte] = PHAS | seg << SEG_SHIFT | segments << 16 | (PSEG if self.flat and seg in (CS, FS, GS) else 0)
        if self.code == 64:
            out[0x40:0x50] = [PREX] * 16
        return struct.pack("<256I", *out)

    def modrms(self, bits: int) -> list[int]:
        """ModRM forms with 16-bit or wider addressing (SDM vol. 2, tables 2-1 and 2-2)."""
        out = []
        bx, bp, si, di = 24, 40, 48, 56
        pairs = [(bx, si), (bx, di), (bp, si), (bp, di), (ZERO, si), (ZERO, di), (bp, ZERO), (bx, ZERO)]
        for m in range(256):
            mod, rm = m >> 6, m & 7
            base, index, disp, more = 8 * rm, ZERO, (0, 1, 2 if bits == 16 else 4, 0)[mod], 0
            if bits == 16:
                base, index = pairs[rm]
                if mod == 0 and rm == 6:
                    base, disp = ZERO, 2
            elif rm == 4:
                more, base = HAS_SIB, ZERO
            elif mod == 0 and rm == 5:
                base, disp, more = (PAGE_AT, 4, RIP) if self.code == 64 else (ZERO, 4, 0)
            else:
                more = BASE_EXTENDS
            out.append(base | index << 8 | disp << DISP_SHIFT | more | (STACK if base == bp else 0))
        return out

    def sibs(self) -> list[int]:
        """SIB forms (SDM vol. 2, table 2-3)."""
        out = []
        for zero in (False, True):
            for s in range(256):
                scale, index, base = s >> 6, s >> 3 & 7, s & 7
                none = zero and base == 5
                e = (ZERO if none else 8 * base) | (ZERO if index == 4 else 8 * index) << 8 | scale << SCALE_SHIFT
                e |= SIB_DISP if none else BASE_EXTENDS | (STACK if base in (4, 5) else 0)
                out.append(e | (NO_INDEX if index == 4 else 0))
        return out

    def build(self) -> Tables:
        """The tables. Raises Overlap; ValueError where the specification outgrew the format."""
        maps = self.maps()
        sizes = len(self.rows), len(self.groups), len(self.subgroups), len(self.compactor.tables)
        if any(size > limit for size, limit in zip(sizes, (65536, GROUP_LIMIT, SUBGROUP_LIMIT, 64))):
            raise ValueError(f"the decoder's tables are full: {sizes} slots, groups, subgroups, shapes of variants")
        native, other = {64: (64, 64), 32: (32, 16), 16: (16, 32)}[self.code]
        parts = {
            0: maps, HEAD: bytes([self.code != 64]), PREFIXES: self.prefixes(),
            MODRMS: struct.pack("<512Q", *self.modrms(native), *self.modrms(other)), SIBS: struct.pack("<512Q", *self.sibs()),
            REGISTERS: registers(), OSIZES: osizes(self.code), IMMEDIATES: immediates(self.code), COMPACT: b"".join(self.compactor.tables),
            GROUPS: b"".join(struct.pack("<16Q", *g) for g in self.groups),
            SUBGROUPS: b"".join(struct.pack("<8Q", *g) for g in self.subgroups),
        }  # fmt: skip
        blob = bytearray(SIZE)
        for at, data in parts.items():
            blob[at : at + len(data)] = data
        return Tables(bytes(blob), tuple(self.rows))


def tables(mode: int, features: frozenset[str] | None = None, rows: Iterable[Row] | None = None) -> Tables:
    """The decoder's tables of a mode (see `state.mode_facts`); only rows whose `feature` is among `features`, all if that is None.

    The chapters must have been imported (`exuvia.isa.x86.load`). Raises Overlap where two rows cannot be told apart.
    """
    return Builder(mode, features, in_order(ROWS) if rows is None else rows).build()
