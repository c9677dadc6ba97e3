"""Bare-metal loops: each does as many instructions as it says, by QEMU's trace of each, and ends both emulators."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import loops
from benchmarks.bare import EMPTY, FAMILIES, SOURCES, Variant, assemble, options, run
from benchmarks.measure import ALIKE, Failure, emulators
from exuvia.cli.launch import launch
from exuvia.cli.system import parse

ROUNDS = 1000
"""Of a loop at scale 0."""
BESIDE = 100
"""A loop's instructions before and behind its rounds, at the most."""
CROSS = [target for target in FAMILIES if target != "x86_64"]


def variant_or_skip(target: str) -> Variant:
    if missing := FAMILIES[target].missing():
        pytest.skip(f"{', '.join(missing)} not found")
    return Variant(target)


@pytest.mark.parametrize("target", CROSS)
def test_a_loop_ends_the_machine(target: str, tmp_path: Path) -> None:
    variant = variant_or_skip(target)
    for name in (EMPTY, *variant.family.loops):
        kernel, output = assemble(name, variant, 0, tmp_path), tmp_path / "console"
        draft = parse("exuvia", target, [*ALIKE[target], *options(variant.family, kernel, output)])
        assert launch("exuvia", draft.config()) == variant.family.status, name
        assert (int(output.read_text(), 16) >= 6 * ROUNDS) == (name != EMPTY), name


@pytest.mark.parametrize("target", CROSS)
def test_a_loop_counts_its_instructions(target: str, tmp_path: Path) -> None:
    variant = variant_or_skip(target)
    if (qemu := emulators(target).get("qemu")) is None:
        pytest.skip(f"qemu-system-{target} is not installed")
    trace = tmp_path / "trace"
    qemu += ["-singlestep", "-d", "exec,nochain", "-D", str(trace)]
    around = 0
    for name in (EMPTY, *variant.family.loops):
        told, _ = run(qemu, variant.family, assemble(name, variant, 0, tmp_path))
        did = trace.read_text().count("Trace ")
        if name == EMPTY:
            around = did
        assert abs(did - around - told) <= BESIDE, name


def test_every_file_is_there_and_used() -> None:
    for family in FAMILIES.values():
        found = {path.stem for path in (SOURCES / family.folder).glob("*.S")} - {"processors"}
        assert found == {EMPTY, *family.loops}


def test_a_loop_that_prints_no_number_is_a_failure(tmp_path: Path) -> None:
    program = f"import pathlib; pathlib.Path({str(tmp_path / 'loop.console')!r}).write_text('oops')"
    with pytest.raises(Failure, match="printed 'oops'"):
        run([sys.executable, "-c", program], FAMILIES["aarch64"], tmp_path / "loop.elf")


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert loops.main(["--target", "mipsel"]) == 1
    told = capsys.readouterr().err
    assert told == "loops: mipsel-linux-gnu-as, mipsel-linux-gnu-ld not found; install binutils-mipsel-linux-gnu\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [("--target mipsel --loop x87", "mipsel has alu memory"), ("--scale 0", "1 to 200"), ("--scale 201", "1 to 200")],
)
def test_mistakes(arguments: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loops.main(arguments.split())
    assert told in capsys.readouterr().err.replace(",", "")


def test_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Starting and stopping is subtracted; rows have the target's name, those of x86 the width of the code."""
    costs = {"empty": {"ours": 1.0, "theirs": 0.5}, "alu": {"ours": 1.5, "theirs": 2.5}}
    monkeypatch.setattr(loops, "emulators", lambda target: {"exuvia": ["ours"], "qemu": ["theirs"]})
    monkeypatch.setattr(loops, "assemble", lambda name, variant, scale, folder: Path(name))
    monkeypatch.setattr(loops, "run", lambda start, family, kernel: (10**9, costs[kernel.name][start[0]]))
    monkeypatch.setattr("benchmarks.bare.Family.missing", lambda family: [])
    assert loops.main(["--target", "x86_64", "aarch64", "--loop", "alu", "--rounds", "2", "--output", str(tmp_path)]) == 0
    speeds = {"exuvia": 2000.0, "qemu": 500.0}
    assert json.loads((tmp_path / "loops.json").read_text())["mips"] == {"alu 64": speeds, "alu aarch64": speeds}
    assert "alu aarch64          exuvia 2000  qemu 500  4.00 times QEMU" in capsys.readouterr().out
