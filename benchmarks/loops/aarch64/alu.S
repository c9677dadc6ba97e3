# Register arithmetic: 8 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 20000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
1:      add w1, w1, w0
        eor w2, w2, w1
        sub w3, w3, w2
        ror w3, w3, #27
        add w0, w0, #1
        and w1, w1, #0x7FFFFFFF
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 8
