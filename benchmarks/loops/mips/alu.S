# Register arithmetic: 8 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 20000000 * SCALE + 1000
loops:  number $t9, ROUNDS
1:      addu $t1, $t1, $t0
        xor $t2, $t2, $t1
        subu $t3, $t3, $t2
        rotr $t3, $t3, 27
        addiu $t0, $t0, 1
        addiu $t9, $t9, -1
        bne $t9, $zero, 1b
        ext $t1, $t1, 0, 31
        finish ROUNDS * 8
