# Carries, SETcc, CMOVcc and short forward branches: 10 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 10000000 * SCALE
loops:  movl $ROUNDS, %ecx
        movl $0x9E3779B9, %edi
1:      addl %edi, %eax
        adcl $0, %ebx
        subl %ebx, %esi
        sbbl $1, %edx
        setc %bl
        cmpl %eax, %esi
        cmovl %edi, %esi
        setg %dl
        decl %ecx
        jnz 1b
        finish ROUNDS * 10
