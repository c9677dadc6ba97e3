# A vector added to another in memory, 256 bits at a time, over 16 KiB: 7 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 2000000 * SCALE
loops:  avx
        mov $DATA, %Rsi
        mov $DATA, %Rdi
        movl $16384 / 4, %ecx
        movl $0x3F800000, %eax
        rep stosl
        movl $ROUNDS, %ecx
        vxorps %ymm0, %ymm0, %ymm0
        xorl %edx, %edx
1:      vmovups (%Rsi,%Rdx), %ymm1
        vaddps 8192(%Rsi,%Rdx), %ymm1, %ymm1
        vmovups %ymm1, (%Rsi,%Rdx)
        addl $32, %edx
        andl $8191, %edx
        decl %ecx
        jnz 1b
        finish ROUNDS * 7
