"""Modes that the host cannot run, 16-bit code and segments with bases and limits: the native engine against the reference engine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

import pytest

from exuvia.isa.x86 import state as x86
from exuvia.isa.x86.concrete import Fault as Raised
from exuvia.isa.x86.concrete import Processor
from exuvia.isa.x86.state import layout
from tests.codegen.native import CODED, DEVICE, PLAIN, NativeMachine
from tests.isa.x86 import cases
from tests.isa.x86.reference import Reference, decoder
from tests.oracle.case import CODE, CODE_PAGE, WINDOW, Case, Fault, Result
from tests.oracle.generate import Generator

LIMIT = 0x27FF
"""Of the data segment: the window's last 2 KiB are beyond it."""
FEATURES = frozenset("fpu cx8 cmov mmx fxsr sse sse2 pni ssse3 sse4_1 sse4_2 popcnt movbe aes sha_ni".split())
CODE_SEGMENT, DATA_SEGMENT, DATA_DOWN, READ_ONLY = 0xFB, 0xF3, 0xF7, 0xF1
WIDE = x86.ATTRIBUTE_DB


def segments(cpu: Processor, mode: int, code: int, stack: int) -> None:
    """CS at the code's page, DS and ES and SS at the window, FS read-only and GS expand-down."""
    cpu.set_segment(x86.CS, 0x23, CODE_PAGE, 0xFFF, CODE_SEGMENT | (WIDE if code == 32 else 0))
    cpu.set_segment(x86.SS, 0x2B, WINDOW, 0x2FFF, DATA_SEGMENT | (WIDE if stack == 32 else 0))
    for i in (x86.DS, x86.ES):
        cpu.set_segment(i, 0x2B, WINDOW, LIMIT, DATA_SEGMENT | WIDE)
    cpu.set_segment(x86.FS, 0x2B, WINDOW, 0x2FFF, READ_ONLY)
    cpu.set_segment(x86.GS, 0x2B, WINDOW, 0x7FF, DATA_DOWN)
    cpu.update_mode()


@pytest.fixture(scope="module")
def native() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


def made(seed: int, mode: int, every: int) -> list[tuple[str, Case]]:
    """Cases of each `every`th encoding with registers that are mostly offsets into the segments, and now and then a segment override."""
    maker, r, out = Generator(seed), Random(seed), []
    for row in list(cases.suitable(FEATURES))[seed % every :: every]:
        for g in maker.cases(row, 1, (32,)):
            case = g.case
            case.gprs = [v if r.random() < 0.2 else r.randrange(0x2E00) for v in case.gprs[:8]] + [0] * 8
            if row.facts.get("string"):
                case.gprs[1] = r.choice((0, r.randrange(50), r.randrange(600)))
            if r.random() < 0.25:
                case.code = bytes([r.choice((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))]) + case.code
            if r.random() < 0.25:
                case.code = b"\x67" + case.code
            length = decoder(mode).decode(case.code + bytes(15), CODE & 0xFFF)[1]["len"]  # immediates and displacements have other sizes
            case.code = case.code[:length].ljust(length, b"\0")
            out.append((f"{row.name} {row.text}", case))
    return out


def run_reference(case: Case, template: bytes) -> Result:
    """A case on the reference engine, from a template's state."""
    filled, state, fault, space = bytearray(layout.size), bytearray(template), None, cases.Space(case)
    cases.fill(filled, case)
    for name in ("result", "aux", "df", "eflags", "fcw", "fsw", "c1", "ftw", "top", "mxcsr", "st", "x", "r"):
        f = layout.files[name]
        end = f.offset + max(f.count * f.stride, f.width // 8)
        state[f.offset : end] = filled[f.offset : end]
    cases.put(state, "pc", CODE)
    engine = Reference(state, space, rare=cases.Rest(state, space))
    try:
        for _ in range(4000):
            engine.step()
            if cases.take(state, "pc") != CODE:
                break
    except Raised as raised:
        fault = Fault(0, raised.vector, raised.error or 0, raised.address or 0)
    return cases.outcome(case, state, space, fault)


def changes(case: Case, result: Result) -> list[tuple[str, str]]:
    """Where memory is not what it was."""
    return [(hex(i), hex(new)) for i, (old, new) in enumerate(zip(case.memory, result.memory)) if old != new]


@pytest.mark.parametrize(("code", "stack", "window"), [(16, 16, PLAIN), (16, 32, CODED), (32, 32, DEVICE), (32, 16, PLAIN)])
def test_native_engine_agrees_with_the_reference_engine(native: NativeMachine, code: int, stack: int, window: str) -> None:
    compare(native, code, stack, window, code * 7 + stack, 8)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("window", [PLAIN, CODED, DEVICE])
@pytest.mark.parametrize(("code", "stack"), [(16, 16), (16, 32), (32, 32), (32, 16)])
def test_every_encoding_agrees_with_the_reference_engine(native: NativeMachine, code: int, stack: int, window: str) -> None:
    compare(native, code, stack, window, Random().randrange(1 << 32), 1)


def compare(native: NativeMachine, code: int, stack: int, window: str, seed: int, every: int) -> None:
    """Run cases of each `every`th encoding on both engines."""
    template = native.template(32, partial(segments, code=code, stack=stack))
    mode = cases.take(memoryview(template), "mode")
    assert mode == 1 + (code == 32) + 2 * (stack == 32) + 4
    some = made(seed, mode, every)
    native.compile([case for _, case in some], template)
    native.become(window)
    wrong, faults = [], 0
    for name, case in some:
        want, got = run_reference(case, template), native.run(case, template)
        if want.fault is None and not CODE_PAGE <= want.rip < CODE_PAGE + 4096:
            continue  # a branch to where no code is
        faults += want.fault is not None
        rip = got.rip + CODE_PAGE
        differences = [
            f"{what} {a}, native {b}"
            for what, a, b in (
                ("fault", want.fault, got.fault),
                ("rip", hex(CODE if want.fault else want.rip), hex(rip)),
                ("registers", want.gprs, got.gprs),
                ("flags", want.rflags, got.rflags),
                ("state", want.fxsave.hex(), got.fxsave.hex()),
                ("memory", changes(case, want), changes(case, got)),
            )
            if a != b
        ]
        if differences:
            wrong.append(f"{name} {case.code.hex()}: {differences[0][:300]}")
    assert not wrong, "\n".join([f"seed {seed}: {len(wrong)} of {len(some)} differ", *wrong[:20]])
    assert len(some) > 1000 / every and len(some) * 0.05 < faults < len(some) * 0.8
