# Loads and stores in one page: 9 of 13 instructions, two of them of pairs.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
        ldr x8, =DATA
1:      ldr w0, [x8]
        ldr w1, [x8, #4]
        add w1, w1, w0
        str w1, [x8, #4]
        ldr w2, [x8, #8]
        str w2, [x8, #12]
        ldrb w3, [x8, #24]
        add w0, w0, w3
        str w0, [x8, #20]
        ldp x4, x5, [x8, #32]
        stp x5, x4, [x8, #48]
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 13
