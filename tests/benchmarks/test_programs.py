"""The report of benchmarks/programs.py, with a terminal that answers by itself."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import programs
from benchmarks.measure import Cost, Failure
from benchmarks.workload import PROGRAMS, SOURCES, Guests, Program

ADD = Program("add", "alpine", "integer", "echo 3")
TAKE = Program("take", "alpine", "integer", "echo 1")


class Answers:
    """A Run that costs and prints what it is told."""

    def __init__(self, **answers: tuple[float, str] | None) -> None:
        self.answers = answers

    def program(self, name: str) -> tuple[Cost, str]:
        answer = self.answers[name]
        if answer is None:
            raise Failure(f"{name} ended with 1")
        return Cost(answer[0], 1, 1 << 20), answer[1]


def bench(**emulators: Answers) -> programs.Programs:
    guests = cast(Guests, SimpleNamespace(versions={}))
    runs = programs.Programs({name: [] for name in emulators}, guests, [ADD, TAKE])
    running = cast("dict[str, programs.Run]", dict(emulators))
    for program in (ADD, TAKE):
        for emulator in emulators:
            if emulator in running:
                runs.one(running, emulator, emulator, program.name)
    return runs


def test_the_report_has_ratios_and_their_geometric_mean(tmp_path: Path) -> None:
    runs = bench(exuvia=Answers(add=(2.0, "3"), take=(1.0, "1")), qemu=Answers(add=(1.0, "3"), take=(8.0, "1")))
    runs.report(tmp_path)
    assert runs.failed == 0
    told = json.loads((tmp_path / "programs.json").read_text())
    assert told["ratios"]["exuvia"] == {"add": 0.5, "take": 8.0}
    assert told["means"] == {"integer": {"exuvia": 2.0}}
    assert "take" in (tmp_path / "programs.svg").read_text()


def test_a_different_answer_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    runs = bench(exuvia=Answers(add=(2.0, "3"), take=(1.0, "2")), qemu=Answers(add=(1.0, "3"), take=(8.0, "1")))
    assert runs.failed == 1
    assert "qemu: take printed '1', and before '2'" in capsys.readouterr().err


def test_a_machine_in_which_a_program_failed_is_not_asked_again(tmp_path: Path) -> None:
    runs = bench(exuvia=Answers(add=None), qemu=Answers(add=(1.0, "3"), take=(8.0, "1")))
    runs.report(tmp_path)
    assert runs.failed == 1
    assert json.loads((tmp_path / "programs.json").read_text())["cpu"] == {"add": {"qemu": 1.0}, "take": {"qemu": 8.0}}


def test_every_file_is_there_and_used() -> None:
    scripts = " ".join(program.script for program in PROGRAMS)
    for source in SOURCES.iterdir():
        assert f"/bench/{source.stem if source.suffix == '.c' else source.name}" in scripts
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS)
