"""The text of an instruction, Intel syntax, from its decoded record (SDM vol. 2, 3.1.1.3; sizes and addresses as assemblers write them)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from exuvia.dsl.state import PAGE_AT
from exuvia.isa.x86.decode_tables import named
from exuvia.isa.x86.forms import CONDITIONS, OSIZES, Row
from exuvia.isa.x86.operands import size_of
from exuvia.isa.x86.state import DS, GPR, SEGMENTS, SS, ZERO

NAMES = [n.lower() for n in GPR]
LOW = "al cl dl bl spl bpl sil dil".split()
HIGH = "ah ch dh bh".split()
SEGMENT = [s.lower() for s in SEGMENTS]
POINTERS = {8: "byte ptr ", 16: "word ptr ", 32: "dword ptr ", 64: "qword ptr ", 80: "tbyte ptr ", 128: "xmmword ptr ", 256: "ymmword ptr "}
SUFFIX = {16: "w", 32: "d", 64: "q"}
USUAL = {"nb": "ae", "z": "e", "nz": "ne", "nbe": "a", "nl": "ge", "nle": "g"}
BY_SIZE = {  # names at operand sizes of 16, 32 and 64 bits
    "cdq": ("cwd", "cdq", "cqo"), "cwde": ("cbw", "cwde", "cdqe"),
    "pushf": ("pushf", "pushfd", "pushfq"), "popf": ("popf", "popfd", "popfq"),
    "iret": ("iret", "iretd", "iretq"), "pusha": ("pushaw", "pushad", "pushad"), "popa": ("popaw", "popad", "popad"),
    "cmpxchg8b": ("cmpxchg8b", "cmpxchg8b", "cmpxchg16b"),
    "pextrd": ("pextrd", "pextrd", "pextrq"), "pinsrd": ("pinsrd", "pinsrd", "pinsrq"),
    "vpextrd": ("vpextrd", "vpextrd", "vpextrq"), "vpinsrd": ("vpinsrd", "vpinsrd", "vpinsrq"),
    "retf": ("retf", "retf", "retfq"), "sysret": ("sysret", "sysret", "sysretq"), "sysexit": ("sysexit", "sysexit", "sysexitq"),
}  # fmt: skip
WIDE = frozenset("fxsave fxrstor xsave xsaveopt xsavec xsaves xrstor xrstors".split())
NATIVE = ("invpcid", "rdpid")  # their register is as wide as the mode's
SELECTORS = frozenset("sldt str lar lsl smsw".split())  # in memory their operand is a word at any size
OTHER = {"jmpf": "jmp far", "callf": "call far", "xlat": "xlatb"}
STRINGS = {"movs": "DS", "stos": "DA", "lods": "AS", "scas": "AD", "cmps": "SD", "ins": "DX", "outs": "XS"}  # Destination, Source, A: rAX
IMPLIED = {
    "06": "es", "07": "es", "0E": "cs", "16": "ss", "17": "ss", "1E": "ds", "1F": "ds",
    "0F A0": "fs", "0F A1": "fs", "0F A8": "gs", "0F A9": "gs", "DF =E0": "ax",
    "66 0F38 10 Vx,Wx": "xmm0", "66 0F38 14 Vx,Wx": "xmm0", "66 0F38 15 Vx,Wx": "xmm0", "NP 0F38 CB Vx,Wx": "xmm0",
}  # fmt: skip


def number(n: int) -> str:
    """Small numbers in decimal, others in hexadecimal."""
    return f"-{number(-n)}" if n < 0 else str(n) if n < 10 else f"{n:#x}"


def general(slot: int, w: int) -> str:
    """A general register by byte offset and width in bits."""
    n = slot >> 3
    if w == 8 and slot & 1:
        return HIGH[n]
    if n >= 8:
        return f"r{n}" + {8: "b", 16: "w", 32: "d", 64: ""}[w]
    return LOW[n] if w == 8 else {16: "", 32: "e", 64: "r"}[w] + NAMES[n]


class Disassembler:
    """One instruction: `row` and `variant` of its slot, the record's fields, the code size of the mode (16, 32, 64), its IP."""

    def __init__(self, row: Row, variant: int, fields: Mapping[str, int], code: int, ip: int = 0) -> None:
        self.row, self.fields, self.code, self.ip = row, fields, code, ip
        self.osize = OSIZES[variant & 3] if row.mask() & 3 else 16 if code == 16 else 32
        other = {64: 32, 32: 16, 16: 32}[code]
        self.asize = other if variant & 8 else code
        self.memory = row.memory and (bool(variant & 4) or not row.register)
        self.repeat = variant >> 4 & 3
        self.w = 8 if row.byte else self.osize

    # -- operands
    def width(self, size: str) -> int:
        """Bits of a size letter."""
        facts: Any = SimpleNamespace(osize=self.osize, vector=256 if self.row.length else 128)
        return size_of(facts, size)

    def segment(self, default: int) -> str:
        """The segment, where it is not the usual one."""
        seg = self.fields["seg"]
        return "" if seg == default else SEGMENT[seg] + ":"

    def address(self) -> str:
        """segment:[base + index*scale + displacement]"""
        f = self.fields
        disp, parts = f["disp"], []
        if f["base"] == PAGE_AT:
            parts.append("rip" if self.asize == 64 else "eip")
            disp -= f["off"] + f["len"]
        elif f["base"] != ZERO:
            parts.append(general(f["base"], self.asize))
        vector = self.vector(f["rm"], self.width(self.row.operands[2][1:])) if self.row.facts.get("vsib") else ""
        if f["index"] != ZERO or vector:
            parts.append((vector or general(f["index"], self.asize)) + (f"*{1 << f['scale']}" if f["scale"] else ""))
        text = " + ".join(parts)
        if not parts:
            text = number(disp & (1 << self.asize) - 1)
        elif disp:
            text += f" {'-' if disp < 0 else '+'} {number(abs(disp))}"
        stack = f["base"] in (32, 40)
        return f"{self.segment(SS if stack else DS)}[{text}]"

    def vector(self, number: int, w: int) -> str:
        """A vector register."""
        return f"{'y' if w == 256 else 'x'}mm{number}"

    def immediate(self, w: int) -> str:
        """An immediate as the instruction uses it: negative only where it was sign-extended."""
        return number(self.fields["imm"] & (1 << w) - 1)

    def target(self) -> str:
        """Where a relative branch goes."""
        w = self.osize if self.code != 64 else 64
        return f"{self.ip + self.fields['len'] + self.fields['imm'] & (1 << w) - 1:#x}"

    def operand(self, x: str) -> str:
        """One operand by its letter."""
        f, letter, size = self.fields, x[0], x[1:]
        if x in ("AL", "CL", "DX", "1"):
            return x.lower()
        if named(x):
            return general(8 * GPR.index(x[1:]), self.w)
        if x == "ST":
            return f"st({f['rm']})"
        if x.startswith("sI"):
            n = f["imm"]
            return number(n if abs(n) < 10 else n & (1 << self.w) - 1)
        if letter == "A":
            return f"{f['imm'] >> 32 & 0xFFFF:#x}:{f['imm'] & 0xFFFFFFFF:#x}"
        w = self.width(size)
        if self.row.name in NATIVE and letter in "GR":
            w = 64 if self.code == 64 else 32
        if letter in "EWMQ" and self.memory:
            w = {"bd": 8, "wd": 16}.get(size, 16 if self.row.name in SELECTORS else w)
            return ("" if letter == "M" and not size else POINTERS[w]) + self.address()
        if letter == "O":
            return f"{POINTERS[w]}{self.segment(DS)}[{number(f['imm'] & (1 << self.asize) - 1)}]"
        if letter in "IJ":
            return self.target() if letter == "J" else self.immediate(w)
        slot = f["reg" if letter in "GVPSCD" else "extra" if letter in "BH" else "imm" if letter == "L" else "rm"]
        if letter in "EGBRZ":
            return general(slot, 32 if size in ("bd", "wd") else w)
        if letter in "VWUHL":
            return self.vector(slot, w)
        return {"C": "cr{}", "D": "dr{}", "S": SEGMENT[slot & 7]}.get(letter, "mm{}").format(slot)

    def string_operands(self, kinds: str) -> list[str]:
        """The operands that string instructions leave unsaid."""
        es = "" if self.code == 64 else "es:"
        source = f"{self.segment(DS)}[{general(48, self.asize)}]"
        w = min(self.w, 32) if "X" in kinds else self.w
        each = {"D": f"{es}[{general(56, self.asize)}]", "S": source, "A": general(0, self.w), "X": "dx"}
        return [(POINTERS[w] if k in "DS" else "") + each[k] for k in kinds]

    def operands(self) -> list[str]:
        """All operands, the implied ones too."""
        row = self.row
        if kinds := STRINGS.get(row.name.removesuffix("b")):
            return self.string_operands(kinds)
        gathers = row.facts.get("vsib")
        out = [self.operand(x) for x in row.operands if not (x[0] == "H" and not row.vex or x[0] == "U" and gathers)]
        if row.name == "enter":
            return [number(self.fields["imm"] & 0xFFFF), number(self.fields["imm"] >> 16 & 0xFF)]
        if row.name in ("in", "out"):
            port = out[0] if out else "dx"
            accumulator = general(0, 8 if row.byte else min(self.osize, 32))
            return [accumulator, port] if row.name == "in" else [port, accumulator]
        if row.text in ("0F 20 Rd,Cd", "0F 21 Rd,Dd", "0F 22 Rd,Cd", "0F 23 Rd,Dd"):
            out[0] = general(self.fields["rm"], 64 if self.code == 64 else 32)
            return out[::-1] if row.opcode & 2 else out
        if row.operands == ["ST"] and row.opcode in (0xD8, 0xDA, 0xDB, 0xDC, 0xDE) and row.name not in ("ffree",):
            return ["st(0)", *out] if row.opcode in (0xD8, 0xDA, 0xDB) or row.name.startswith("fcom") else [*out, "st(0)"]
        if row.text in IMPLIED:
            out.append(IMPLIED[row.text])
        elif row.name == "xchg" and row.plus:
            out.append(general(0, self.w))
        return out

    # -- the whole
    def mnemonic(self) -> str:
        """The name at this operand size."""
        name = self.row.name
        for head in ("cmov", "set", "j"):
            if name.startswith(head) and name[len(head) :] in CONDITIONS:
                return head + USUAL.get(name[len(head) :], name[len(head) :])
        if name in BY_SIZE:
            return BY_SIZE[name][{16: 0, 32: 1, 64: 2}[self.osize]]
        if name == "jrcxz":
            return {16: "jcxz", 32: "jecxz", 64: "jrcxz"}[self.asize]
        if name in STRINGS:
            return name + SUFFIX[self.osize if name not in ("ins", "outs") else min(self.osize, 32)]
        if name in ("movd", "vmovd") and self.osize == 64:
            return name[:-1] + "q"
        if name in WIDE and self.osize == 64:
            return name + "64"
        if name == "xchg" and self.row.plus and self.fields["rm"] == 0:
            return "nop"
        return OTHER.get(name, name)

    def text(self) -> str:
        """`lock cmpxchg dword ptr [rbx], ecx`"""
        name, operands = self.mnemonic(), self.operands()
        if name == "nop" and self.row.plus:
            return name
        if self.row.facts.get("string") and self.repeat and self.row.name != "xlat":
            equal = self.row.facts.get("repne")
            name = ("repne " if self.repeat == 2 and equal else "repe " if equal else "rep ") + name
        if self.row.facts.get("locks") == "may" and self.repeat == 3:
            name = "lock " + name
        return f"{name} {', '.join(operands)}".strip()


def disassemble(row: Row, variant: int, fields: Mapping[str, int], code: int, ip: int = 0) -> str:
    """The text of a decoded instruction. `ip` is its own instruction pointer, from which branch targets count."""
    return Disassembler(row, variant, fields, code, ip).text()
