"""The check of the MIPS specification: every row, in every mode."""

from __future__ import annotations

from collections.abc import Iterable

from exuvia.dsl.check import problems
from exuvia.isa.mips.decode_tables import Overlap, tables
from exuvia.isa.mips.forms import FIELDS, IMMEDIATES, NONE, ROWS, Row
from exuvia.isa.mips.state import MODES

UNUSED = frozenset("hint code trap stype sel again".split())
"""Fields that say nothing to the processor."""


def fields(row: Row) -> dict[str, tuple[str, ...]]:
    """For each field of the encoding where the record holds it."""
    out: dict[str, tuple[str, ...]] = {name: (FIELDS[name],) for name in row.fields if name in FIELDS}
    out |= {name: ("imm",) for name in row.fields if name in IMMEDIATES}
    for name in ("cc", "index"):
        if name in row.fields:
            out[name] = ("scale" if row.fields[name][0] == 8 else "reg",)
    return out


def check_row(row: Row, mode: int, alone: bool = False) -> list[str]:
    """What is wrong with one row; `alone`: a jump with an empty delay slot."""
    try:
        cpu = row.trace(mode, alone)
    except Exception as mistake:
        return [f"cannot be read: {type(mistake).__name__}: {mistake}"]
    has = {f for names in fields(row).values() for f in names}
    has |= {"base"} if row.writes else set()
    has |= {"imm"} if row.immediate != NONE or row.facts.keys() & {"branch", "imm"} else set()
    used = {} if row.facts.get("hint") else fields(row)
    operands = {name: (*names, "base") if name == row.writes else names for name, names in used.items() if name not in UNUSED}
    found = problems(cpu, has, operands, bool(row.facts.get("keeps")))
    if any(place[0] == "pc" for place in cpu.env) and not (row.facts.get("ends") or row.facts.get("branch") or alone):
        found.append("the text sets the pc, but the row has neither the fact `ends` nor `branch`")
    return found


def check(rows: Iterable[Row] | None = None, modes: Iterable[int] = range(MODES)) -> list[str]:
    """Every mistake, each as "NAME ENCODING: what is wrong"."""
    rows = ROWS if rows is None else list(rows)
    out: dict[str, None] = {}
    for mode in modes:
        try:
            found = tables(mode, None, rows).rows
        except Overlap as overlap:
            out[str(overlap)] = None
            continue
        for row, variant in found:
            for text in check_row(row, mode, bool(variant)):
                out[f"{row.name} {row.text}: {text}"] = None
    return list(out)
