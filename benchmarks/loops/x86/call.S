# CALL and RET: 7 instructions a round, two deep.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE
loops:  movl $ROUNDS, %ecx
1:      call 2f
        decl %ecx
        jnz 1b
        finish ROUNDS * 7
        .balign 16
2:      call 3f
        ret
        .balign 16
3:      incl %eax
        ret
