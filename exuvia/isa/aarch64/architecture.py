"""What engines are given of AArch64."""

from __future__ import annotations

from exuvia.dsl.architecture import Architecture, Form, routine
from exuvia.isa.aarch64 import bti, cpus, exceptions, load
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.decode import DECODE
from exuvia.isa.aarch64.decode_tables import Tables, landing_tables, tables
from exuvia.isa.aarch64.disassembler import disassemble
from exuvia.isa.aarch64.paging import walk_trace
from exuvia.isa.aarch64.processor import Processor
from exuvia.isa.aarch64.state import LANDING, MODES, NO_INDEX, PRIVILEGED, USER, layout

EVERYDAY = "arithmetic logical conditional branches loads".split()
BY_STACK = "ldr str ldp stp ldur stur ldrb strb".split()  # what compilers access by the stack pointer


def form(mode: int, t: Tables, slot: int) -> Form:
    """The trace of a slot's instruction form."""
    row, variant = t.row(slot)
    return Form(row.trace(variant, mode), bool(row.facts.get("ends") or row.facts.get("branch")), bool(row.facts.get("branch")))


def everyday(mode: int, t: Tables) -> list[int]:
    """Integer code, which any guest has: some 660 forms. What compilers do not write is left out."""
    if mode & LANDING:
        return list(range(t.slots))
    if mode not in (PRIVILEGED, USER):
        return []
    chapters = {f"{__package__}.{name}" for name in EVERYDAY}
    found = []
    for slot in range(2, t.slots):
        row, variant = t.row(slot)
        seldom = variant.get("cond", 0) >= 14 or variant.get("option", 2) in (5, 7) or row.name in ("ccmn", "prfm", "prfum")
        if "stack" in variant:
            seldom |= row.name not in BY_STACK or "Rm" in row.registers
        if row.run.__module__ in chapters and not row.features and not seldom:
            found.append(slot)
    return found


def architecture() -> Architecture:
    """AArch64, with every chapter loaded."""
    load()
    return Architecture(
        name="aarch64",
        module=__name__,
        layout=layout,
        modes=MODES,
        no_index=NO_INDEX,
        decode=DECODE,
        walk=walk_trace,
        tables=lambda mode, features: landing_tables() if mode & LANDING else tables(features),
        form=form,
        everyday=everyday,
        routines={name: routine(text, Cpu) for name, text in (exceptions.ROUTINES | bti.ROUTINES).items()},
        address_mask=lambda mode: (1 << 64) - 1,
        limited=lambda mode: False,
        processor=Processor,
        model=cpus.model,
        disassemble=disassemble,
    )

