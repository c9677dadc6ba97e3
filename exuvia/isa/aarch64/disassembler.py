"""Instructions as text, with the aliases that the manual prefers (DDI 0487, C6.2; C1.2.4)."""

from __future__ import annotations

import re
from collections.abc import Callable

from exuvia.dsl.values import signed
from exuvia.isa.aarch64.decode_tables import immediate_value
from exuvia.isa.aarch64.disassemble_vectors import PARTS, vector, vector_alias
from exuvia.isa.aarch64.flags import CONDITIONS
from exuvia.isa.aarch64.forms import Row

SHIFTS = "lsl lsr asr ror".split()
EXTENDS = "uxtb uxth uxtw uxtx sxtb sxth sxtw sxtx".split()
BARRIERS = {
    1: "oshld", 2: "oshst", 3: "osh", 5: "nshld", 6: "nshst", 7: "nsh", 9: "ishld", 10: "ishst", 11: "ish", 13: "ld", 14: "st", 15: "sy",
}  # fmt: skip
HINTS = {0: "nop", 1: "yield", 2: "wfe", 3: "wfi", 4: "sev", 5: "sevl", 32: "bti", 34: "bti c", 36: "bti j", 38: "bti jc"}
PREFETCH = [f"{kind}l{level}{policy}" for kind in ("pld", "pli", "pst") for level in (1, 2, 3) for policy in ("keep", "strm")]
_PLACE = re.compile(r"\{([^}]+)\}")


def number(v: int) -> str:
    """An immediate."""
    return f"#{v}" if -10 < v < 10 else f"#{'-' * (v < 0)}{abs(v):#x}"


class Shown:
    """One instruction being shown: what its parts look like."""

    def __init__(self, row: Row, variant: dict[str, int], code: int, address: int) -> None:
        self.row, self.variant, self.code, self.address = row, variant, code, address
        self.w = int(row.facts.get("w", 0)) or (64 if code >> 31 else 32)
        self.value = immediate_value(row, variant, code)

    def bits(self, name: str) -> int:
        """A field."""
        high, low = self.row.fields[name]
        return self.code >> low & (1 << high - low + 1) - 1

    def register(self, name: str, w: int = 0, more: int = 0) -> str:
        """A register by its field."""
        n, w = (self.bits(name) + more) & 31, w or self.w
        if n == 31:
            stack = self.row.registers[name]
            return ("sp" if w == 64 else "wsp") if stack else "xzr" if w == 64 else "wzr"
        return f"{'x' if w == 64 else 'w'}{n}"

    def part(self, name: str) -> str:
        """What stands in the place of {name}."""
        if "." in name:
            return vector(self, name)
        if self.row.facts.get("guard") and name in PARTS:
            return PARTS[name](self)
        if name in self.row.registers:
            return self.register(name)
        if (method := getattr(self, "of_" + name.replace("+1", "_more").replace("|", "_"), None)) is not None:
            return str(method())
        if name in self.row.fields:
            return number(self.bits(name))
        raise KeyError(name)

    # registers of a width of their own
    def of_Xn(self) -> str:
        return self.register("Rn", 64)

    def of_Wn(self) -> str:
        return self.register("Rn", 32)

    def of_Xm(self) -> str:
        return self.register("Rm", 64)

    def of_Wm(self) -> str:
        return self.register("Rm", 32)

    def of_Ws(self) -> str:
        return self.register("Rs", 32)

    def of_Rs_more(self) -> str:
        return self.register("Rs", more=1)

    def of_Rt_more(self) -> str:
        return self.register("Rt", more=1)

    # immediates
    def of_imm(self) -> str:
        """Of arithmetic, logical instructions, and behind a base."""
        if self.row.facts.get("imm") == "logical":
            return number(self.value & (1 << self.w) - 1)
        if self.row.text.startswith("sf") and "sh" in self.variant:
            return number(self.bits("imm12"))
        return number(signed(self.value, 64))

    def of_sh(self) -> str:
        return ", lsl #12" if self.variant["sh"] else ""

    def of_shift(self) -> str:
        amount = self.code >> 10 & 63
        return f", {SHIFTS[self.variant['shift']]} #{amount}" if amount or self.variant["shift"] else ""

    def of_Rm_extended(self) -> str:
        return self.register("Rm", 64 if self.w == 64 and self.variant["option"] & 3 == 3 else 32)

    def of_extend(self) -> str:
        option, amount = self.variant["option"], self.code >> 10 & 7
        stack = 31 in (self.bits("Rn"), self.bits("Rd") if self.row.registers["Rd"] else -1)
        if stack and option == (3 if self.w == 64 else 2):
            return f", lsl #{amount}" if amount else ""
        return f", {EXTENDS[option]}" + (f" #{amount}" if amount else "")

    def of_address(self) -> str:
        here = self.address & ~0xFFF if self.row.name == "adrp" else self.address
        return number(here + self.value & (1 << 64) - 1)

    def of_literal(self) -> str:
        return self.of_address()

    def of_target(self) -> str:
        return number(self.address + 4 + self.value & (1 << 64) - 1)

    def of_bit(self) -> str:
        return number(self.code >> 26 & 32 | self.code >> 19 & 31)

    def of_imm16(self) -> str:
        hw = self.variant["hw"]
        return number(self.bits("imm16")) + (f", lsl #{16 * hw}" if hw else "")

    def of_cond(self) -> str:
        return CONDITIONS[self.variant["cond"]]

    def of_operand(self) -> str:
        return self.register("Rm") if "Rm" in self.row.registers else number(self.bits("imm5"))

    def of_offset(self) -> str:
        option, scaled = self.variant["option"], self.variant["S"]
        size = 4 if self.code >> 26 & 1 and self.code >> 23 & 1 else self.code >> 30
        text = self.register("Rm", 64 if option & 1 else 32)
        if option == 3:
            return text + (f", lsl #{size}" if scaled else "")
        return f"{text}, {EXTENDS[option]}" + (f" #{size}" if scaled else "")

    def of_signed_offset(self) -> str:
        offset = self.value - 4096 * self.variant["S"]
        return f", {number(offset)}" if offset or self.variant["W"] else ""

    def of_writes_back(self) -> str:
        return "!" if self.variant["W"] else ""

    # names
    def of_prfop(self) -> str:
        op = self.bits("prfop")
        kind, level, policy = op >> 3, op >> 1 & 3, op & 1
        return PREFETCH[6 * kind + 2 * level + policy] if kind < 3 and level < 3 else number(op)

    def of_barrier(self) -> str:
        return BARRIERS.get(self.bits("CRm"), number(self.bits("CRm")))

    def of_isb(self) -> str:
        return "" if self.bits("CRm") == 15 else number(self.bits("CRm"))

    def of_CRm(self) -> str:
        return "" if self.row.name == "clrex" and self.bits("CRm") == 15 else number(self.bits("CRm"))

    def of_system(self) -> str:
        if (name := self.row.facts.get("system")) is not None:
            return str(name)
        i = self.code
        return f"s{i >> 19 & 3}_{i >> 16 & 7}_c{i >> 12 & 15}_c{i >> 8 & 15}_{i >> 5 & 7}"

    def text(self) -> str:
        """Name and operands."""
        name, asm = self.row.name, str(self.row.facts.get("asm", ""))
        if name == "hint":
            n = self.bits("CRm") << 3 | self.bits("op2")
            return HINTS.get(n, f"hint {number(n)}")
        if name == "dsb" and self.bits("CRm") in (0, 4):
            return "pssbb" if self.bits("CRm") else "ssbb"
        if name == "b.":
            name += self.of_cond()
        name += "2" if self.row.facts.get("second") and self.code >> 30 & 1 else ""
        for alias in ALIASES.get(name, ()) if not self.row.facts.get("guard") else (vector_alias,):
            if (found := alias(self)) is not None:
                return found
        if not asm and self.row.registers:
            asm = ", ".join(f"{{{x}}}" if x[0] == "R" else f"v{self.bits(x)}" for x in sorted(self.row.registers))
        if asm.startswith("[") or "[{Xn}{imm}]" in asm:
            asm = asm.replace("{imm}]", ", {imm}]" if self.value or asm.endswith("!") else "]")
        if "{extend}" in asm:
            asm = asm.replace("{Rm}", "{Rm_extended}")
        return f"{name} {_PLACE.sub(lambda m: self.part(m[1]), asm)}".strip()


Alias = Callable[[Shown], str | None]


def no_destination(name: str, rest: str = "{Rn}, ") -> Alias:
    """Where the result goes to the zero register."""

    def alias(s: Shown) -> str | None:
        if s.bits("Rd") != 31 or s.row.registers["Rd"]:
            return None
        asm = str(s.row.facts["asm"]).removeprefix("{Rd}, ")
        if "{extend}" in asm:
            asm = asm.replace("{Rm}", "{Rm_extended}")
        return f"{name} " + _PLACE.sub(lambda m: s.part(m[1]), asm)

    return alias


def no_source(name: str, *, plain: bool = False) -> Alias:
    """Where the first source is the zero register; `plain`: and the second is not shifted."""

    def alias(s: Shown) -> str | None:
        if s.bits("Rn") != 31 or s.row.registers["Rn"] or "Rm" not in s.row.registers or "option" in s.variant:
            return None
        shift = s.of_shift() if "shift" in s.variant else ""
        if plain and shift:
            return None
        return f"{name} {s.register('Rd')}, {s.register('Rm')}{shift}"

    return alias


def move_stack(s: Shown) -> str | None:
    """MOV to or from the stack pointer."""
    if "sh" not in s.variant or s.value or s.variant["sh"] or 31 not in (s.bits("Rn"), s.bits("Rd")):
        return None
    return f"mov {s.register('Rd')}, {s.register('Rn')}"


def move_wide(s: Shown) -> str | None:
    """MOV of a number that MOVZ or MOVN can make."""
    if s.bits("imm16") == 0 and s.variant["hw"]:
        return None
    v = s.value if s.row.name == "movz" else ~s.value
    if s.row.name == "movn" and s.w == 32 and s.bits("imm16") == 0xFFFF:
        return None
    v &= (1 << s.w) - 1
    return f"mov {s.register('Rd')}, {number(signed(v, s.w))}"


def wide_can(v: int, w: int) -> bool:
    """Could MOVZ or MOVN make it?"""
    return any(not x & ~(0xFFFF << shift) for x in (v, ~v & (1 << w) - 1) for shift in range(0, w, 16))


def move_logical(s: Shown) -> str | None:
    """MOV of a bitmask, if no other MOV makes it."""
    if s.row.facts.get("imm") != "logical" or s.bits("Rn") != 31:
        return None
    v = s.value & (1 << s.w) - 1
    return None if wide_can(v, s.w) else f"mov {s.register('Rd')}, {number(signed(v, s.w))}"


def bitfield(s: Shown) -> str | None:
    """LSL, LSR, ASR, SXTB, UBFX and their kin."""
    name, w = s.row.name, s.w
    r, i = s.code >> 16 & 63, s.code >> 10 & 63
    d, n = s.register("Rd"), s.register("Rn")
    letter = {"sbfm": "s", "ubfm": "u", "bfm": ""}[name]
    if name == "ubfm" and i != w - 1 and i + 1 == r:
        return f"lsl {d}, {n}, #{w - 1 - i}"
    if letter and i == w - 1:
        return f"{'lsr' if letter == 'u' else 'asr'} {d}, {n}, #{r}"
    if letter and r == 0 and i in (7, 15, 31) and (letter == "s" and (w == 64 or i < 31) or w == 32 and i < 31):
        return f"{letter}xt{'bhw'[(7, 15, 31).index(i)]} {d}, {s.register('Rn', 32)}"
    if i < r:
        if not letter and s.bits("Rn") == 31:
            return f"bfc {d}, {number(w - r)}, {number(i + 1)}"
        return f"{letter + 'bfiz' if letter else 'bfi'} {d}, {n}, {number(w - r)}, {number(i + 1)}"
    return f"{letter + 'bfx' if letter else 'bfxil'} {d}, {n}, {number(r)}, {number(i - r + 1)}"


def rotate(s: Shown) -> str | None:
    """ROR by a number."""
    return f"ror {s.register('Rd')}, {s.register('Rn')}, #{s.code >> 10 & 63}" if s.bits("Rn") == s.bits("Rm") else None


def select(one: str, zero: str) -> Alias:
    """CSET and CINC and their kin, by the inverted condition."""

    def alias(s: Shown) -> str | None:
        n, m, cond = s.bits("Rn"), s.bits("Rm"), s.variant["cond"]
        if n != m or cond >= 14:
            return None
        if n == 31 and zero:
            return f"{zero} {s.register('Rd')}, {CONDITIONS[cond ^ 1]}"
        return f"{one} {s.register('Rd')}, {s.register('Rn')}, {CONDITIONS[cond ^ 1]}" if n != 31 or not zero else None

    return alias


def multiply(name: str, narrow: bool = False) -> Alias:
    """Where nothing is added."""

    def alias(s: Shown) -> str | None:
        if s.bits("Ra") != 31:
            return None
        w = 32 if narrow else 0
        return f"{name} {s.register('Rd')}, {s.register('Rn', w)}, {s.register('Rm', w)}"

    return alias


def renamed(name: str) -> Alias:
    """Another name for the same."""
    return lambda s: f"{name} " + _PLACE.sub(lambda m: s.part(m[1]), str(s.row.facts["asm"]))


def return_to(s: Shown) -> str | None:
    """RET without a register is by x30."""
    return "ret" if s.bits("Rn") == 30 else None


def store_operation(s: Shown) -> str | None:
    """STADD and its kin load nothing."""
    if s.bits("Rt") != 31 or s.code >> 23 & 1:
        return None
    return f"st{s.row.name[2:]} {s.register('Rs')}, [{s.of_Xn()}]"


ALIASES: dict[str, tuple[Alias, ...]] = {
    "add": (move_stack,), "subs": (no_destination("cmp"), no_source("negs")), "adds": (no_destination("cmn"),), "sub": (no_source("neg"),),
    "ands": (no_destination("tst"),), "orr": (move_logical, no_source("mov", plain=True)), "orn": (no_source("mvn"),),
    "sbc": (no_source("ngc"),), "sbcs": (no_source("ngcs"),), "movz": (move_wide,), "movn": (move_wide,),
    "sbfm": (bitfield,), "ubfm": (bitfield,), "bfm": (bitfield,), "extr": (rotate,), "csinc": (select("cinc", "cset"),),
    "csinv": (select("cinv", "csetm"),), "csneg": (select("cneg", ""),), "madd": (multiply("mul"),), "msub": (multiply("mneg"),),
    "smaddl": (multiply("smull", True),), "smsubl": (multiply("smnegl", True),), "umaddl": (multiply("umull", True),),
    "umsubl": (multiply("umnegl", True),), "lslv": (renamed("lsl"),), "lsrv": (renamed("lsr"),), "asrv": (renamed("asr"),),
    "rorv": (renamed("ror"),), "ret": (return_to,),
} | {
    f"ld{f}{order}{size}": (store_operation,)
    for f in ("add", "clr", "eor", "set", "smax", "smin", "umax", "umin") for order in ("", "l") for size in ("", "b", "h")
}  # fmt: skip


def disassemble(row: Row, variant: dict[str, int], fields: dict[str, int], mode: int, address: int) -> str:
    """One instruction from its record."""
    return Shown(row, variant, fields["disp"] & 0xFFFFFFFF, address).text()
