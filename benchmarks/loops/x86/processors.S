# The same loop on each of PROCESSORS processors (tests/guests/programs/smp.inc): `alu` in registers, `memory` each in pages of its own,
# `locked` a counter that all share. Prints how many instructions all of them did.
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .set ROUNDS, 20000000 * SCALE + 8
main_smp: all LOOP
        movq $PROCESSORS * COUNT, %rax
        hex %rax
        exit
alu:    movl $ROUNDS, %ecx
        xorl %edi, %edi
1:      addl %eax, %edx
        xorl %edx, %esi
        subl %esi, %edi
        roll $5, %edi
        incl %eax
        andl $0x7FFFFFFF, %edx
        decl %ecx
        jnz 1b
        ret
memory: movl %ebx, %esi                 # 64 KiB
        shll $16, %esi
        addl $0x1000000, %esi
        movl $ROUNDS, %ecx
        xorl %edx, %edx
1:      movq (%rsi,%rdx), %rax
        addq %rcx, %rax
        movq %rax, 8(%rsi,%rdx)
        addq %rax, 16(%rsi,%rdx)
        addl $32, %edx
        movzwl %dx, %edx
        decl %ecx
        jnz 1b
        ret
locked: movl $ROUNDS / 8, %ecx
1:      lock incq 0x1000000
        decl %ecx
        jnz 1b
        ret
