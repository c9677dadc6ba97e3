"""Programs on a whole virt: processors that are switched on and off, a machine that ends while all of them run, the timer's interrupt."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
TOOLS = "aarch64-linux-gnu-"
PROGRAM = "import sys; from exuvia.cli.system import aarch64; sys.exit(aarch64())"
LONGEST = 200.0  # seconds, on a busy host

pytestmark = pytest.mark.skipif(shutil.which(f"{TOOLS}as") is None, reason="no assembler for AArch64")


def assemble(name: str, folder: Path, *symbols: str) -> Path:
    """A program of `programs/` as a Linux Image."""
    defined = [word for symbol in symbols for word in ("--defsym", f"{symbol}=1")]
    target = folder / name
    subprocess.run([f"{TOOLS}as", *defined, "-I", str(PROGRAMS), "-o", f"{target}.o", str(PROGRAMS / f"{name}.S")], check=True)
    subprocess.run([f"{TOOLS}ld", "-Ttext=0", "-o", f"{target}.elf", f"{target}.o"], check=True)
    subprocess.run([f"{TOOLS}objcopy", "-O", "binary", f"{target}.elf", str(target)], check=True)
    return target


def run(emulator: str, image: Path, machine: str, processors: int) -> tuple[str, str, int]:
    """What it prints, what the emulator says, and its exit status."""
    own = [sys.executable, "-c", PROGRAM]
    if emulator == "qemu" and shutil.which("qemu-system-aarch64") is None:
        pytest.skip("QEMU is not installed")
    options = f"-M {machine} -cpu cortex-a53 -smp {processors} -m 64 -display none -monitor none -serial stdio".split()
    words = [*(own if emulator == "exuvia" else ["qemu-system-aarch64"]), *options, "-kernel", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LONGEST, check=False)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.timeout(240)
@pytest.mark.parametrize("emulator", ["exuvia", "qemu"])
def test_power(emulator: str, tmp_path: Path) -> None:
    assert run(emulator, assemble("virt_power", tmp_path), "virt", 4) == ("oook", "", 0)


@pytest.mark.timeout(240)
def test_who_switches_a_processor_on(tmp_path: Path) -> None:
    """One of two (PSCI, CPU_ON). On an idle host QEMU 7.2 tells both that they did."""
    assert run("exuvia", assemble("virt_race", tmp_path), "virt", 3) == ("oooo", "", 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("emulator", ["exuvia", "qemu"])
def test_the_timers_interrupt(emulator: str, processors: int, version: int, tmp_path: Path) -> None:
    """What native code does of it (docs/engine.md, the tick) is what the controller would do."""
    image = assemble("virt_tick", tmp_path, *(["V3"] if version == 3 else []))
    assert run(emulator, image, f"virt,gic-version={version}", processors) == ("abcdefgh", "", 0)
