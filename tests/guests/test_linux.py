"""Real systems on our machine: a shell, a command, its output and status, power-off."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

COMMAND = "uname -m; printf exuvia | sha256sum; grep -c ^processor /proc/cpuinfo; exit 5"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "machine", "processors"),
    [
        ("alpine", "x86_64", 1),
        ("alpine", "x86_64", 2),
        pytest.param("alpine", "x86_64", 4, marks=pytest.mark.soak),
        pytest.param("debian-amd64", "x86_64", 1, marks=pytest.mark.soak),
        pytest.param("debian-amd64", "x86_64", 2, marks=pytest.mark.soak),
        pytest.param("debian-i386", "i686", 1, marks=pytest.mark.soak),
        pytest.param("debian-mipsel", "mips", 1, marks=pytest.mark.soak),
    ],
)
def test_a_command_in_a_real_system(name: str, machine: str, processors: int) -> None:
    try:
        cache.fetch(guest(name), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    words = [sys.executable, "-m", "exuvia", "run", name, "--smp", str(processors), "--exec", COMMAND]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=500, check=False)
    expected = [machine, f"{hashlib.sha256(b'exuvia').hexdigest()}  -", str(processors)]
    assert done.stdout.split("\n")[:3] == expected, done.stdout + done.stderr
    assert done.returncode == 5, done.stderr


AVX = """base64 -d >/tmp/ymm <<END
{program}
END
chmod +x /tmp/ymm; grep -o -w -E 'avx|avx2|fma|f16c|vaes' /proc/cpuinfo | sort -u | tr '\\n' ' '
for i in 1 2 3; do /tmp/ymm & all="$all $!"; done
for i in $all; do wait $i || exit 1; done
exit 7"""


@pytest.mark.timeout(600)
@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="binutils (as, ld) is not installed")
def test_ymm_registers_of_processes(tmp_path: Path) -> None:
    """The system finds AVX, and keeps each process's registers for it while others run."""
    try:
        cache.fetch(guest("alpine"), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    program = tmp_path / "ymm"
    subprocess.run(["as", "--64", "-o", f"{program}.o", str(Path(__file__).with_name("ymm.S"))], check=True)
    subprocess.run(["ld", "-s", "-n", "-o", str(program), f"{program}.o"], check=True)
    command = AVX.format(program=base64.encodebytes(program.read_bytes()).decode())
    words = [sys.executable, "-m", "exuvia", "run", "alpine", "--cpu", "max", "--exec", command]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=500, check=False)
    assert done.stdout.split() == ["avx", "avx2", "f16c", "fma", "vaes"], done.stdout + done.stderr
    assert done.returncode == 7, done.stderr
