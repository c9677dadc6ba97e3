"""An instruction's encoding in the manual's notation (Intel SDM vol. 2, appendix A.2), as the generator reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Encoding(Protocol):
    """What the generator needs to know of one encoding."""

    @property
    def name(self) -> str:
        """The mnemonic in lower case."""
    @property
    def map(self) -> str:
        """The opcode map: '', '0F', '0F38' or '0F3A'."""
    @property
    def opcode(self) -> int:
        """The opcode byte."""
    @property
    def prefix(self) -> int:
        """The mandatory prefix, 66h, F2h or F3h, or 0."""
    @property
    def plus(self) -> str | None:
        """'+r' where the opcode's low three bits name a register, '+i' where those of the ModRM byte name ST(i)."""
    @property
    def digit(self) -> int | None:
        """The ModRM byte's reg field where it extends the opcode."""
    @property
    def operands(self) -> Sequence[str]:
        """Operand letters, Eb, Gv, Vx, Iz, sIb and so on."""
    @property
    def facts(self) -> Mapping[str, object]:
        """modrm: a fixed ModRM byte; vex: VEX.L and VEX.W as '00', '01', '0.' (W by size); only: 32 or 64; lock; string: movs, cmps ...; d64."""


@dataclass(frozen=True)
class Row:
    """An encoding of its own, for tests that name one by text."""

    name: str
    map: str
    opcode: int
    prefix: int = 0
    plus: str | None = None
    digit: int | None = None
    operands: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)


SHAPE = re.compile(r"(?:VEX\.0\.(?P<w>[01.]) )?(?P<code>(?:[0-9A-F]{2} ?)+)(?P<plus>\+[ri])?(?:/(?P<digit>[0-7r]))?\s*(?P<operands>\S*)$")


def parse(name: str, text: str, **facts: object) -> Row:
    """A row from text such as '81/4 Ev,Iz', '66 0F 38 17 Vx,Wx', 'VEX.0.. 0F 38 F2 Gy,By,Ey' or 'D8 C0+i'. Raises ValueError."""
    m = SHAPE.match(text.strip())
    if not m:
        raise ValueError(f"not an encoding: {text!r}; write for example '0F AF Gv,Ev' or '80/4 Eb,Ib'")
    code, prefix, table = list(bytes.fromhex(m["code"])), 0, ""
    if len(code) > 1 and code[0] in (0x66, 0xF2, 0xF3):
        prefix = code.pop(0)
    if code[0] == 0x0F and len(code) > 1:
        table, code = "0F", code[1:]
        if code[0] in (0x38, 0x3A) and len(code) > 1:
            table, code = f"0F{code[0]:02X}", code[1:]
    if len(code) == 2:
        facts["modrm"] = code.pop()
    if len(code) != 1:
        raise ValueError(f"not an encoding: {text!r}; {len(code)} opcode bytes")
    if m["w"]:
        facts["vex"] = "0" + m["w"]
    digit = int(m["digit"]) if m["digit"] not in (None, "r") else None
    return Row(name, table, code[0], prefix, m["plus"], digit, tuple(x for x in m["operands"].split(",") if x), dict(facts))
