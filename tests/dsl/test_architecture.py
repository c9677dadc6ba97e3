"""A slot means the same instruction in every process, in whatever order its chapters were imported: workers compile by its number."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, importlib, sys

name, backwards = sys.argv[1:]
chapters = importlib.import_module(f"exuvia.isa.{name}").CHAPTERS
if backwards == "True":
    for chapter in reversed(chapters):
        importlib.import_module(f"exuvia.isa.{name}.{chapter}")
tables = importlib.import_module(f"exuvia.isa.{name}.architecture").architecture().tables(0, None)
for row, variant in tables.rows:
    facts = {key: value for key, value in row.facts.items() if not callable(value)}
    print(row.name, row.text, variant, row.run.__code__.co_filename, row.run.__code__.co_firstlineno, facts)
print(hashlib.sha256(tables.blob).hexdigest())
"""


@pytest.mark.parametrize("name", ["x86", "aarch64", "mips"])
def test_slots_are_numbered_alike(name: str) -> None:
    told = [subprocess.check_output([sys.executable, "-c", PROGRAM, name, str(back)], text=True).splitlines() for back in (False, True)]
    assert len(told[0]) > 300
    assert told[0] == told[1]
