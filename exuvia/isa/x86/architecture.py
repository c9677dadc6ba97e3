"""What engines are given of x86."""

from __future__ import annotations

from exuvia.dsl.architecture import Architecture, Form, routine
from exuvia.isa.x86 import cpus, faults, interrupts, load, rare
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.decode import DECODE
from exuvia.isa.x86.decode_tables import Tables, tables
from exuvia.isa.x86.disassembler import disassemble
from exuvia.isa.x86.paging import walk_trace
from exuvia.isa.x86.processor import Processor
from exuvia.isa.x86.state import MODES, ZERO, layout, mode_facts


def form(mode: int, t: Tables, slot: int) -> Form:
    """The trace of a slot's instruction form."""
    facts = mode_facts(mode)
    row, variant = t.row(slot)
    trace = row.trace(variant, int(facts["code"]), int(facts["stack"]), bool(facts["flat"]))
    return Form(trace, bool(row.facts.get("ends")), bool(row.facts.get("branch")))


EVERYWHERE = {None, "cmov", "cx8", "lahf_lm"}  # features that no integer code does without
EVERYDAY = "integer control bit string eflags segments interrupts system calls ports".split()


def everyday(mode: int, t: Tables) -> list[int]:
    """Integer code of a flat mode's own operand and address sizes, without LOCK: some 500 forms. Other modes are passed through."""
    if not mode_facts(mode)["flat"]:
        return []
    own = {64: (1, 2), 32: (1,), 16: (0,)}[int(mode_facts(mode)["code"])]
    slots = []
    for slot in range(2, t.slots):
        row, variant = t.row(slot)
        chapter = row.run.__module__.rpartition(".")[2]
        sized = row.mask() & 3 == 0 or variant & 3 in own
        if chapter in EVERYDAY and row.facts.get("feature") in EVERYWHERE and sized and not variant & 0x68 and variant >> 4 & 3 != 3:
            slots.append(slot)
    return slots


def whole() -> Cpu:
    """What a routine sees: everything at full width."""
    return Cpu(code=64, stack=64, flat=True, w=64, osize=64, asize=64)


def architecture() -> Architecture:
    """x86, with every chapter loaded."""
    load()
    rare.load()
    return Architecture(
        name="x86",
        module=__name__,
        layout=layout,
        modes=MODES,
        no_index=ZERO,
        decode=DECODE,
        walk=walk_trace,
        tables=lambda mode, features: tables(mode, features),
        form=form,
        everyday=everyday,
        routines={name: routine(text, whole) for name, text in (faults.ROUTINES | interrupts.ROUTINES).items()},
        address_mask=lambda mode: (1 << 64) - 1 if mode == 0 else (1 << 32) - 1,
        limited=lambda mode: not mode_facts(mode)["flat"],
        processor=Processor,
        model=cpus.model,
        disassemble=lambda row, variant, fields, mode, ip: disassemble(row, variant, fields, int(mode_facts(mode)["code"]), ip),
    )
