"""Small guests on our machine: their console must read as recorded. `-m soak` holds the recorded text against QEMU."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.guests.console import PASS, assemble, differs, expected, lines, names, qemu_cannot, run

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
    if reason := qemu_cannot(name):
        pytest.skip(f"QEMU {reason}")
    text, status = run(["qemu-system-x86_64", "-accel", "tcg"], assemble(name, tmp_path), name, 60)
    assert lines(text, differs(name)) == lines(expected(name), differs(name))
    assert status == PASS


def test_every_difference_from_qemu_is_a_line() -> None:
    for name in names():
        assert differs(name) <= {line.split(":")[0] for line in expected(name).splitlines()}, name
