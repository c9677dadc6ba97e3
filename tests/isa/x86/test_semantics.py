"""Every user-level instruction against the host's processor: registers, defined flags, x87 and SSE state, memory, faults."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from exuvia.isa.x86 import load
from tests.isa.x86.cases import difference, run_reference, suitable
from tests.oracle.generate import Generated, Generator
from tests.oracle.hostcpu import HostCpu, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    load()
    with HostCpu() as h:
        yield h


def mismatches(host: HostCpu, seed: int, rounds: int) -> tuple[int, list[str]]:
    """How many cases there were, and what differed."""
    maker, count, found = Generator(seed), 0, []
    for row in suitable(host.features()):
        cases: list[Generated] = list(maker.cases(row, rounds))
        for g, want in zip(cases, host.run_many([g.case for g in cases])):
            count += 1
            if text := difference(g, want, run_reference(g.case)):
                found.append(f"{row.name} {row.text}, {g.case.mode}-bit, operands of {g.size} bits, {g.case.code.hex()}: {text}")
    return count, found


def test_reference_agrees_with_the_host(host: HostCpu) -> None:
    count, found = mismatches(host, 1, 2)
    assert not found, "\n".join([f"{len(found)} of {count} differ", *found[:20]])
    assert count > 5000


@pytest.mark.soak
def test_reference_agrees_with_the_host_at_length(host: HostCpu) -> None:
    seed = random.randrange(1 << 32)
    count, found = mismatches(host, seed, 60)
    assert not found, "\n".join([f"seed {seed}: {len(found)} of {count} differ", *found[:40]])
