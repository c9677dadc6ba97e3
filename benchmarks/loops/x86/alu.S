# Register arithmetic: 8 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 20000000 * SCALE
loops:  movl $ROUNDS, %ecx
1:      addl %eax, %ebx
        xorl %ebx, %edx
        subl %edx, %esi
        roll $5, %esi
        incl %eax
        andl $0x7FFFFFFF, %ebx
        decl %ecx
        jnz 1b
        finish ROUNDS * 8
