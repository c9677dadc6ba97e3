# BL and RET, two deep, the link register on the stack: 9 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
1:      bl 2f
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 9
        .balign 16
2:      stp x29, x30, [sp, #-16]!
        bl 3f
        ldp x29, x30, [sp], #16
        ret
        .balign 16
3:      add w0, w0, #1
        ret
