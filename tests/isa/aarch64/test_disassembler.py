"""The disassembler against capstone: every encoding with random fields."""

from __future__ import annotations

import random
import re

import capstone

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.disassembler import disassemble
from tests.isa.aarch64.machine import encodings

CHAPTERS = "arithmetic logical conditional branches loads atomics pointer_auth".split()
VECTORS = "fp_scalar fp_vector fp_later simd_same simd_different simd_shift simd_misc simd_copy simd_memory crypto crypto_sm".split()
EACH, ADDRESS = 12, 0x40_0000
architecture()


def plain(text: str) -> str:
    """Without what two disassemblers may do as they like: white space, the form of numbers."""
    text = re.sub(r"\[0x([0-9a-f]+)\]", lambda m: f"[{int(m[1], 16)}]", text)  # an element's number
    text = re.sub("^([su])xtl(2?) (.*)", r"\1shll\2 \3, #0", text)  # an alias that capstone knows of some
    words = text.replace("\t", " ").replace(",", " ,").split()
    return " ".join(
        f"#{int(w[1:], 0) & (1 << 64) - 1:#x}" if re.fullmatch("#-?(0x[0-9a-f]+|[0-9]+)", w) else w for w in (x.rstrip("]!") for x in words)
    )


def wide(ours: str, theirs: str) -> bool:
    """Is it an ORR whose constant MOVZ or MOVN would make, too? Such a one is no MOV (DDI 0487, MoveWidePreferred), but capstone's is."""
    found = re.fullmatch(r"orr ([xw])\d+, [xw]zr, #0x([0-9a-f]+)", ours)
    if found is None or theirs != "mov":
        return False
    size, value = 64 if found[1] == "x" else 32, int(found[2], 16)
    return any(sum(v >> at & 0xFFFF != 0 for at in range(0, size, 16)) <= 1 for v in (value, ~value & (1 << size) - 1))


def test_as_capstone() -> None:
    rng = random.Random(2)
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    wrong, shown = [], 0
    for row, variant in tables(None).rows[2:]:
        chapter = row.run.__module__.rpartition(".")[2]
        if chapter not in CHAPTERS + VECTORS:
            continue
        for code in encodings(rng, *row.pattern(variant), EACH if chapter in CHAPTERS else 2):
            if "count" in row.facts and "Rm" in row.fields and code >> 16 & 31 == 31:  # then another encoding counts
                continue
            theirs = next(engine.disasm(code.to_bytes(4, "little"), ADDRESS), None)
            if theirs is None or theirs.op_str.startswith(",") or theirs.mnemonic == "dfb":  # it leaves out what has no name; of Armv8-R
                continue
            ours = disassemble(row, variant, {"disp": code}, 0, ADDRESS)
            shown += 1
            if plain(ours) != plain(f"{theirs.mnemonic} {theirs.op_str}") and not wide(ours, theirs.mnemonic):
                wrong.append(f"{code:08x} ours: {ours}; capstone: {theirs.mnemonic} {theirs.op_str}")
    assert shown > 12000
    assert not wrong, f"{len(wrong)} of {shown}:\n" + "\n".join(wrong[:40])
