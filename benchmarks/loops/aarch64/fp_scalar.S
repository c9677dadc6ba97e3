# Scalar double and single precision, fused multiplications too: 10 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 2000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
        fmov d1, #1.25
        fmov d2, #0.5
        fmov s6, #1.25
        fmov s8, #0.5
        movi d0, #0
        movi d3, #0
        movi d5, #0
        movi d7, #0
1:      fadd d0, d0, d1
        fmul d3, d3, d2
        fmadd d3, d1, d2, d3
        fsub d4, d0, d3
        fmax d4, d4, d1
        fadd s5, s5, s6
        fmul s7, s7, s8
        fmadd s7, s6, s8, s7
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 10
