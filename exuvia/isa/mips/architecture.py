"""What engines are given of MIPS."""

from __future__ import annotations

from exuvia.dsl.architecture import Absolute, Architecture, Form, routine
from exuvia.isa.mips import branch, cpus, exceptions, load
from exuvia.isa.mips.concrete import Processor
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.decode import DECODE
from exuvia.isa.mips.decode_tables import JUMPS, Tables, tables
from exuvia.isa.mips.disassembler import disassemble
from exuvia.isa.mips.forms import Row
from exuvia.isa.mips.state import BIG, KSEG0, MODES, layout
from exuvia.isa.mips.tlb import walk_trace


def form(mode: int, t: Tables, slot: int) -> Form:
    """The trace of a slot's instruction form."""
    row, variant = t.rows[slot]
    facts = JUMPS[row.facts["jump"]].facts if variant else row.facts
    return Form(row.trace(mode, bool(variant)), bool(facts.get("ends")), bool(facts.get("branch")), address(row, mode))


def address(row: Row, mode: int) -> Absolute | None:
    """A kernel that lies elsewhere after each boot has other addresses in J and JAL, and in LUI other upper halves."""
    if row is JUMPS["region"] or row.facts.get("jump") == "region":
        return Absolute(0, 4, 0)
    return Absolute(2 if mode & BIG else 0, 2, KSEG0) if row.name == "lui" else None


def everyday(mode: int, t: Tables) -> list[int]:
    """All but floating point and rare registers."""
    return [slot for slot in range(t.slots) if not t.row(slot).facts.get("fpu") and t.row(slot).run.__module__.rpartition(".")[2] != "cp0"]


def architecture() -> Architecture:
    """MIPS, with every chapter loaded."""
    load()
    return Architecture(
        name="mips",
        module=__name__,
        layout=layout,
        modes=MODES,
        no_index=0,
        decode=DECODE,
        walk=walk_trace,
        tables=lambda mode, features: tables(mode, features),
        form=form,
        everyday=everyday,
        routines={name: routine(text, Cpu) for name, text in (exceptions.ROUTINES | branch.ROUTINES).items()},
        address_mask=lambda mode: (1 << 32) - 1,
        limited=lambda mode: False,
        processor=Processor,
        model=cpus.model,
        disassemble=lambda row, variant, fields, mode, address: disassemble(row, fields, address),
    )
