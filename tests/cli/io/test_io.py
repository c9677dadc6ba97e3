"""exuvia-io prints what qemu-io prints, line by line, rates and the program's name aside."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.disk.format import Format
from exuvia.disk.graph import FORMATS

SIZE = 1 << 20
OURS = [sys.executable, "-m", "exuvia.cli.io.main"]

SCRIPTS = {
    "patterns": ["write -P 0x5a 0 64k", "read -P 0x5a 0 64k", "read -P 0x5b 0 64k", "read -P 0 64k 1k", "read -v 0 40", "read -v 65530 20"],
    "parts of patterns": ["write -P 1 0 512", "read -P 1 -s 10 -l 20 0 512", "read -P 2 -s 10 -l 20 0 512", "read -P 1 -s 500 -l 20 0 512"],
    "beyond the end": ["read 0 2M", "write 1M 512", "read 1048575 1", "readv 5G 512", "aio_read 5G 512", "aio_flush", "aio_write 5G 512"],
    "zeros": ["write -P 7 0 128k", "write -z 0 4k", "write -zu 64k 4k", "write -f 8k 512", "write -n 0 512", "read -P 0 0 4k",
        "read -P 7 4k 4k"],
    "vectors": ["writev -P 3 0 512 512 1k", "readv -P 3 0 512 512", "readv -v 0 16 16", "writev 0 0"],
    "asynchronous": ["aio_write -P 1 0 64k", "aio_flush", "aio_read -P 1 0 64k", "aio_flush", "aio_read -P 2 0 1k", "aio_flush",
        "aio_write -z 0 1k"],
    "sizes": ["length", "truncate 2M", "length", "write -P 1 2096640 512", "truncate 1M", "length", "truncate 1536000", "length"],
    "numbers": ["read 0x200 1k", "read 1.5k 512", "read foo 3", "read 0 1x", "read 0 9999999999999999999", "read 0 0", "write 0 3G",
        "sleep x"],
    "wrong counts": ["read 0", "alloc 0 3 4", "sleep", "length 3", "bogus", "read", "help a b"],
    "wrong options": ["read -1 3", "read -i 0 1", "write -z -P 3 0 1k", "write -u 0 1k", "write -P 0x101 0 512", "aio_write -z 0 1k 1k",
        "read -s 1 0 512"],
    "areas": ["write 128k 64k", "map", "alloc 0 1M", "alloc 64k", "alloc 5M", "alloc 128k 128k", "info"],
    "discard": ["write -P 1 0 256k", "discard 0 64k", "discard 0 foo", "read -P 1 64k 64k"],
    "opening": ["close", "read 0 512", "open {file}", "length", "open {file}", "close", "open -r {file}", "write 0 512", "open nothing"],
    "reopening": ["reopen -r", "write 0 512", "reopen -w", "write 0 512", "reopen -r -w"],
    "unsupported": ["read -b 0 512", "write -b 0 512", "write -c 0 512"],
    "sectors": ["write -b 1 512", "write -c 512 100", "write -b 0 100", "read -b 1 512", "read -b 0 100", "write -s nothing 0 1k",
        "help nonsense"],
    "quoting": ["'write' -P \"1\" 0 512", "read   -q 0  512", "", "quit", "read 0 512"],
    "quiet and machine": ["write -q 0 512", "read -q -P 0xcd 0 512", "writev -q 0 512", "discard -q 0 512", "aio_write -q 0 512", "flush"],
}  # fmt: skip

CLUSTERED = {  # on an image with a backing image
    "areas": ["map", "write 70k 1k", "map", "alloc 0 1M", "alloc 64k 128k", "read -P 3 300k 4k", "read -P 0 0 4k", "write -z 300k 1k",
        "read -P 0 300k 1k", "read -P 3 301k 1k", "map"],
    "state of a machine": ["write -b -P 5 0 64k", "read -b -P 5 0 64k", "read -b -P 6 0 512", "write -b -P 9 100k 3k", "length"],
    "compressed": ["write -c -P 4 64k 64k", "read -P 4 64k 64k", "write 70k 1k", "read -P 4 71k 1k", "write -c 0 1k", "map"],
    "discard": ["write -P 1 0 256k", "discard 64k 64k", "read -P 0 64k 64k", "map"],
    "info": ["info"],
}  # fmt: skip
NEEDS = {"state of a machine": "write_state", "info": "state_offset"}
OPENED = {"plain": [], "snapshot": ["-s"], "copy on read": ["-C"], "read-only": ["-r"]}
DEBUGGED = {
    "break": ["break bogus A", "break write_aio A", "aio_write 0 64k", "wait_break A", "resume B", "resume A", "aio_flush",
        "remove_break A"],
    "remove": ["break write_aio A", "remove_break A", "write 0 64k", "break read_aio B", "aio_read 0 1k", "wait_break B", "remove_break B",
        "aio_flush"],
    "errors": ["write 0 64k", "write 0 64k", "flush", "read 0 1k", "write 64k 1k", "read 64k 1k"],
    "help": ["break x", "help break", "help resume", "help wait_break", "help remove_break"],
}  # fmt: skip
RULES = """
[inject-error]
event = "write_aio"
errno = "28"
once = "on"

[set-state]
event = "flush_to_disk"
new_state = "2"

[inject-error]
event = "read_aio"
state = "2"
iotype = "read"
"""


def clean(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"ops; .*", "ops", text)
    return re.sub(r"\b(qemu|exuvia)-io\b", "io", text)


def play(program: list[str], file: Path, format: str, lines: list[str], *options: str, prefix: str = "") -> tuple[int, str, str]:
    """Status, output and errors of a script on an image."""
    commands = [word for line in lines for word in ("-c", line.format(file=file))]
    done = subprocess.run([*program, "-f", format, *options, *commands, f"{prefix}{file}"], capture_output=True, text=True, timeout=60)
    return done.returncode, clean(done.stdout), clean(done.stderr)


def image(path: Path, format: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), str(SIZE)], check=True)
    return path


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_like_qemu_io(name: str, tmp_path: Path) -> None:
    lines = SCRIPTS[name]
    file = image(tmp_path / "disk", "raw")
    want = play(["qemu-io"], file, "raw", lines)
    content = file.read_bytes()
    file.unlink()
    image(file, "raw")
    got = play(OURS, file, "raw", lines)
    assert got == want
    assert file.read_bytes() == content


needs_qcow2 = pytest.mark.skipif("qcow2" not in FORMATS, reason="there is no qcow2 yet")


def layered(folder: Path) -> Path:
    """A qcow2 image of 1 MiB on another, which has data and zeros."""
    base, top = folder / "base", folder / "disk"
    top.unlink(missing_ok=True)
    if not base.exists():
        image(base, "qcow2")
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 3 256k 100k", "-c", "write -z 640k 64k", str(base)], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(top)], check=True)
    return top


@needs_qcow2
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
@pytest.mark.parametrize("how", OPENED)
@pytest.mark.parametrize("name", CLUSTERED)
def test_clusters_like_qemu_io(name: str, how: str, tmp_path: Path) -> None:
    if name in NEEDS and getattr(FORMATS["qcow2"], NEEDS[name], None) is getattr(Format, NEEDS[name], None):
        pytest.skip("qcow2 does not keep the state of machines yet")
    want = play(["qemu-io"], layered(tmp_path), "qcow2", CLUSTERED[name], *OPENED[how])
    shutil.move(tmp_path / "disk", tmp_path / "theirs")
    got = play(OURS, layered(tmp_path), "qcow2", CLUSTERED[name], *OPENED[how])
    assert got == want
    subprocess.run(["qemu-img", "compare", "-q", "-s", str(tmp_path / "disk"), str(tmp_path / "theirs")], check=True)
    subprocess.run(["qemu-img", "check", "-q", str(tmp_path / "disk")], check=True)


@needs_qcow2
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
@pytest.mark.parametrize("name", DEBUGGED)
def test_blkdebug_like_qemu_io(name: str, tmp_path: Path) -> None:
    rules = ""
    if name == "errors":
        (tmp_path / "rules").write_text(RULES)
        rules = str(tmp_path / "rules")
    prefix = f"blkdebug:{rules}:"
    want = play(["qemu-io"], layered(tmp_path), "qcow2", DEBUGGED[name], prefix=prefix)
    assert play(OURS, layered(tmp_path), "qcow2", DEBUGGED[name], prefix=prefix) == want


def test_lines_from_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(SIZE))
    done = subprocess.run(
        [*OURS, "-f", "raw", str(file)], input="length\nwrite -P 9 0 1k\nquit\nlength\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert clean(done.stdout) == "io> 1 MiB\nio> wrote 1024/1024 bytes at offset 0\n1 KiB, 1 ops\nio> "
    assert file.read_bytes()[:1025] == b"\x09" * 1024 + b"\0"


@pytest.mark.parametrize("words", [["nothing"], ["-f", "bogus", "disk"], ["a", "b"], ["--image-opts", "-f", "raw", "disk"], ["--nonsense"]])
def test_wrong_use_is_one_line(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    done = subprocess.run([*OURS, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd())})
    assert done.returncode == 1
    assert done.stderr.startswith("exuvia-io: ")
    assert done.stderr.replace("Try 'exuvia-io --help' for more information\n", "").count("\n") == 1


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
@pytest.mark.parametrize("words", [["-t", "x"], ["-d", "x"], ["-i", "x"], ["-r", "nothing"], ["-f", "raw"]])
def test_standard_input_and_wrong_options(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    for text in ("length\nread -q 0 512", "\n", ""):
        said = []
        for program in (["qemu-io"], OURS):
            line = [*program, *words, *(["disk"] if words[-1] != "nothing" else [])]
            environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
            done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment)
            said.append((done.returncode, clean(done.stdout), clean(done.stderr)))
        assert said[0] == said[1]
