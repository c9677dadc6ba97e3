"""The disassembler's text against capstone's, over generated encodings of every row; what differs by taste is made alike first."""

from __future__ import annotations

import re

import capstone
import pytest

from exuvia.isa.x86 import load
from exuvia.isa.x86.decode import RESULT_SLOT
from exuvia.isa.x86.decode_tables import UNDEFINED_SLOT
from exuvia.isa.x86.disassembler import disassemble
from exuvia.isa.x86.forms import ROWS
from tests.isa.x86.reference import decoder
from tests.oracle.case import CODE
from tests.oracle.generate import Generated, Generator

MODES = {64: (0, capstone.CS_MODE_64), 32: (4, capstone.CS_MODE_32), 16: (1, capstone.CS_MODE_16)}
NAMES = {
    "movabs": "mov",
    "sal": "shl",
    "pushal": "pushad",
    "popal": "popad",
    "wait": "fwait",
    "ljmp": "jmp",
    "lcall": "call",
    "iretw": "iret",
    "fcompi": "fcomip",
    "fucompi": "fucomip",
}
PREDICATES = """eq lt le unord neq nlt nle ord eq_uq nge ngt false neq_oq ge gt true eq_os lt_oq le_oq unord_s neq_us nlt_uq nle_uq ord_s
    eq_us nge_uq ngt_uq false_os neq_os ge_oq gt_oq true_us""".split()


def ours(code: bytes, bits: int, at: int = CODE) -> str | None:
    """Our text, None for an undefined instruction."""
    d = decoder(MODES[bits][0])
    result, fields = d.decode(code, at & 0xFFF)
    slot = result >> RESULT_SLOT
    row, variant = d.tables.rows[slot]
    return None if slot == UNDEFINED_SLOT else disassemble(row, variant, fields, bits, at)


def theirs(code: bytes, bits: int) -> str | None:
    """Capstone's text."""
    found = next(capstone.Cs(capstone.CS_ARCH_X86, MODES[bits][1]).disasm(code, CODE), None)
    return f"{found.mnemonic} {found.op_str}".strip() if found else None


def alike(text: str, size: int) -> str:
    """Names of one meaning, immediates at the operand's size, no empty index, no memory sizes where capstone has its own idea of them."""
    text = re.sub(r" \+ riz(\*\d)?|riz(\*\d)? \+ ", "", text)
    text = re.sub(r"^(lock|repne|repz|bnd|notrack|repe|rep) (?!(cmps|scas|movs|lods|stos)\w? )", "", text)
    text = re.sub(r"^repn?e? (?=movs|lods|stos)", "", text)
    name, _, rest = text.partition(" ")
    name = NAMES.get(name, name)
    rest = re.sub(r"(\w+ ptr |ptr |far )", "", rest)
    if (m := re.match(r"(v?cmp)(\w+)(ps|pd|ss|sd)$", name)) and m[2] in PREDICATES:
        name, rest = m[1] + m[3], f"{rest}, {PREDICATES.index(m[2])}"
    operands = [o for o in rest.split(", ") if o and o != "st(0)"]
    if name[:2] in ("rc", "ro", "sh", "sa") and operands[-1:] == ["1"]:
        operands.pop()
    numbers = [f"{int(o, 0) % (1 << size):#x}" if re.match(r"-?(0x)?\d", o) and ":" not in o else o for o in operands]
    return f"{name} {', '.join(numbers)}".strip()


def same(g: Generated) -> bool:
    """Do both say the same?"""
    a, b = ours(g.case.code, g.case.mode), theirs(g.case.code, g.case.mode)
    if g.row.facts.get("branch") and g.size == 16:
        return True  # capstone does not cut targets to 16 bits
    if b is None and g.row.name == "movsxd" and g.case.code[0] == 0x67:
        return True  # capstone does not know it with 32-bit registers behind this prefix
    if a is None or b is None:
        return a == b or g.row.facts.get("feature") is not None
    size = 64 if g.row.facts.get("branch") else 16 if "Iw" in g.row.operands else g.size
    return alike(a, size) == alike(b, size)


CAPSTONE_DIFFERS = {
    "nop": "does not know the reserved ones",
    "ud0": "prints no operands",
    "ud1": "prints no operands",
    "lfence": "knows one ModRM byte of eight",
    "mfence": "knows one ModRM byte of eight",
    "sfence": "knows one ModRM byte of eight",
    "mov": "prints selectors moved from registers at operand size",
    "lar": "prints a 32-bit name of the source",
    "lsl": "prints a 32-bit name of the source",
    "crc32": "prints a 64-bit name of the destination",
}

ALIASES = "DF =D0+i ST,DF =D8+i ST,D9 =D8+i ST,DD =C8+i ST,DF =C8+i ST,DC =D0+i ST,DC =D8+i ST,DE =D0+i ST,DB =E0,DB =E1,DB =E4".split(",")
"""Encodings that processors have and manuals do not list (AMD64 manual vol. 3, appendix A.1.3): capstone has other names or none."""


def test_every_row_reads_as_capstone_reads_it() -> None:
    load()
    maker = Generator(5)
    count, wrong = 0, []
    for row in ROWS:
        if row.name in CAPSTONE_DIFFERS and (row.name != "mov" or "Sw" in row.operands):
            continue
        if row.text in ALIASES:
            continue
        for g in maker.cases(row):
            count += 1
            if not same(g):
                wrong.append(
                    f"{row.text} {g.case.code.hex()} {g.case.mode}: {ours(g.case.code, g.case.mode)} | {theirs(g.case.code, g.case.mode)}"
                )
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:60]])
    assert count > 3500


@pytest.mark.parametrize(
    ("bits", "code", "text"),
    [
        (64, "f0480fb10b", "lock cmpxchg qword ptr [rbx], rcx"),
        (64, "65488b042528000000", "mov rax, qword ptr gs:[0x28]"),
        (64, "8b0d10000000", "mov ecx, dword ptr [rip + 0x10]"),
        (64, "f348a5", "rep movsq qword ptr [rdi], qword ptr [rsi]"),
        (64, "f2ae", "repne scasb al, byte ptr [rdi]"),
        (64, "74fe", "je 0x10000800"),
        (64, "0f20c0", "mov rax, cr0"),
        (64, "410f22c0", "mov cr0, r8"),
        (64, "4190", "xchg r8d, eax"),
        (64, "90", "nop"),
        (64, "06", None),
        (32, "06", "push es"),
        (32, "ea112233445566", "jmp far 0x6655:0x44332211"),
        (32, "678b07", "mov eax, dword ptr [bx]"),
        (32, "c451ff", "les edx, [ecx - 1]"),
        (16, "8b8610f0", "mov ax, word ptr [bp - 0xff0]"),
        (16, "ea11223344", "jmp far 0x4433:0x2211"),
        (16, "e4 60", "in al, 0x60"),
        (16, "66ef", "out dx, eax"),
        (16, "c8100001", "enter 0x10, 1"),
        (64, "d8c1", "fadd st(0), st(1)"),
        (64, "c4e2f0f2c1", "andn rax, rcx, rcx"),
    ],
)
def test_examples(bits: int, code: str, text: str | None) -> None:
    load()
    assert ours(bytes.fromhex(code), bits) == text
