"""Small guests of the board virt: their console must read as recorded. `-m soak` holds the recorded text against QEMU.

A comment `// QEMU differs: "name"` names lines where the manual and QEMU 7.2 disagree; the recorded text is the manual's there.
`// options: ...` adds command-line options.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "arm"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.S"))
needs_binutils = pytest.mark.skipif(shutil.which("aarch64-linux-gnu-ld") is None, reason="binutils-aarch64-linux-gnu is not installed")


def printed(program: Sequence[str], name: str, folder: Path) -> list[str]:
    """What a program's guest prints until it switches the machine off."""
    made, linked = folder / f"{name}.o", folder / f"{name}.elf"
    subprocess.run(["aarch64-linux-gnu-as", "-I", PROGRAMS, "-o", made, PROGRAMS / f"{name}.S"], check=True)
    subprocess.run(["aarch64-linux-gnu-ld", "--no-warn-rwx-segments", "-T", PROGRAMS / "guest.ld", "-o", linked, made], check=True)
    options = " ".join(re.findall("// options: (.*)", (PROGRAMS / f"{name}.S").read_text())).split()
    words = [*program, "-M", "virt", *options, "-cpu", "max", "-m", "64", "-nographic", "-kernel", str(linked)]
    return subprocess.run(words, timeout=120, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.splitlines()


def recorded(name: str) -> list[str]:
    """What it must print."""
    return (PROGRAMS / f"{name}.txt").read_text().splitlines()


@needs_binutils
@pytest.mark.parametrize("name", NAMES)
def test_guest(name: str, tmp_path: Path) -> None:
    assert printed([str(Path(sys.executable).with_name("exuvia-system-aarch64"))], name, tmp_path) == recorded(name)


@needs_binutils
@pytest.mark.soak
@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_recorded_text_is_what_qemu_prints(name: str, tmp_path: Path) -> None:
    differs = set(re.findall(r'"([^"]*)"', " ".join(re.findall("// QEMU differs: (.*)", (PROGRAMS / f"{name}.S").read_text()))))
    theirs = printed(["qemu-system-aarch64"], name, tmp_path)
    without = [[line for line in text if line.split(":")[0] not in differs] for text in (theirs, recorded(name))]
    assert without[0] == without[1]
    assert differs <= {line.split(":")[0] for line in theirs}
