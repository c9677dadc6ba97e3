# Loads and stores in one page: 7 of 11 instructions.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE + 1000
loops:  number $t9, ROUNDS
        number $s0, DATA
1:      lw $t0, 0($s0)
        lw $t1, 4($s0)
        addu $t1, $t1, $t0
        sw $t1, 4($s0)
        lw $t2, 8($s0)
        sw $t2, 12($s0)
        lbu $t3, 24($s0)
        addu $t0, $t0, $t3
        addiu $t9, $t9, -1
        bne $t9, $zero, 1b
        sw $t0, 20($s0)
        finish ROUNDS * 11
