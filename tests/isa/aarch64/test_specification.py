"""The check of the specification: every text in both modes, and that no two encodings are alike."""

from __future__ import annotations

import pytest

from exuvia.dsl.check import problems
from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.decode_tables import tables
from exuvia.isa.aarch64.forms import Row, place
from exuvia.isa.aarch64.state import PRIVILEGED, USER

architecture()
UNUSED = {"tlbi", "dc", "ic", "at", "msr", "mrs"}  # Rt of those that take no argument is 31; EL0 may not use others, and Python has some
RUN_TIME = {"disp", "imm", "scale", "index"}


def told(row: Row, mode: int) -> list[str]:
    """What is wrong with a row."""
    operands = {name: {place(name)} for name in row.registers}
    if "Rs" in operands:
        operands["Rs"].add("seg")
    has = {field for fields in operands.values() for field in fields} | RUN_TIME
    if row.facts.get("imm") == "pair":
        has.add("extra")
    if row.facts.get("lower"):
        has.add("rm")
    if row.facts.get("several"):
        has |= {"extra", "seg"}
    if row.name in UNUSED:
        operands = {}
    each = [problems(row.trace(variant, mode), has, operands, bool(row.facts.get("keeps"))) for variant in row.variants]
    unused = set.intersection(*({p for p in found if p.endswith(tuple(operands))} for found in each))
    return sorted(unused | {p for found in each for p in found if not p.endswith(tuple(operands))})


@pytest.mark.parametrize("mode", [PRIVILEGED, USER])
def test_texts(mode: int) -> None:
    wrong = {repr(row): told(row, mode) for row in {row.id: row for row, _ in tables(None).rows[2:]}.values()}
    assert not {row: text for row, text in wrong.items() if text}


def test_no_two_encodings_are_alike() -> None:
    """Of all features together; what is not so raises Overlap."""
    assert len(tables(None).blob) > 1 << 16


@pytest.mark.parametrize(
    "row", ["sf 0 0 Rd", "1 immlo=2 10000 immhi=19 Rq", "Rn 000000000000000000000000000", "name 0000000000000000000000000000000"]
)
def test_wrong_encodings(row: str) -> None:
    with pytest.raises(ValueError, match="32|field|stand|wide|register"):
        Row(row, lambda cpu: None, {})
