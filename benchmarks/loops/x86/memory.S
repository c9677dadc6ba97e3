# Loads and stores in one page: 7 accesses in 10 instructions.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE
loops:  movl $ROUNDS, %ecx
        movl $DATA, %esi
1:      movl (%Rsi), %eax
        addl %eax, 4(%Rsi)
        movl 8(%Rsi), %ebx
        movl %ebx, 12(%Rsi)
        addl 16(%Rsi), %eax
        movl %eax, 20(%Rsi)
        movzbl 24(%Rsi), %edx
        addl %edx, %eax
        decl %ecx
        jnz 1b
        finish ROUNDS * 10
