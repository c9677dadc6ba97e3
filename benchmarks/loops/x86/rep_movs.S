# REP MOVSD of 4,096 elements: counts elements.
        .include "prelude.inc"
        .set ROUNDS, 2000 * SCALE
loops:  movl $ROUNDS, %ebx
1:      movl $DATA, %esi
        movl $DATA + 0x108000, %edi
        movl $4096, %ecx
        rep movsl
        decl %ebx
        jnz 1b
        finish ROUNDS * 4096
