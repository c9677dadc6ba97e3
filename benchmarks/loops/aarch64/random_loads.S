# Loads at random over 4 MiB, from 1,024 pages: 6 instructions, one of them a load, a round.
        .include "prelude.inc"
        .set ROUNDS, 500000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
        ldr x8, =DATA
        ldr w5, =1103515245
        ldr w6, =12345
        mov w0, #1
1:      madd w0, w0, w5, w6
        lsr w1, w0, #12
        ldr w2, [x8, w1, uxtw #2]
        add w3, w3, w2
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 6
