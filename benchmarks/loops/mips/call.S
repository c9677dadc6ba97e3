# JAL and JR, two deep, the link register on the stack, delay slots filled: 13 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE + 1000
loops:  number $t9, ROUNDS
1:      jal 2f
        addiu $t9, $t9, -1
        bne $t9, $zero, 1b
        xor $t2, $t2, $t0
        finish ROUNDS * 13
        .balign 16
2:      addiu $sp, $sp, -8
        sw $ra, 0($sp)
        jal 3f
        addiu $t1, $t1, 3
        lw $ra, 0($sp)
        jr $ra
        addiu $sp, $sp, 8
        .balign 16
3:      jr $ra
        addiu $t0, $t0, 1
