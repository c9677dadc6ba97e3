# Packed integers and singles: 10 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE
loops:  movl $ROUNDS, %ecx
        movaps constants, %xmm1
        movaps constants + 16, %xmm2
        xorps %xmm0, %xmm0
        xorps %xmm3, %xmm3
1:      paddd %xmm2, %xmm0
        pxor %xmm0, %xmm4
        pmullw %xmm2, %xmm4
        pshufd $0x1B, %xmm4, %xmm5
        addps %xmm1, %xmm3
        mulps %xmm1, %xmm3
        pcmpeqd %xmm0, %xmm5
        pand %xmm2, %xmm5
        decl %ecx
        jnz 1b
        finish ROUNDS * 10
        .data
        .balign 16
constants: .single 0.5, 0.25, 0.125, 0.0625
        .long 1, 3, 5, 7
        .text
