"""What generated code is kept under: the host's processor, as the system tells it."""

import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.codegen import host

INFO = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Some Processor
cpu MHz\t\t: {mhz}
flags\t\t: fpu vme {flag}
bugs\t\t: spectre_v1
"""


def identity(monkeypatch: pytest.MonkeyPatch, *processors: str) -> str:
    with monkeypatch.context() as m:
        m.setattr(Path, "read_text", lambda path: "\n".join(processors))
        return host.identity()


def test_the_processor_counts_and_not_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    one = identity(monkeypatch, INFO.format(number=0, mhz=2000, flag="avx"), INFO.format(number=1, mhz=2100, flag="avx"))
    assert identity(monkeypatch, INFO.format(number=0, mhz=800, flag="avx")) == one
    assert identity(monkeypatch, INFO.format(number=0, mhz=2000, flag="avx2")) != one
    different = INFO.format(number=0, mhz=2000, flag="avx"), INFO.format(number=1, mhz=2100, flag="avx2")
    assert identity(monkeypatch, *different) not in (one, identity(monkeypatch, different[1]))


def test_llvm_is_asked_where_the_system_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite.binding as llvm

    assert llvm.get_host_cpu_name() in identity(monkeypatch, "processor : 0")


def test_llvm_is_not_loaded_for_it() -> None:
    if not host.lines():
        pytest.skip("the system does not say what processor it has")
    program = "import sys; from exuvia.codegen import host; host.identity(); print('llvmlite.binding' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
