"""The check of the x86 specification: every row in every shape, under every kind of mode."""

from __future__ import annotations

from collections.abc import Iterable

from exuvia.dsl.check import problems
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.decode_tables import Overlap, named, tables
from exuvia.isa.x86.forms import ROWS, Row
from exuvia.isa.x86.state import mode_facts

ADDRESS = ("base", "index", "disp", "scale")
MODES = (0, 4, 5)
"""64-bit; flat with 32-bit code and stack; 16-bit with segments."""


def operand_fields(row: Row, cpu: Cpu) -> dict[str, tuple[str, ...]]:
    """For each operand the record's fields that hold it in this variant."""
    out: dict[str, tuple[str, ...]] = {}
    for x in row.operands:
        letter = "I" if x.startswith("sI") else x[0]
        if x == "ST":
            out[x] = ("rm",)
        elif named(x) or x == "1":
            continue
        elif letter in "EMWQ" and cpu.mem:
            out[x] = ADDRESS
        else:
            out[x] = (field(row, letter),)
    return out


def field(row: Row, letter: str) -> str:
    """The field of a register or immediate operand."""
    if letter == "H" and not row.vex:
        letter = row.destination
    return "reg" if letter in "GVPSCD" else "extra" if letter in "BH" else "imm" if letter in "IJOAL" else "rm"


def fields(row: Row) -> set[str]:
    """The record's fields that the encoding fills with something meaningful."""
    has = {field(row, x[0]) for x in row.operands if not named(x) and x[0] in "GVPSCDBHIJOALs"}
    if any(x.startswith("sI") for x in row.operands):
        has.add("imm")
    if row.modrm or row.plus:
        has |= {"rm"}
    if row.memory:
        has |= {*ADDRESS, "seg"}
    if row.far_memory or row.facts.get("string") or row.facts.get("segment"):
        has.add("seg")
    return has


def check_row(row: Row, variant: int, mode: int) -> list[str]:
    """What is wrong with one variant of one row."""
    facts = mode_facts(mode)
    try:
        cpu = row.trace(variant, int(facts["code"]), int(facts["stack"]), bool(facts["flat"]))
    except Exception as mistake:
        return [f"cannot be read: {type(mistake).__name__}: {mistake}"]
    found = problems(cpu, fields(row), operand_fields(row, cpu), bool(row.facts.get("keeps")))
    if any(place[0] == "pc" for place in cpu.env) and not (row.facts.get("ends") or row.facts.get("branch")):
        found.append("the text sets the pc, but the row has neither the fact `ends` nor `branch`")
    return found


def check(rows: Iterable[Row] | None = None, modes: Iterable[int] = MODES) -> list[str]:
    """Every mistake, each as "NAME ENCODING: what is wrong"."""
    rows = ROWS if rows is None else list(rows)
    out: dict[str, None] = {}
    for mode in modes:
        try:
            shapes = tables(mode, None, rows).rows
        except Overlap as overlap:
            out[str(overlap)] = None
            continue
        for row, variant in shapes[2:]:
            for text in check_row(row, variant, mode):
                out[f"{row.name} {row.text}: {text}"] = None
    return list(out)
