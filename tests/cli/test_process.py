"""The process as -pidfile, -name process= and -msg have it."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.cli.process import Dated, numbered
from exuvia.support.errors import UserError
from tests.cli.booting import until


def test_the_number_is_there_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with numbered(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()
    with numbered(str(path)):
        path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with numbered(str(path)):
        assert os.read(reader, 100) == f"{os.getpid()}\n".encode()
    os.close(reader)
    assert path.exists(), "no file of ours"
    with numbered(None):
        pass
    with pytest.raises(UserError, match=f"-pidfile {tmp_path}: Is a directory"), numbered(str(tmp_path)):
        pass


def test_lines_with_the_time() -> None:
    stream = io.StringIO()
    dated = Dated(stream)
    assert dated.write("one\ntw") == 6
    print("o", file=dated)
    dated.flush()
    assert re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z )one\n(\d{4}-\S+Z )two\n", stream.getvalue())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_name() -> None:
    program = "from exuvia.cli.process import call_it; call_it('a-name-of-20-letters'); print(open('/proc/self/comm').read())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "a-name-of-20-le"


BACKGROUND = """
import os, sys, time
from exuvia.cli.process import in_background
begun = in_background()
print("told", flush=True)
if sys.argv[1] == "ends":
    sys.exit("because")
begun()
print("lost", flush=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {os.getsid(0)}")
"""


def test_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "said"
    result = subprocess.run([sys.executable, "-c", BACKGROUND, str(path)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "told\n")
    assert until(lambda: path.exists() and path.read_text(), 30)
    process, session = path.read_text().split()
    assert process == session
    result = subprocess.run([sys.executable, "-c", BACKGROUND, "ends"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (1, "because\n")


def test_messages_of_a_command_have_the_time(tmp_path: Path) -> None:
    program = "from exuvia.cli.system import x86_64; import sys; sys.argv[0] = 'exuvia-system-x86_64'; x86_64()"
    words = ["-msg", "timestamp=on", "-kernel", str(tmp_path / "none"), "-pidfile", str(tmp_path / "pid")]
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z exuvia-system-x86_64: -kernel \S+: No such file or directory\n", result.stderr)
    assert not (tmp_path / "pid").exists()
