"""Every instruction form compiles in every kind of mode, fast and careful, to code that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.codegen.engine import BATCH
from exuvia.codegen.interpreter import walk_body
from exuvia.codegen.store import Store
from exuvia.dsl.state import BOUNCES
from exuvia.isa.x86.architecture import architecture
from exuvia.isa.x86.state import mode_facts
from tests.codegen.native import NativeMachine

LONG, FLAT, REAL, SEGMENTED = 0, 4, 5, 8
"""64-bit; 32-bit with flat segments; 16-bit; 32-bit with segments."""


@pytest.fixture
def native(tmp_path: Path) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("x86-all", tmp_path))
    yield machine
    machine.close()


def compile_slots(native: NativeMachine, mode: int, step: int) -> int:
    """Compile every `step`th slot both ways; how many bytes of code that is."""
    engine = native.engine
    engine.make_mode(mode)
    before = engine.code.used
    slots = range(0, engine.tables[mode].slots, step)
    for start in range(0, len(slots), BATCH):
        part = slots[start : start + BATCH]
        engine.compile(mode, [(slot, careful) for careful in (False, True) for slot in part])
    for table in engine.handler_tables[mode][:2]:
        assert all(engine.code.address <= table[slot] < engine.code.address + engine.code.used for slot in slots)
        assert len({table[slot] for slot in slots}) == len(slots)
    return engine.code.used - before


def test_modes_are_what_they_are_called() -> None:
    facts = [mode_facts(mode) for mode in (LONG, FLAT, REAL, SEGMENTED)]
    assert [(f["code"], f["stack"], f["flat"]) for f in facts] == [(64, 64, True), (32, 32, True), (16, 16, False), (32, 32, False)]


@pytest.mark.parametrize("mode", [LONG, FLAT, REAL, SEGMENTED])
def test_some_forms_compile(native: NativeMachine, mode: int) -> None:
    """Each 53rd; and without a reference outside of the object, or `link` would have refused it."""
    assert compile_slots(native, mode, 53) > 10_000


def test_no_routine_has_more_accesses_than_bounce_buffers() -> None:
    """Instructions are checked with the specification (dsl/check.py)."""
    a = architecture()
    for name in a.layout.routines:
        assert sum(n.op == "translate" for n in walk_body(a.routines[name]().body)) <= BOUNCES


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", [LONG, FLAT, REAL, SEGMENTED])
def test_every_form_compiles(native: NativeMachine, mode: int) -> None:
    size = compile_slots(native, mode, 1)
    assert 1 << 20 < size < 16 << 20  # nine modes have to fit into engine.CODE_SIZE
