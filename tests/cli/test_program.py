"""How every command ends: a failure of the host's that nobody thought of is one line too."""

import errno
import os
import subprocess
import sys
from pathlib import Path

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


COMMANDS = ["main", "img.main", "io.main", "nbd.main"]


def command(module: str, words: list[str], redirection: str) -> subprocess.CompletedProcess[str]:
    code = f"from exuvia.cli.{module} import main; main()"
    line = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("module", COMMANDS)
def test_a_full_disk_under_standard_output_is_told_of_it(module: str) -> None:
    done = command(module, ["--help"], ">/dev/full")
    name = {"main": "exuvia"}.get(module, f"exuvia-{module.partition('.')[0]}")
    assert (done.stderr, done.returncode) == (f"{name}: standard output: {os.strerror(errno.ENOSPC)}\n", 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("module", "words", "status"),
    [("img.main", "info", 1), ("img.main", "map", 1), ("img.main", "check", 1), ("img.main", "compare disk", 2), ("io.main", "-c map", 1)],
)
def test_an_image_is_not_blamed_for_standard_output(tmp_path: Path, module: str, words: str, status: int) -> None:
    assert command("img.main", ["create", "-q", "-f", "qcow2", f"{tmp_path}/disk", "1M"], "").returncode == 0
    given = [word.replace("disk", f"{tmp_path}/disk") for word in words.split()]
    done = command(module, [*given, f"{tmp_path}/disk"], ">/dev/full")
    name = f"exuvia-{module.partition('.')[0]}"
    assert (done.stderr, done.returncode) == (f"{name}: standard output: {os.strerror(errno.ENOSPC)}\n", status)


@pytest.mark.parametrize("module", COMMANDS)
def test_closed_standard_output_is_harmless(module: str) -> None:
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = command(module, ["--help"], closed)
        assert (done.stderr, done.returncode) == ("", 0)
