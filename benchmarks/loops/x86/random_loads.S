# Loads at random over 4 MiB, from 1,024 pages: 7 instructions, one of them a load, a round.
        .include "prelude.inc"
        .set ROUNDS, 500000 * SCALE
loops:  movl $ROUNDS, %ecx
        movl $DATA, %esi
        movl $1, %eax
1:      imull $1103515245, %eax, %eax
        addl $12345, %eax
        movl %eax, %ebx
        shrl $10, %ebx
        addl (%Rsi,%Rbx), %edx
        decl %ecx
        jnz 1b
        finish ROUNDS * 7
