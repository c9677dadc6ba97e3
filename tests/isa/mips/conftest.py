"""The machine of the tests about exceptions and the TLB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.isa.mips.machine import KSEG0, Machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    m = Machine()
    yield m
    m.close()


@pytest.fixture
def m(machine: Machine) -> Machine:
    """In kernel mode after reset, RAM empty, exceptions handled by the guest at KSEG0."""
    machine.stops(False)
    machine.write(0, bytes(0x10000))
    machine.cpu.reset()
    machine.cpu.status = 0
    machine.cpu.ebase = KSEG0
    machine.source.ns = 0
    return machine
