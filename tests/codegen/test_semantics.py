"""Every user-level instruction on the native engine against the host's processor: registers, defined flags, x87 and SSE state, memory,
faults, the instruction count. Thrice: the window as RAM (fast handlers), as RAM with code on it, and as a device (careful ones)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.codegen.native import CODED, DEVICE, PLAIN, NativeMachine
from tests.isa.x86.cases import difference, suitable
from tests.oracle.case import CODE, Case, Result
from tests.oracle.generate import Generated, Generator
from tests.oracle.hostcpu import HostCpu, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
Judged = tuple[Generated, Result]


@pytest.fixture(scope="module")
def native() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    with HostCpu() as h:
        yield h


@pytest.fixture(scope="module")
def judged(native: NativeMachine, host: HostCpu) -> list[Judged]:
    """The cases of the normal test, their handlers compiled."""
    return judge(native, host, 7, 5)


def judge(native: NativeMachine, host: HostCpu, seed: int, rounds: int) -> list[Judged]:
    """Generated cases with what the host made of them; their handlers are compiled."""
    maker = Generator(seed)
    generated = [g for row in suitable(host.features()) for g in maker.cases(row, rounds)]
    native.compile(g.case for g in generated)
    return list(zip(generated, host.run_many([g.case for g in generated])))


def instructions(case: Case, want: Result) -> int | None:
    """How many instructions run, with the INT3 behind the case; None for what repeats."""
    if case.code[0] in (0xF2, 0xF3) or case.code[:2] in (b"\x67\xf2", b"\x67\xf3"):
        return None
    if want.fault is None:
        return 2
    return 0 if want.rip == CODE else 1  # 1: a branch to where nothing can be fetched


def mismatches(native: NativeMachine, judged: list[Judged], window: str) -> list[str]:
    """What differs from the host with the window as RAM, as RAM with code, or as a device."""
    native.become(window)
    found = []
    for g, want in judged:
        got = native.run(g.case)
        text = difference(g, want, got)
        if not text and want.fault and got.fault and want.rip != got.rip:
            text = f"fault at {want.rip:#x}, we at {got.rip:#x}"
        if not text and got.fault == want.fault and instructions(g.case, want) not in (None, native.vcpu.icount):
            text = f"{native.vcpu.icount} instructions instead of {instructions(g.case, want)}"
        if text:
            found.append(f"{window}: {g.row.name} {g.row.text}, {g.case.mode}-bit, operands of {g.size} bits, {g.case.code.hex()}: {text}")
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("window", [PLAIN, CODED, DEVICE])
def test_native_engine_agrees_with_the_host(native: NativeMachine, judged: list[Judged], window: str) -> None:
    found = mismatches(native, judged, window)
    assert not found, "\n".join([f"{len(found)} of {len(judged)} differ", *found[:20]])
    assert len(judged) > 15000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("window", [PLAIN, CODED])
def test_compiled_regions_agree_with_the_host(native: NativeMachine, judged: list[Judged], window: str) -> None:
    native.regions = True
    found = mismatches(native, judged[::24], window)
    native.regions = False
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])
    assert native.engine.hot.installed > 1000


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_native_engine_agrees_with_the_host_at_length(native: NativeMachine, host: HostCpu) -> None:
    """Some 2.3 million runs."""
    first = random.randrange(1 << 32)
    for seed in range(first, first + 10):
        cases = judge(native, host, seed, 20)
        for window in (PLAIN, CODED, DEVICE):
            found = mismatches(native, cases, window)
            assert not found, "\n".join([f"seed {seed}: {len(found)} of {len(cases)} differ", *found[:40]])
