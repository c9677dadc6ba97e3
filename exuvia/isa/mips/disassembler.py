"""The text of an instruction from its decoded record, as GNU assemblers write it (vol. II; the o32 names of registers)."""

from __future__ import annotations

from collections.abc import Mapping

from exuvia.isa.mips.forms import Row
from exuvia.isa.mips.state import GPR

FLOAT_FIELDS = ("fs", "ft", "fd", "fr")


def number(n: int) -> str:
    """Small numbers in decimal, others in hexadecimal."""
    return f"-{number(-n)}" if n < 0 else str(n) if n < 10 else f"{n:#x}"


class Disassembler:
    """One instruction: its row, its record's fields, where it stands."""

    def __init__(self, row: Row, fields: Mapping[str, int], address: int = 0) -> None:
        self.row, self.f, self.address = row, fields, address
        self.rs, self.rt, self.rd, self.sa = (fields[name] for name in ("rm", "reg", "extra", "scale"))

    def operand(self, name: str) -> str:
        """One operand by the name of its field."""
        f = self.f
        if name in ("rs", "rt", "rd"):
            return f"${GPR[getattr(self, name)]}"
        if name in FLOAT_FIELDS:
            return f"$f{f[{'fs': 'extra', 'ft': 'reg', 'fd': 'scale', 'fr': 'rm'}[name]]}"
        if name in ("imm", "uimm"):
            return number(f["imm"])
        if name == "upper":
            return number(f["imm"] >> 16 & 0xFFFF)
        if name == "branch":
            return f"{self.address + (f['len'] or 4) + f['imm'] & 0xFFFF_FFFF:#x}"
        if name == "target":
            return f"{self.address + 4 & 0xF000_0000 | f['imm']:#x}"
        if name == "offset":
            return f"{number(f['imm'])}(${GPR[self.rs]})"
        if name == "indexed":
            return f"${GPR[self.rt]}(${GPR[self.rs]})"
        if name == "cc":
            return f"$fcc{(self.sa if self.row.fields['cc'][0] == 8 else self.rt) >> 2}"
        return {
            "sa": number(self.sa), "hint": number(self.rt), "code": number(f["imm"]), "trap": number(f["imm"]),
            "size": number(self.rd + 1), "width": number(self.rd - self.sa + 1),
            "none": "$zero", "stype": number(self.sa),
        }[name]  # fmt: skip

    def order(self) -> str:
        """The operands in the order of the assembler."""
        row, name = self.row, self.row.name
        has = row.fields
        if name in ORDERS:
            return ORDERS[name]
        if "offset" in has:
            return f"{'ft' if 'ft' in has else 'hint' if 'hint' in has else 'rt' if 'rt' in has else ''} offset"
        if "index" in has:
            return f"{'fd' if 'fd' in has else 'fs' if 'fs' in has else 'hint'} indexed"
        if "branch" in has:
            return " ".join(x for x in ("rs", "rt", "cc", "branch") if x in has)
        if "sa" in has:
            return "rd rt sa"
        if any(x in has for x in FLOAT_FIELDS) and "writes" not in row.facts:
            order = ["rt" if name.endswith("c1") else "fd", "cc" if name[:2] == "c." else "fr", "fs", "ft", "rt"]
        else:
            order = [row.writes, *(("rt", "rs") if name in BACKWARDS else ("rs", "rt")), "fs", "imm", "uimm", "upper", "target"]
        return " ".join(dict.fromkeys(x for x in order if x in has))

    def text(self) -> str:
        """`addiu $sp, $sp, -0x20`"""
        row, f = self.row, self.f
        if not row.text:  # nothing that an assembler knows: an undefined instruction, the second part of a jump
            return f"({row.name})"
        if row.name in ("mfc0", "mtc0", "cfc1", "ctc1", "rdhwr"):
            return self.coprocessor()
        if not any((self.rs, self.rt, self.rd)) and row.name == "sll":
            return {0: "nop", 1: "ssnop", 3: "ehb"}.get(self.sa, f"sll $zero, $zero, {self.sa}")
        operands = [self.operand(x) for x in self.order().split()]
        if row.name in WITH_CODE and operands[-1:] == ["0"]:
            operands.pop()
        if row.name[:2] in ("bc", "c.") and operands[0] == "$fcc0":
            operands.pop(0)
        if row.name == "break" and operands:
            operands = [number(f["imm"] >> 10), number(f["imm"] & 0x3FF)][: 2 if f["imm"] & 0x3FF else 1]
        return f"{row.name} {', '.join(operands)}".strip()

    def coprocessor(self) -> str:
        """Registers of coprocessors have numbers only."""
        row = self.row
        select = self.f["imm"] if "sel" in row.fields else row.value & 7
        operands = ["$" + GPR[self.rt], f"${self.rd}", number(select)]
        return f"{row.name} {', '.join(operands if row.name in ('mfc0', 'mtc0') else operands[:2])}"


ORDERS = {
    "ext": "rt rs sa size", "ins": "rt rs sa width", "jr": "rs", "jalr": "rd rs", "jal": "target", "j": "target",
    "break": "code", "syscall": "code", "sdbbp": "code", "wait": "", "eret": "", "sync": "stype", "di": "rt", "ei": "rt",
    "mthi": "rs", "mtlo": "rs", "movf": "rd rs cc", "movt": "rd rs cc", "lui": "rt upper",
    "teq": "rs rt trap", "tge": "rs rt trap", "tgeu": "rs rt trap", "tlt": "rs rt trap", "tltu": "rs rt trap", "tne": "rs rt trap",
    "div": "none rs rt", "divu": "none rs rt", "rdpgpr": "rd rt", "wrpgpr": "rd rt",
    "mfc1": "rt fs", "mtc1": "rt fs", "mfhc1": "rt fs", "mthc1": "rt fs",
}  # fmt: skip
for _fmt in "sd":
    ORDERS |= {f"movz.{_fmt}": "fd fs rt", f"movn.{_fmt}": "fd fs rt", f"movf.{_fmt}": "fd fs cc", f"movt.{_fmt}": "fd fs cc"}
WITH_CODE = frozenset("break sdbbp syscall teq tge tgeu tlt tltu tne sync".split())
"""Zero is left unsaid."""
BACKWARDS = frozenset("sllv srlv srav rotrv".split())


def disassemble(row: Row, fields: Mapping[str, int], address: int = 0) -> str:
    """The text of a decoded instruction at an address."""
    return Disassembler(row, fields, address).text()

