"""What a command imports when it starts: half of what a short one takes is that."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SLOW = {
    "asyncio",
    "concurrent.futures",
    "contextlib",
    "dataclasses",
    "enum",
    "hashlib",
    "inspect",
    "json",
    "re",
    "threading",
    "typing",
    "uuid",
}
CODE = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
before = set(sys.modules)
from exuvia.cli.img.main import run
status = run(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize(
    "words",
    [
        "info disk.qcow2",
        "info disk.raw",
        "check disk.qcow2",
        "check -f qcow2 disk.qcow2",
        "map disk.qcow2",
        "map -f qcow2 --output=json disk.qcow2",
    ],
)
def test_short_commands_import_little(words: str, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    command = [sys.executable, "-S", "-c", CODE, str(ROOT)]  # -S: what site packages import is not ours
    subprocess.run([*command, "create", "-q", "-f", "qcow2", "disk.qcow2", "1048576"], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run([*command, *words.split()], cwd=tmp_path, check=True, capture_output=True, text=True)
    imported = set(done.stderr.splitlines()[-1].split())
    assert "exuvia.disk.graph" in imported
    assert not imported & SLOW
    assert "exuvia.disk.formats.vmdk.vmdk" not in imported or "-f" not in words.split()


def test_measuring_imports_no_typing(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    command = [sys.executable, "-S", "-c", CODE, str(ROOT), "measure", "-f", "raw", "-O", "qcow2", "disk.raw"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not set(done.stderr.splitlines()[-1].split()) & (SLOW - {"contextlib"})


def test_exercising_an_image_imports_little(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    code = CODE.replace("cli.img", "cli.io")
    command = [sys.executable, "-S", "-c", code, str(ROOT), "-f", "raw", "-c", "write 0 512", "-c", "read -P 0xcd 0 512", "disk.raw"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not set(done.stderr.splitlines()[-1].split()) & (SLOW - {"threading"} | {"getopt", "gettext"})


def test_serving_imports_no_tls_where_nobody_asks_for_it(tmp_path: Path) -> None:
    code = CODE.replace("cli.img.main", "cli.nbd.main").replace("status = run(sys.argv[1:])", "import exuvia.cli.nbd.serve; status = 0")
    done = subprocess.run([sys.executable, "-S", "-c", code, str(ROOT)], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not set(done.stderr.splitlines()[-1].split()) & {"ssl", "inspect", "concurrent.futures", "urllib.parse", "getopt", "json"}
