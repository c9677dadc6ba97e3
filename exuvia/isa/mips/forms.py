"""How MIPS writes encodings: columns as in the manual (MIPS32 Architecture For Programmers, vol. II), from bit 31 on.

`000000 rs rt rd 00000 100001`: binary digits are fixed, names are fields. `code:20` says how wide a field is; the usual ones have the width
and the meaning that `FIELDS` gives them. What an instruction does is a function of its operands; the form does the plumbing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from exuvia.dsl.trace import tracing
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu, needs_fpu, needs_kernel, raise_
from exuvia.isa.mips.state import RI, mode_facts


class Immediate(NamedTuple):
    """Where the immediate stands and what becomes of it: lowest bit, width, is it signed, how far it is shifted."""

    low: int
    width: int
    signed: bool
    shift: int


NONE = Immediate(0, 0, False, 0)
IMMEDIATES = {
    "imm": Immediate(0, 16, True, 0), "offset": Immediate(0, 16, True, 0), "branch": Immediate(0, 16, True, 2),
    "uimm": Immediate(0, 16, False, 0), "upper": Immediate(0, 16, False, 16), "target": Immediate(0, 26, False, 2),
    "code": Immediate(6, 20, False, 0), "trap": Immediate(6, 10, False, 0), "sel": Immediate(0, 3, False, 0),
}  # fmt: skip
WIDTHS = {name: i.width for name, i in IMMEDIATES.items()} | {"cc": 3}
FIELDS = {
    "rs": "rm", "base": "rm", "fr": "rm", "rt": "reg", "ft": "reg", "hint": "reg",
    "rd": "extra", "fs": "extra", "sa": "scale", "fd": "scale",
}  # fmt: skip
"""Fields of five bits -> the record's field that holds them: rs and its like in bits 25:21, rt in 20:16, rd in 15:11, sa in 10:6."""
ROWS: list[Row] = []


class Row:
    """One encoding of one instruction.

    Facts: writes ("rd", "rt", "ra": the general register that it writes), ends (a block ends behind it), jump (it has a delay slot: what
    its second part is, a name of decode_tables.JUMPS), alone (must not stand in a delay slot), feature (which models have it), fpu, kernel
    (what must be usable), wide (only for 64-bit floating point registers), keeps (status bits that it writes at once stay written where a
    fault follows), hint (it may leave its operands alone).
    """

    def __init__(self, text: str, run: Callable[..., Any], facts: dict[str, Any], name: str = "") -> None:
        self.text, self.run, self.facts, self.name = " ".join(text.split()), run, facts, name
        self.mask = self.value = 0
        self.fields: dict[str, tuple[int, int]] = {}  # name -> lowest bit, width
        self.immediate = NONE
        bit = 32
        for token in self.text.split():
            fixed = not token.strip("01")
            field, _, width = token.partition(":")
            w = len(token) if fixed else int(width or WIDTHS.get(field, 5))
            bit -= w
            if fixed:
                self.mask |= ((1 << w) - 1) << bit
                self.value |= int(token, 2) << bit
            else:
                self.fields[field] = bit, w
                self.immediate = IMMEDIATES.get(field, self.immediate)
        if bit and self.text:
            raise ValueError(f"not 32 bits: {text!r}")

    @property
    def writes(self) -> str:
        """The general register that the result goes to."""
        return str(self.facts.get("writes", ""))

    def trace(self, mode: int, alone: bool = False) -> Cpu:
        """The instruction's text, read for a mode; `alone`: a jump with an empty delay slot."""
        cpu = Cpu(row=self, alone=alone, **mode_facts(mode))
        with tracing(cpu):
            if self.facts.get("fpu"):
                needs_fpu(cpu)
            if self.facts.get("kernel"):
                needs_kernel(cpu)
            if self.facts.get("wide") and not cpu.wide:
                raise_(RI)
            else:
                self.run(cpu)
        return cpu

    def __repr__(self) -> str:
        return f"<{self.name} {self.text}>"


def op(text: str, name: str = "", **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers an encoding for a text `(cpu)`; the mnemonic is the function's name unless given."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        ROWS.append(Row(text, run, facts, name or run.__name__.strip("_")))
        return run

    return register


def rrr(text: str, name: str, f: Callable[[Value, Value], Any], **facts: Any) -> None:
    """rd = f(rs, rt)"""
    op(text, name, writes="rd", **facts)(lambda cpu: cpu.result(f(cpu.rs, cpu.rt)))


def rri(text: str, name: str, f: Callable[[Value, Value], Any], **facts: Any) -> None:
    """rt = f(rs, immediate)"""
    op(text, name, writes="rt", **facts)(lambda cpu: cpu.result(f(cpu.rs, cpu.imm)))


def condition(c: Value) -> Value:
    """1 or 0, as a register has it."""
    return lift(c, 1).zext(32)
