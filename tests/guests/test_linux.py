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
    ("name", "machine"),
    [
        ("alpine", "x86_64"),
        pytest.param("debian-amd64", "x86_64", marks=pytest.mark.soak),
        pytest.param("debian-i386", "i686", marks=pytest.mark.soak),
    ],
)
def test_a_command_in_a_real_system(name: str, machine: str) -> None:
    try:
        cache.fetch(guest(name), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    words = [sys.executable, "-m", "exuvia", "run", name, "--exec", COMMAND]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=500, check=False)
    expected = [machine, f"{hashlib.sha256(b'exuvia').hexdigest()}  -", "1"]
    assert done.stdout.split("\n")[:3] == expected, done.stdout + done.stderr
    assert done.returncode == 5, done.stderr
