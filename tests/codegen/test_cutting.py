"""What is cut out of LLVM's assembly, and what is refused: nothing may be copied that means something else where it then stands."""

from __future__ import annotations

import struct

import llvmlite.binding as llvm
import pytest

from exuvia.codegen.cutting import Unfit, apart, assemble, cut, machine
from exuvia.codegen.instructions import host
from exuvia.codegen.native import ARGS
from exuvia.codegen.stencil import GAP, HEADER, IN_COLD, KINDS

on_x86 = pytestmark = pytest.mark.skipif(not host()[0].startswith("x86_64"), reason="stencils are for x86-64")


def stencil(code: str, tables: str = "", kind: str = '.rodata,"a",@progbits') -> bytes:
    """Of this assembly, with this data beside it."""
    lines = [".text", ".type\tf,@function", "f:", *code.split(";"), ".size\tf, .-f", f".section\t{kind}", *tables.split(";")]
    return cut(assemble(apart("\n".join("\t" * (not line.endswith(":")) + line.strip() for line in lines if line))), "f")


def gaps(made: bytes) -> list[tuple[str, int, int, int]]:
    """Kind, place, stride and addend of each."""
    count = HEADER.unpack_from(made)[2]
    found = [GAP.unpack_from(made, HEADER.size + GAP.size * k) for k in range(count)]
    return [(KINDS[kind], place, stride, addend) for place, kind, _, _, stride, addend in found]


def test_the_way_on_is_cut_off() -> None:
    made = stencil("movq $p.imm.1.0, %rax;jmp\tnext;.Lc:;jmp .Lc")
    assert HEADER.unpack_from(made) == (7, 2, 1, 1)
    assert gaps(made) == [("signed", 3, 1, 0)]


def test_other_ways_on() -> None:
    """A conditional one before the last, and none at the end."""
    assert gaps(stencil("je next;jmp\tnext")) == [("next", 2, 0, -4)]
    made = stencil("je next;jmpq *%rax")
    assert HEADER.unpack_from(made)[:2] == (8, 0) and gaps(made) == [("next", 2, 0, -4)]


def test_jumps_between_both_parts() -> None:
    found = gaps(stencil("je .Lc;.Lb:;nop;jmp\tnext;.Lc:;jmp .Lb"))
    assert found == [("cold", 2, 0, -4), ("hot", 1 | IN_COLD, 0, 6 - 4)]


def test_constants_come_along() -> None:
    made = stencil("movaps .Lk(%rip), %xmm0;jmp\tnext", ".p2align 4;.Lk:;.quad 5, 6")
    ((kind, place, _, addend),) = gaps(made)
    assert (kind, place) == ("stencil", 3) and (addend + 4) % 32 == 0
    assert struct.unpack_from("<QQ", made, addend + 4) == (5, 6)


@pytest.mark.parametrize(
    ("code", "tables"),
    [
        ("leaq .Lt(%rip), %rax;jmpq *(%rax,%rcx,8)", ".Lt:;.quad f - ."),
        ("leaq .Lt(%rip), %rax;.La:;jmpq *(%rax,%rcx,8)", ".Lt:;.quad .La"),
        ("jmpq *.Lt(,%rax,8)", ".Lt:;.quad f"),
        ("vmovaps .Lk(%rip), %zmm0;jmp\tnext", ".p2align 6;.Lk:;.zero 64"),
        ("addb $p.imm.1.0, %al;jmp\tnext", ""),
        ("movq $p.reg.8.0+0x7FFFFFF0, %rax;jmp\tnext", ""),
        ("movabsq $p.imm.1.0, %rax;jmp\tnext", ""),
        ("callq memset;jmp\tnext", ""),
        ("jmpq *next@GOTPCREL(%rip)", ""),
    ],
)
def test_what_is_not_known_is_refused(code: str, tables: str) -> None:
    with pytest.raises(Unfit):
        stencil(code, tables)


def test_a_comparison_with_zero_stays_one() -> None:
    """LLVM knows of no global symbol that it is 0, and of no two that they differ, as long as nothing is folded before its back end."""
    for other in ("0", 'ptrtoint (ptr @"p.rm.1.0" to i64)'):
        text = f"""@"p.imm.1.0" = external dso_local global i8
            @"p.rm.1.0" = external dso_local global i8
            declare dso_local preserve_nonecc i64 @next({ARGS})
            define preserve_nonecc i64 @f({ARGS}) nounwind {{
                %c = icmp eq i64 ptrtoint (ptr @"p.imm.1.0" to i64), {other}
                %x = select i1 %c, i64 %ic, i64 7
                %r = musttail call preserve_nonecc i64 @next(ptr %st, ptr %op, ptr %tlb, i64 %x)
                ret i64 %r
            }}"""
        made = cut(assemble(apart(machine().emit_assembly(llvm.parse_assembly(text)))), "f")
        assert ("signed", 3, 1, 0) in gaps(made)
