"""Host instructions that stand for functions compute what the functions' texts say."""

from __future__ import annotations

from random import Random

import pytest

from exuvia.codegen.instructions import INSTRUCTIONS, host_instruction
from exuvia.dsl.trace import FUNCTIONS, Function
from exuvia.isa.x86 import load
from exuvia.vcpu.evaluate import call
from tests.dsl.compiled import compiled

load()


@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_instruction_agrees_with_the_text(name: str) -> None:
    if host_instruction(name) is None:
        pytest.skip("this host has no such instruction")
    f = FUNCTIONS[name]
    wrapped = Function(f"call_of_{name}", f, f.widths, f.returns)
    native = compiled([wrapped])[wrapped.name]
    random = Random(name)
    for _ in range(50):
        args = [random.getrandbits(w) & random.choice((-1, 0xFFFF_FFFF)) for w in f.widths]
        assert native(*args) == call(f.trace, None, args)  # type: ignore[arg-type]
