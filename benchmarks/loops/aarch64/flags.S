# Carries, CSET and CSEL: 10 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 10000000 * SCALE + 1000
loops:  ldr w9, =ROUNDS
        ldr w7, =0x9E3779B9
1:      adds w0, w0, w7
        adcs w1, w1, wzr
        sub w3, w3, w1
        sbcs w2, w2, w7
        cset w1, cc
        cmp w3, w0
        csel w3, w7, w3, lt
        cset w2, gt
        subs w9, w9, #1
        b.ne 1b
        finish ROUNDS * 10
