"""Host instructions of regions, told apart by the guest instructions that they were made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.codegen.lines import guest_lines, lines_of, located
from exuvia.codegen.store import Store
from exuvia.vcpu.hostcode import disassemble
from tests.codegen.native import NativeMachine
from tests.codegen.test_blocks import registers
from tests.oracle.case import CODE, WINDOW, Case

# two blocks: add rax, [rbx]; dec rcx; jz +5; imul rdx, rax; jmp -14; int3
CODE_BYTES = bytes.fromhex("48 03 03 48 FF C9 74 06 48 0F AF D0 EB F2 CC")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("lines", tmp_path_factory.mktemp("store")))
    yield machine
    machine.close()


def test_each_instruction_has_its_own(native: NativeMachine, tmp_path: Path) -> None:
    case = Case(CODE_BYTES, gprs=registers(rcx=5, rbx=WINDOW))
    native.run(case)
    native.put(case)
    for offset in (0, 8):
        native.vcpu.pc = CODE + offset
        assert native.engine.block(native.at)
    native.vcpu.pc = CODE
    wanted = native.engine.hot.grow(native.engine.block(native.at))
    assert wanted is not None and len(wanted.blocks) == 2
    made = wanted.make(native.engine.form, native.architecture)
    host = disassemble(made.code)
    assert host is not None
    names = [line.text.split()[0] for line in host]
    lines = guest_lines(wanted, made.entries, native.engine.form, native.architecture, made.code, names)
    assert lines is not None and len(lines) == len(host)
    first = CODE % 4096
    places = {line.place - first for line in lines if line}
    assert {0, 8} <= places <= {0, 3, 6, 8, 12} and places & {3, 6}  # dec and jz are one for the host
    (multiply,) = [line for line, name in zip(lines, names, strict=True) if name == "imul"]
    assert multiply and multiply.place == first + 8 and not multiply.cold
    # a region that is another is not taken for this one
    assert guest_lines(wanted, made.entries, native.engine.form, native.architecture, b"\x90" + made.code, names) is None


def test_assembly() -> None:
    text = "region:\n\t.loc\t1 5 0 \n\tmovq\t%rax, %rbx\n.LBB0_1:\n\t.p2align\t4\n\t# %bb.1\n\t.loc\t1 0 0\n\tret\n.Lfunc_end0:\n"
    assert lines_of(text) == [("movq", 5), ("ret", 0)]


def test_locations() -> None:
    text = located("define void @f() nounwind {\nentry:\n; line 7\n  br label %x, !prof !0\nx:\n  ret void\n}\n")
    assert "  br label %x, !prof !0, !dbg !100011\n" in text
    assert "!100011 = !DILocation(line: 7, scope: !100003)" in text
