"""CPUID says exactly what works: each feature's instructions, MSRs and control bits fault where a model lacks it, and only there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exuvia.isa.x86.cpus import FEATURES, model
from tests.guests import console
from tests.guests.test_guests import needs_binutils

PROGRAM = str(Path(sys.executable).with_name("exuvia-system-x86_64"))
# Nothing of theirs can be tried alone: they say how something works, or what does not fault without them. Where they are tested:
ELSEWHERE = {
    "apic": "guests/programs/interrupts.S",
    "msr": "every line of an MSR",
    "pse36": "isa/x86/test_paging.py",
    "abm": "isa/x86/test_decode.py: LZCNT is BSR without it",
    "erms": "says that something is fast",
    "arat": "says that the APIC timer never stops",
    "constant_tsc": "says that the TSC never changes its rate",
    "hypervisor": "says that leaf 40000000h exists",
    "3dnowprefetch": "without it PREFETCHW is a NOP",
    "xgetbv1": "guests/programs/xsavec.S",
} | dict.fromkeys(("avx", "avx2", "fma", "f16c", "vaes", "vpclmulqdq"), "isa/x86/test_avx.py, guests/programs/avx.S")
MISSING = ("#UD", "#GP error 0", "#PF error 0")
NORMAL = ["qemu64", "qemu32", "max,-lm", "max,-sse", "qemu32,+sse4.2,+rdtscp,+nx"]
EACH = [f"max,-{name}" for name in FEATURES if name not in ("lm", "sse")]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("features")
    return {name: console.assemble(name, folder) for name in ("features", "features64")}


def names(program: str) -> set[str]:
    """The features that a program tries."""
    return {line.split(":")[0].split()[0] for line in console.expected(program).splitlines()}


def test_every_feature_is_tried() -> None:
    tried = names("features") | names("features64") | set(ELSEWHERE)
    assert {name for name in tried if not name.startswith("-")} == set(FEATURES)


@needs_binutils
@pytest.mark.parametrize("cpu", [*NORMAL, *(pytest.param(cpu, marks=pytest.mark.soak) for cpu in EACH)])
def test_what_is_not_announced_is_not_there(kernels: dict[str, Path], cpu: str) -> None:
    chosen = model(cpu.split(",")[0], cpu.split(",")[1:])
    programs = ["features", "features64"] if {"msr", "lm", "nx", "syscall", "fxsr", "sse"} <= chosen.features else ["features"]
    for program in programs:
        text, status = console.run([PROGRAM], kernels[program], program, 140, cpu)
        wrong = []
        for line in text.splitlines():
            name, _, result = line.partition(": ")
            there = set(name.split()) & set(FEATURES) <= chosen.features and name[0] != "-"
            if result != "ok" if there else not result.startswith(MISSING):
                wrong.append(line)
        assert (wrong, status) == ([], console.PASS)
        assert len(text.splitlines()) == len(console.expected(program).splitlines())
