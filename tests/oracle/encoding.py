"""What the generator needs to know of an instruction's encoding; `exuvia.isa.x86.forms.Row` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Encoding(Protocol):
    """One encoding of one instruction, in the manual's notation (Intel SDM vol. 2, appendix A.2)."""

    name: str
    """The mnemonic in lower case."""
    map: str
    """The opcode map: '', '0F', '0F38' or '0F3A'."""
    opcode: int
    prefix: str | None
    """The mandatory prefix: '66', 'F2' or 'F3'; 'NP' or None where there is none."""
    vex: bool
    """Whether it is encoded with VEX."""
    length: int | None
    """VEX.L, and VEX.W; None where either does."""
    wide: int | None
    aligned: bool
    """Whether memory operands of 16 bytes and more must be aligned."""
    plus: bool
    """Whether the opcode's low three bits name a register."""
    digit: int | None
    """The ModRM byte's reg field where it extends the opcode."""
    fixed: int | None
    """A ModRM byte that is part of the opcode, and how many of them from there on."""
    fixed_count: int
    operands: list[str]
    """Operand letters, Eb, Gv, Vx, Iz, sIb and so on."""
    text: str
    """The encoding as the manual writes it."""
    modrm: bool
    memory: bool
    """Whether the ModRM operand can be memory; `register`: whether it can be a register."""
    register: bool
    byte: bool
    """Whether the operand size is one byte."""
    osize: bool
    """Whether the operand size matters; `only_w`: it does, and REX.W alone chooses it."""
    only_w: bool

    @property
    def facts(self) -> Mapping[str, object]:
        """only: 32 or 64; string; d64 and f64: the operand size defaults to, or is, 64 bits in 64-bit mode; locks."""
        ...
