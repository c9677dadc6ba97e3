"""How AArch64 writes encodings: 32 bits from left to right, in columns as on the manual's pages (DDI 0487, C6.2).

`sf 0 0 01011 shift 0 Rm imm6 Rn Rd`: digits are fixed bits, `x` is a bit that may be either; names are fields. What a name is:

* `Rd Rn Rm Ra Rt Rt2 Rs` and `Vd Vn Vm Va Vt Vt2` are registers. Register 31 is the zero register, or with `|SP` the stack pointer.
* `immN` and `simmN` are an unsigned and a signed immediate of N bits: the text's `cpu.imm`, shifted left by the fact `scale`.
* `name:width`, or one of WIDTHS, are fields that choose what the instruction is: each value makes a variant of its own, and the text has it
  as a number, `cpu.name`. `where` (variant -> bool) says which there are.
* `name=width` is read when the instruction runs: `cpu.bits(name)`.

Where memory is accessed by a base register, `[{Xn}` in `asm`, the stack pointer as such makes a variant, `stack`: it must be aligned.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

from exuvia.dsl.trace import tracing
from exuvia.isa.aarch64.cpu import REGISTERS, VECTORS, Cpu, aligned_stack
from exuvia.isa.aarch64.state import AWARE, STRICT, USER

ROWS: list[Row] = []
WIDTHS = dict.fromkeys("sf sh N S L A R Q U M".split(), 1) | dict(shift=2, option=3, size=2, cond=4, hw=2)
STACK = 31  # the stack pointer's number as a base
PLACES = dict(reg=0, base=5, extra=10, rm=16)
_FIELD = re.compile(
    r"(?P<bits>[01x]+)|(?P<register>[RV][a-z]2?)(?P<sp>\|SP)?|(?P<imm>s?imm(?P<size>\d+))|"
    r"(?P<name>\w+)(?:(?P<kind>[:=])(?P<width>\d+))?"
)
_field = cache(_FIELD.fullmatch)  # there are 18,000 tokens, and few that differ
IMMEDIATES = "none field logical move address bitfield bit branch pair".split()
"""Kinds of immediates: a field of the encoding; of logical instructions; imm16 << 16 * hw; immhi:immlo; shift counts of bitfield
instructions; TBZ's bit and target; a target; the registers behind Rs and Rt, which must be even."""


class Row:
    """One encoding of one instruction.

    Facts: branch (has a relative target), ends (ends a block), conditional (a branch that may fall through), scale (of the immediate: a
    number, or a function of the variant), imm (a kind of IMMEDIATES), feature (names of features that bring it), where, w (the operands'
    width where bit 31 does not say it), reads (registers among Rd, Rt and Rt2 that are only read), lower
    (Vm is one of V0 to V15, its highest bit means something else), several ("Vt" or "Vn": cpu.FOLLOWING are the registers behind),
    guard (a text that comes first), asm
    (what the disassembler prints behind the name).
    """

    def __init__(self, text: str, run: Callable[[Cpu], None], facts: dict[str, Any]) -> None:
        self.text, self.run, self.facts = text, run, facts
        self.name, self.id = "", 0
        self.mask = self.match = 0
        self.fields: dict[str, tuple[int, int]] = {}
        self.choices: dict[str, int] = {}
        self.registers: dict[str, bool] = {}
        self.immediate: tuple[str, int, bool] | None = None
        at = 32
        for token in text.split():
            m = _field(token)
            if not m:
                raise ValueError(f"not a field: {token!r} in {text!r}")
            if m["bits"]:
                at -= len(token)
                self.mask |= int(token.replace("0", "1").replace("x", "0"), 2) << at
                self.match |= int(token.replace("x", "0"), 2) << at
                continue
            name = m["register"] or m["imm"] or m["name"]
            if m["register"]:
                width = 5
                self.registers[name] = bool(m["sp"])
                if (PLACES.get(place(name)), 1) != (at - 5, 1):
                    raise ValueError(f"{name} does not stand where it does elsewhere: {text!r}")
            elif m["imm"]:
                width = int(m["size"])
                self.immediate = name, width, name[0] == "s"
            else:
                width = int(m["width"] or WIDTHS.get(name, 0))
                if not width:
                    raise ValueError(f"how wide is {name}? {text!r}")
                if m["kind"] != "=":
                    self.choices[name] = width
            at -= width
            self.fields[name] = at + width - 1, at
        if at:
            raise ValueError(f"{32 - at} bits, not 32: {text!r}")
        where = facts.get("where")
        every = [dict(zip(self.choices, values)) for values in product(*(range(1 << w) for w in self.choices.values()))]
        self.variants = [v for v in every if where is None or where(v)]
        if self.registers.get("Rn") and "[{Xn}" in facts.get("asm", "") and "prfop" not in self.fields:
            self.fields["stack"] = self.fields["Rn"]
            self.variants += [v | {"stack": STACK} for v in self.variants]

    @property
    def features(self) -> set[str]:
        """What the processor must have."""
        return set(str(self.facts.get("feature") or "").split())

    def pattern(self, variant: dict[str, int]) -> tuple[int, int]:
        """Mask and value of the bits that are fixed in a variant."""
        mask, match = self.mask, self.match
        for name, value in variant.items():
            high, low = self.fields[name]
            mask |= (1 << high - low + 1) - 1 << low
            match |= value << low
        return mask, match

    def trace(self, variant: dict[str, int], mode: int) -> Cpu:
        """The instruction's text, read for one variant in one mode."""
        cpu = Cpu(row=self, **variant)
        cpu.w = int(self.facts.get("w", 0)) or (64 if self.pattern(variant)[1] >> 31 else 32)
        cpu.el0, cpu.strict, cpu.aware = bool(mode & USER), bool(mode & STRICT), bool(mode & AWARE)
        with tracing(cpu):
            if (guard := self.facts.get("guard")) is not None:
                guard(cpu)
            if cpu.stack:
                aligned_stack(cpu)
            self.run(cpu)
        return cpu

    def __repr__(self) -> str:
        return f"<{self.name} {self.text}>"


def place(name: str) -> str:
    """The record's field for a register's name."""
    field = REGISTERS.get(name) or VECTORS.get(name)
    if field is None:
        raise ValueError(f"{name} is no register's name; there are {', '.join([*REGISTERS, *VECTORS])}")
    return field


def op(rows: str, name: str = "", **facts: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers encodings, joined by `;`, for a text `(cpu)`; the mnemonic is the function's name unless given."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        for text in rows.split(";"):
            row = Row(" ".join(text.split()), run, facts)
            row.name, row.id = name or run.__name__.strip("_"), len(ROWS)
            ROWS.append(row)
        return run

    return register
