"""Small guests in which every block is copied when it runs for the second time, and whose block cache is full again and again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.codegen.test_cutting import on_x86
from tests.guests.console import PASS, assemble, expected, names, run

USUAL = {"smp_code"}  # rewrites its code while several processors run it
EAGER = """
import atexit, sys
from pathlib import Path
from exuvia.cli.system import x86_64
from exuvia.codegen import engine
from exuvia.codegen.copies import Copies
from exuvia.codegen.hot import Hot
from exuvia.codegen.runtime import control

control.SAMPLE = 1
engine.ARENA_SIZE = 512 << 10
Hot.sampled = lambda *_: None
begin = Copies.begin

def begin_at_once(self):
    self.ask = lambda forms: self.finished(forms, forms.make(self.engine.form, self.engine.architecture))
    begin(self)
    atexit.register(lambda: told.write_text(str(self.used)))

Copies.begin = begin_at_once
told = Path(sys.argv.pop(1))
sys.exit(x86_64())
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of its own: the core is another."""
    return tmp_path_factory.mktemp("cache")


@on_x86
@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="binutils (as, ld) is not installed")
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in USUAL else pytest.mark.soak) for name in names()])
def test_guest(name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    told = tmp_path / "copied"
    text, status = run([sys.executable, "-c", EAGER, str(told)], assemble(name, tmp_path), name, 120)
    assert text == expected(name)
    assert status == PASS
    assert int(told.read_text()) > 10_000
