"""Small guests on our machine: their console must read as recorded. `-m soak` holds the recorded text against QEMU.

They run on the software processor, and on KVM where there is one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.guests.console import PASS, assemble, cannot, differs, expected, lines, names, run
from tests.vcpu.kvm import host

SLOW_ON_KVM = {"smp_ordering", "smp_iriw", "longmode"}
needs_binutils = pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="binutils (as, ld) is not installed")


@needs_binutils
@pytest.mark.parametrize("name", names())
def test_guest(name: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("exuvia-system-x86_64")
    text, status = run([str(program)], assemble(name, tmp_path), name, 60)
    assert text == expected(name)
    assert status == PASS


@needs_binutils
@pytest.mark.soak
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
@pytest.mark.parametrize("name", names())
def test_recorded_text_is_what_qemu_prints(name: str, tmp_path: Path) -> None:
    if reason := cannot(name):
        pytest.skip(f"QEMU {reason}")
    text, status = run(["qemu-system-x86_64", "-accel", "tcg"], assemble(name, tmp_path), name, 60)
    assert lines(text, differs(name)) == lines(expected(name), differs(name))
    assert status == PASS


@needs_binutils
@host.needs_kvm
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.soak if n in SLOW_ON_KVM else ()) for n in names()])
def test_guest_on_kvm(name: str, tmp_path: Path) -> None:
    """What the host's processor does under KVM is what ours does."""
    for where in ("KVM", *host.KINDS):
        if reason := cannot(name, where):
            pytest.skip(f"{where} {reason}")
    program = Path(sys.executable).with_name("exuvia-kvm")
    text, status = run([str(program)], assemble(name, tmp_path), name, 60)
    without: set[str] = set().union(*(differs(name, where) for where in host.KINDS))
    wanted = expected(name).splitlines()
    printed = [ours if ours.split(":")[0] in without else theirs for ours, theirs in zip(wanted, text.splitlines())]
    assert printed == wanted
    assert status == PASS


@pytest.mark.parametrize("where", ["QEMU", "kvm-pvm"])
def test_every_difference_is_a_line(where: str) -> None:
    for name in names():
        assert differs(name, where) <= {line.split(":")[0] for line in expected(name).splitlines()}, name
