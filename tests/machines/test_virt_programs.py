"""Programs on a whole virt: processors that are switched on and off, and a machine that ends while all of them run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = "aarch64-linux-gnu-"
PROGRAM = "import sys; from exuvia.cli.system import aarch64; sys.exit(aarch64())"
LONGEST = 200.0  # seconds, on a busy host

pytestmark = pytest.mark.skipif(shutil.which(f"{TOOLS}as") is None, reason="no assembler for AArch64")


def assemble(name: str, folder: Path) -> Path:
    """A program of `programs/` as a Linux Image."""
    target = folder / name
    subprocess.run([f"{TOOLS}as", "-o", f"{target}.o", str(Path(__file__).parent / "programs" / f"{name}.S")], check=True)
    subprocess.run([f"{TOOLS}ld", "-Ttext=0", "-o", f"{target}.elf", f"{target}.o"], check=True)
    subprocess.run([f"{TOOLS}objcopy", "-O", "binary", f"{target}.elf", str(target)], check=True)
    return target


@pytest.mark.timeout(240)
@pytest.mark.parametrize("emulator", ["exuvia", "qemu"])
def test_power(emulator: str, tmp_path: Path) -> None:
    own = [sys.executable, "-c", PROGRAM]
    if emulator == "qemu" and shutil.which("qemu-system-aarch64") is None:
        pytest.skip("QEMU is not installed")
    options = "-M virt -cpu cortex-a53 -smp 4 -m 64 -display none -monitor none -serial stdio".split()
    words = [*(own if emulator == "exuvia" else ["qemu-system-aarch64"]), *options, "-kernel", str(assemble("virt_power", tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LONGEST, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("oook", "", 0)
