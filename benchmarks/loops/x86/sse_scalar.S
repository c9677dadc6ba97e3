# Scalar double precision: 8 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 2000000 * SCALE
loops:  movl $ROUNDS, %ecx
        movsd constants, %xmm1
        movsd constants + 8, %xmm2
        xorps %xmm0, %xmm0
        xorps %xmm3, %xmm3
1:      addsd %xmm1, %xmm0
        mulsd %xmm2, %xmm3
        addsd %xmm1, %xmm3
        movapd %xmm0, %xmm4
        subsd %xmm3, %xmm4
        maxsd %xmm1, %xmm4
        decl %ecx
        jnz 1b
        finish ROUNDS * 8
        .data
        .balign 16
constants: .double 1.25, 0.5
        .text
