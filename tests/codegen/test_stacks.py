"""Sequences of x87 instructions as compiled regions, as tests/codegen/test_regions.py has others; and what they leave for later: the
rounding that the last instruction did, registers that were popped, exceptions that the host knows of."""

from __future__ import annotations

import struct
from random import Random

import pytest

from exuvia.isa.x86.concrete import Processor
from tests.codegen.native import PLAIN
from tests.codegen.stacks import floats
from tests.codegen.test_regions import Bench, Tried, bench, both, compare_with_the_host, host, templates
from tests.oracle.case import WINDOW, WINDOW_SIZE, Case
from tests.oracle.hostcpu import HostCpu

__all__ = ["bench", "host"]


@pytest.mark.parametrize(("kind", "many"), [("64", 60), ("32", 20), ("32/32", 10)])
def test_regions_and_the_interpreter_agree(bench: Bench, kind: str, many: int) -> None:
    agree(bench, kind, range(many))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["64", "32", "16/16", "32/32"])
def test_regions_and_the_interpreter_agree_at_length(bench: Bench, kind: str) -> None:
    first = Random().randrange(1 << 32)
    agree(bench, kind, range(first, first + 800))


def agree(bench: Bench, kind: str, seeds: range) -> None:
    bench.native.become(PLAIN)
    mode, bench.template = templates(bench, kind)
    wrong: list[str] = []
    count, before = 0, bench.hot.installed
    for seed in seeds:
        random = Random(seed)
        t = Tried(bench, random, floats(random, mode, random.random() < 0.3), mode, 2)
        wrong += [f"seed {seed}: {w}" for w in t.wrong]
        count += t.count
    assert not wrong, "\n".join([f"{len(wrong)} of {count} differ", *wrong[:12]])
    assert bench.hot.installed - before > len(seeds) // 2


def test_regions_agree_with_the_host(bench: Bench, host: HostCpu) -> None:
    compare_with_the_host(bench, host, range(100), False, floats, 1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_regions_agree_with_the_host_at_length(bench: Bench, host: HostCpu) -> None:
    first = Random().randrange(1 << 32)
    compare_with_the_host(bench, host, range(first, first + 1500), False, floats, 1)


# -- what is put off. RBX is the window's address, where 1.0 and 3.0 stand; 1/3 is rounded up
THIRD = "DBE3 DD03 DD4308 DEF9"  # fninit; fld qword [rbx]; fld qword [rbx+8]; fdivp
FAULT = "8B01"  # mov eax, [rcx], where nothing is
C1, IE, PE = 0x200, 1, 0x20


def ran(bench: Bench, code: str, words: dict[int, int] | None = None) -> Processor:
    """The processor after a piece of code, on which the interpreter and a region agree; `words` of 16 bits stand in the window."""
    memory = bytearray(WINDOW_SIZE)
    struct.pack_into("<dd", memory, 0, 1.0, 3.0)
    for at, word in (words or {}).items():
        struct.pack_into("<H", memory, at, word)
    both(bench, Case(bytes.fromhex(code), gprs=[0, 0, 0, WINDOW, WINDOW + 0x800, *[0] * 11], memory=bytes(memory)))
    return bench.cpu


def test_a_fault_sees_how_the_last_instruction_rounded(bench: Bench) -> None:
    cpu = ran(bench, THIRD + FAULT)
    assert cpu.vector == 14 and cpu.status_word & 0x3F == PE and cpu.status_word & C1
    cpu = ran(bench, THIRD + "D9E1" + FAULT)  # fabs clears C1
    assert cpu.status_word & 0x3F == PE and not cpu.status_word & C1


def test_rounding_is_told_under_the_control_word_that_was(bench: Bench) -> None:
    """FLDCW rounds down, FNSTSW asks: rounded down it would not be up."""
    cpu = ran(bench, THIRD + "D96B20 DFE0" + FAULT, {32: 0x77F})
    assert cpu.gpr[0] & (C1 | PE) == C1 | PE and cpu.fcw == 0x77F


def test_rounding_of_an_operand_that_is_no_longer_in_memory(bench: Bench) -> None:
    """fninit; fld qword [rbx]; fdiv qword [rbx+8]; mov dword [rbx+12], eax"""
    cpu = ran(bench, "DBE3 DD03 DC7308 89430C" + FAULT)
    assert cpu.status_word & C1


def test_exceptions_that_are_unmasked_later_are_reported(bench: Bench) -> None:
    """FLDCW unmasks PE after an inexact division: the next instruction that waits is not done."""
    cpu = ran(bench, THIRD + "D96B20 D9E8" + FAULT, {32: 0x35F})
    assert cpu.vector == 16 and cpu.status_word & 0x80A0 == 0x80A0


def test_exceptions_that_were_cleared_stay_away(bench: Bench) -> None:
    """fnclex; fld1; fld1; faddp; fnstsw ax"""
    cpu = ran(bench, THIRD + "DBE2 D9E8 D9E8 DEC1 DFE0" + FAULT)
    assert cpu.gpr[0] & 0x3F == 0 == cpu.status_word & 0x3F


def test_what_is_put_off_does_not_raise_again_what_was_cleared(bench: Bench) -> None:
    """fnclex: C1 stays."""
    cpu = ran(bench, THIRD + "DBE2" + FAULT)
    assert cpu.status_word & C1 and not cpu.status_word & 0x3F


def test_what_was_popped_is_still_there(bench: Bench) -> None:
    """fninit; fldpi; fld1; faddp; fstp st(0): numbers 7 and 6, whose registers nobody uses."""
    cpu = ran(bench, "DBE3 D9EB D9E8 DEC1 DDD8" + FAULT)
    assert cpu.st[6] == 0x3FFF_8000_0000_0000_0000 and cpu.st[7] >> 64 == 0x4001 and cpu.ftw == 0xFF and cpu.top == 0


def test_a_loop_that_leaves_more_on_the_stack_each_time(bench: Bench) -> None:
    """fninit; mov ecx, 10; L: fld1; fadd st, st; dec ecx; jnz L: the ninth has no room."""
    cpu = ran(bench, "DBE3 B90A000000 D9E8 D8C0 FFC9 75F8 31C9" + FAULT)
    assert cpu.status_word & 0x41 == 0x41 and cpu.ftw == 0 and cpu.top == 6


def test_registers_counted_from_another_top(bench: Bench) -> None:
    """FNSTENV, TOP in memory one further, FLDENV: what was ST(1) is written as ST(0).

    fninit; fldpi; fld1; fnstenv [rbx+64]; fldenv [rbx+64]; add word [rbx+68], 0x800; fldenv [rbx+64]; fadd st, st; fdecstp; fxch
    """
    cpu = ran(bench, "DBE3 D9EB D9E8 D97340 D96340 668143440008 D96340 D8C0 D9F6 D9C9" + FAULT)
    assert cpu.top == 6 and cpu.st[7] == 0x3FFF_8000_0000_0000_0000 and cpu.st[6] >> 64 == 0x4001


def test_mmx_on_the_same_registers(bench: Bench) -> None:
    """fninit; fldpi; fld1; faddp; movq mm0, mm7; emms; fldz; fld1"""
    cpu = ran(bench, "DBE3 D9EB D9E8 DEC1 0F6FC7 0F77 D9EE D9E8" + FAULT)
    assert cpu.st[0] & (1 << 64) - 1 == 0x8487_ED51_10B4_611A and cpu.st[7] == 0 and cpu.st[6] == 0x3FFF_8000_0000_0000_0000
