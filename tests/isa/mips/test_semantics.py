"""Every instruction that needs no system around it, on the native engine and on Unicorn, in both byte orders; branches with their slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from exuvia.codegen.layout import PLAIN
from exuvia.isa.mips.forms import Row
from tests.codegen.copying import begin, stencils
from tests.isa.mips.cases import Generator, Oracle, differences, rows, run
from tests.isa.mips.machine import Machine

EACH = 6


@pytest.fixture(scope="module", params=[False, True], ids=["little", "big"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Oracle]]:
    """A processor of ours and Unicorn's."""
    m = Machine(big=request.param)
    for mode in (int(request.param), 2 + int(request.param)):  # all handlers at once, which is faster than one by one
        m.engine.make_mode(mode)
        m.engine.compile(mode, [(slot, PLAIN) for slot in range(m.engine.tables[mode].slots)])
    yield m, Oracle(request.param)
    m.close()


def tried(
    pair: tuple[Machine, Oracle], wide: bool, wanted: list[Row], each: int = EACH, how: Callable[[Machine], object] = lambda m: None
) -> tuple[int, list[str]]:
    """How many cases, and what came out differently."""
    m, oracle = pair
    maker, count, wrong = Generator(7), 0, []
    for row in wanted:
        for c in maker.cases(row, each, wide):
            count += 1
            if found := differences(c, run(m, c, how), oracle.run(c)):
                wrong.append(f"{row} {c.word:#010x} FCSR {c.fcsr:#x}: {'; '.join(found)}")
    return count, wrong


def test_every_instruction(pair: tuple[Machine, Oracle]) -> None:
    count, wrong = tried(pair, False, rows())
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:40]])
    assert count > 1100


def test_64_bit_floating_point_registers(pair: tuple[Machine, Oracle]) -> None:
    count, wrong = tried(pair, True, [row for row in rows() if row.facts.get("fpu")])
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:40]])
    assert count > 700


def test_regions(pair: tuple[Machine, Oracle]) -> None:
    """Each instruction in a region of its own, branches with their slots."""
    count, wrong = tried(pair, False, rows(), 1, Machine.compile_region)
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:40]])
    assert count > 200


def test_copies(pair: tuple[Machine, Oracle]) -> None:
    """Each instruction in a copied block, branches with their slots."""
    m, _ = pair
    begin(m.engine)
    mode = int(m.order == "big")
    stencils(m.engine, mode, [(slot, PLAIN) for slot in range(m.engine.tables[mode].slots)])
    count, wrong = tried(pair, False, rows(), 2, Machine.copy_block)
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:40]])
    assert m.copied > count * 0.9 > 300
