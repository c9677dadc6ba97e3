# Double and single precision, multiplications with additions, and a comparison: 11 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE + 1000
loops:  number $t9, ROUNDS
        place $t0, constants
        ldc1 $f2, 0($t0)
        ldc1 $f4, 8($t0)
        lwc1 $f12, 16($t0)
        lwc1 $f16, 20($t0)
        ldc1 $f0, 24($t0)
        ldc1 $f6, 24($t0)
        lwc1 $f10, 24($t0)
        lwc1 $f14, 24($t0)
1:      add.d $f0, $f0, $f2
        mul.d $f6, $f6, $f4
        madd.d $f6, $f6, $f2, $f4
        sub.d $f8, $f0, $f6
        c.lt.d $f8, $f2
        movt $t1, $t9, $fcc0
        add.s $f10, $f10, $f12
        mul.s $f14, $f14, $f16
        addiu $t9, $t9, -1
        bne $t9, $zero, 1b
        madd.s $f14, $f14, $f12, $f16
        finish ROUNDS * 11
        .data
        .balign 16
constants: .double 1.25, 0.5
        .single 1.25, 0.5
        .double 0
        .text
