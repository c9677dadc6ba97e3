# Conditional branches, taken and not, with filled delay slots: 14 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE + 1000
loops:  number $t9, ROUNDS
1:      addiu $t0, $t0, 5
        andi $t1, $t0, 1
        beq $t1, $zero, 2f              # every second time
        addiu $t2, $t2, 7
        b 3f
        xor $t3, $t3, $t0
2:      subu $t3, $t3, $t2
        addu $t5, $t5, $t3
3:      slt $t4, $t3, $t2
        bne $t4, $zero, 4f
        addiu $t5, $t5, 1
        b 5f
        xor $t6, $t6, $t5
4:      addu $t6, $t6, $t3
        subu $t7, $t7, $t6
5:      addiu $t9, $t9, -1
        bne $t9, $zero, 1b
        xor $t7, $t7, $t5
        finish ROUNDS * 14
