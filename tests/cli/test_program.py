"""How every command ends: a failure of the host's that nobody thought of is one line too."""

import errno
import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
from exuvia.cli.program import Wrong, start
def run(words):
    raise {}
start("exuvia-x", run)
"""


@pytest.mark.parametrize(
    ("failure", "text", "status"),
    [
        (f"OSError({errno.ENOSPC}, os.strerror({errno.ENOSPC}), 'disk.img')", f"exuvia-x: disk.img: {os.strerror(errno.ENOSPC)}\n", 1),
        (f"OSError({errno.EIO}, os.strerror({errno.EIO}))", f"exuvia-x: {os.strerror(errno.EIO)}\n", 1),
        ("OSError('strange')", "exuvia-x: strange\n", 1),
        ("Wrong('no such option')", "exuvia-x: no such option\nTry 'exuvia-x --help' for more information\n", 1),
        ("BrokenPipeError()", "", 141),
        ("KeyboardInterrupt()", "", 130),
    ],
)
def test_endings(failure: str, text: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(failure)], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == (text, status)
