"""`exuvia profile`: the examples of docs/profile.md on a real guest, and mistakes."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.cli import profile
from exuvia.cli.main import run
from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.support.errors import UserError

TEXT = (Path(__file__).parents[2] / "docs" / "profile.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SHARES = re.findall(r"^\| ([a-z ,A-Z]+) \|", TEXT, re.MULTILINE)[1:]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which the page's commands are this checkout's. Skips where Alpine cannot be had."""
    try:
        cache.fetch(guest("alpine"), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    for name, function in {"exuvia": "cli.main import main", "exuvia-system-x86_64": "cli.system import x86_64 as main"}.items():
        script = tmp_path / name
        script.write_text(f"#!{sys.executable} -P\nimport sys; sys.path.insert(0, {str(ROOT)!r})\nfrom exuvia.{function}\nmain()\n")
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def output(example: str, shell: dict[str, str], folder: Path) -> str:
    found = subprocess.run(["sh", "-euc", example], cwd=folder, env=shell, capture_output=True, text=True, timeout=280, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def shares(text: str) -> dict[str, float]:
    """The first table of a report."""
    return {name: float(share) for share, name in re.findall(r"^ *(\d+\.\d)% +\d+\.\d\d  (.+)$", text, re.MULTILINE)}


def test_the_first_example(shell: dict[str, str], tmp_path: Path) -> None:
    text = output(EXAMPLES[0], shell, tmp_path)
    assert re.match(r"[0-9a-f]{64}  -\n", text), "the command's own output comes first"
    found = shares(text)
    assert set(found) <= set(SHARES) and sum(found.values()) == pytest.approx(100, abs=1)
    ran = sum(found.get(name, 0) for name in ("regions", "interpreter", "copied blocks"))
    assert found["regions"] > 0 and ran > (100 - found.get("compiling handlers", 0)) / 2
    assert re.search(r"^ +\d\.\d+ +[\d,]+ +[\d,]+  apic0 eoi$", text, re.MULTILINE)
    assert re.search(r"^exits: .*\bpio_in [\d,]+", text, re.MULTILINE)
    assert re.search(r"^regions: \d+ made in \d+\.\d s by workers", text, re.MULTILINE)
    assert re.search(r"^1\. \d+\.\d%  0x[0-9a-f]{16} \(", text, re.MULTILINE)
    assert re.search(r"^    0x[0-9a-f]{16}: [a-z]", text, re.MULTILINE)


def test_names_of_the_kernel(shell: dict[str, str], tmp_path: Path) -> None:
    text = output(EXAMPLES[1], shell, tmp_path)
    assert (tmp_path / "kernel.map").read_text().count("\n") > 10000
    hot = re.findall(r"^\d\. \d+\.\d%  0x([0-9a-f]{16}) (\S+\+0x[0-9a-f]+)? ?\((?:region|block)", text, re.MULTILINE)
    assert len(hot) == 3
    assert all(name for address, name in hot if address.startswith("ffffffff8"))


def test_some_seconds_of_a_boot_with_d_hot(shell: dict[str, str], tmp_path: Path) -> None:
    """The third example, with the files of Alpine and an end, and the one in the text with --seconds."""
    files = cache.find(guest("alpine"))
    assert files is not None
    words = shlex.split(EXAMPLES[2])
    words[words.index("bzImage")], words[words.index("initrd.gz")] = str(files["kernel"]), str(files["initrd"])
    subprocess.run(
        ["timeout", "-s", "INT", "12", *words],
        cwd=tmp_path,
        env=shell,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = (tmp_path / "hot.log").read_text().splitlines()
    assert any(re.match(r"hot: (made|found) at 0x[0-9a-f]+: \d+ blocks, \d+ instructions", line) for line in lines)
    assert "`exuvia profile alpine --seconds 5`" in TEXT
    text = output("exuvia profile alpine --seconds 5 </dev/null", shell, tmp_path)
    assert re.search(r"\d +serial0 ier$", text, re.M) and shares(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("alpine --skip-boot", "--skip-boot needs --exec CMD"),
        ("alpine --seconds 0", "--seconds 0: give more than 0"),
        ("alpine --top -1", "--top -1: give 0 or more"),
        ("alpine --symbols /nowhere", "--symbols /nowhere: No such file"),
        ("", "needs either the name of a guest or --kernel FILE"),
    ],
)
def test_mistakes(words: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run(["profile", *words.split()])


def test_an_empty_run_says_so() -> None:
    from collections import Counter
    from types import SimpleNamespace

    from exuvia.vcpu.symbols import Symbols

    parser = argparse.ArgumentParser()
    profile.arguments(parser)
    nothing = SimpleNamespace(shares=Counter[str]())
    assert list(profile.report(nothing, Symbols(), 5, 5)) == ["profile: no samples: the guest ran for too short a time"]  # type: ignore[arg-type]
