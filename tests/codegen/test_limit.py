"""A code segment's end in the middle of a block: what lies before is done, then #GP(0); by the interpreter as by a region."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from exuvia.codegen.layout import SPECIAL
from exuvia.isa.x86.state import CS, GP
from tests.codegen.native import NativeMachine
from tests.codegen.test_segmented import segments
from tests.isa.x86 import cases
from tests.oracle.case import CODE, CODE_PAGE, Case, Fault

COUNT = 6
PLACE = CODE - CODE_PAGE


@pytest.fixture(scope="module")
def native() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("inside", range(COUNT + 3))
def test_code_ends_with_its_segment(native: NativeMachine, regions: bool, inside: int) -> None:
    template = bytearray(native.template(32, partial(segments, code=32, stack=32)))
    cases.put(template, "seg_limit", PLACE + inside - 1, CS)
    case = Case(b"\x40" * COUNT, 32, [0] * 16)  # INC EAX; behind them stands INT3
    native.regions = regions
    result = native.run(case, bytes(template))
    done = min(inside, COUNT)
    assert result.gprs[0] == done
    if inside > COUNT:
        assert (result.fault, result.rip) == (None, PLACE + COUNT)
    else:
        assert (result.fault, result.rip) == (Fault(0, GP, 0, 0), PLACE + done)


def test_a_region_that_can_end_is_behind_the_handler_that_looks(native: NativeMachine) -> None:
    template = native.template(32, partial(segments, code=32, stack=32))
    native.put(Case(b"\x40" * COUNT, 32, [0] * 16), template)
    address = native.engine.block(native.at)
    wanted = native.engine.hot.grow(address)
    assert wanted is not None
    native.engine.hot.make_now(wanted)
    head = native.engine.hot.head(address)
    assert head.region and head.handler == native.engine.special[SPECIAL.index("limited")]
    native.go()
    assert native.vcpu.gpr[0] == COUNT
