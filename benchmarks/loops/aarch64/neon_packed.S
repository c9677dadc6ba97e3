# Packed integers, singles and doubles, fused multiplications too: 12 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
        ldr x0, =constants
        ldr q2, [x0]
        fmov v1.4s, #0.5
        fmov v16.4s, #1.25
        fmov v17.2d, #0.5
        fmov v18.2d, #1.25
        movi v0.4s, #0
        movi v3.4s, #0
        movi v4.4s, #0
        movi v6.2d, #0
1:      add v0.4s, v0.4s, v2.4s
        eor v4.16b, v4.16b, v0.16b
        mul v4.4s, v4.4s, v2.4s
        rev64 v5.4s, v4.4s
        cmeq v5.4s, v5.4s, v0.4s
        and v5.16b, v5.16b, v2.16b
        fmul v3.4s, v3.4s, v1.4s
        fmla v3.4s, v16.4s, v1.4s
        fmul v6.2d, v6.2d, v17.2d
        fmla v6.2d, v18.2d, v17.2d
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 12
        .data
        .balign 16
constants: .long 1, 3, 5, 7
        .text
