# Jumps through a table of four: 7 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 5000000 * SCALE
loops:  movl $ROUNDS, %ecx
1:      addl $5, %eax
        movl %eax, %ebx
        andl $3, %ebx
        jmp *table(,%Rbx,8)
        .balign 16
2:      incl %esi
        decl %ecx
        jnz 1b
        jmp 9f
3:      decl %esi
        decl %ecx
        jnz 1b
        jmp 9f
4:      xorl %eax, %esi
        decl %ecx
        jnz 1b
        jmp 9f
5:      addl %eax, %esi
        decl %ecx
        jnz 1b
9:      finish ROUNDS * 7
        .data
        .balign 8
table:  .quad 2b, 3b, 4b, 5b
        .text
