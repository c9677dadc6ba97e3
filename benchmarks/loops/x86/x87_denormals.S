# x87: 8 instructions a round, which after some 33,000 rounds deal with denormals for ever.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE
loops:  movl $ROUNDS, %ecx
        fldl constants
        fldz
1:      fadd %st(1), %st
        fld %st(0)
        fmull constants + 8
        fsubp %st, %st(1)
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
