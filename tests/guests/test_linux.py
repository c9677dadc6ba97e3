"""Real systems on our machine: a shell, a command, its output and status, power-off."""

from __future__ import annotations

import hashlib
import subprocess
import sys

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
