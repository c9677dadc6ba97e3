# x87: 8 instructions a round, on normal numbers: FSUBR (as the manual names it) takes half from the sum.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE
loops:  movl $ROUNDS, %ecx
        fldl constants
        fldz
1:      fadd %st(1), %st
        fld %st(0)
        fmull constants + 8
        fsubrp %st, %st(1)
        fstl result
        fxch %st(1)
        decl %ecx
        jnz 1b
        finish ROUNDS * 8
        .data
        .balign 8
constants: .double 1.25, 0.5
result: .double 0
        .text
