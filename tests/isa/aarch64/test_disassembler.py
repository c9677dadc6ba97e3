"""The disassembler against capstone: every encoding of the integer chapters with random fields."""

from __future__ import annotations

import random

import capstone

from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.disassembler import disassemble
from tests.isa.aarch64.machine import encodings

CHAPTERS = "arithmetic logical conditional branches loads atomics pointer_auth".split()
EACH, ADDRESS = 12, 0x40_0000
architecture()


def plain(text: str) -> str:
    """Without what two disassemblers may do as they like: white space, the form of numbers."""
    words = text.replace("\t", " ").replace(",", " ,").split()
    return " ".join(
        f"#{int(w[1:], 0) & (1 << 64) - 1:#x}" if w[0] == "#" and w[1:2] in "-0123456789" and w[1:] else w
        for w in (x.rstrip("]!") for x in words)
    )


def test_as_capstone() -> None:
    rng = random.Random(2)
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    wrong, shown = [], 0
    for row, variant in tables(None).rows[2:]:
        if row.run.__module__.rpartition(".")[2] not in CHAPTERS:
            continue
        for code in encodings(rng, *row.pattern(variant), EACH):
            theirs = next(engine.disasm(code.to_bytes(4, "little"), ADDRESS), None)
            if theirs is None or theirs.op_str.startswith(","):  # capstone leaves out what has no name
                continue
            ours = disassemble(row, variant, {"disp": code}, 0, ADDRESS)
            shown += 1
            if plain(ours) != plain(f"{theirs.mnemonic} {theirs.op_str}"):
                wrong.append(f"{code:08x} ours: {ours}; capstone: {theirs.mnemonic} {theirs.op_str}")
    assert shown > 5000
    assert not wrong, f"{len(wrong)} of {shown}:\n" + "\n".join(wrong[:40])
