# Packed integers and singles at 256 bits, three operands: 10 instructions a round.
        .include "prelude.inc"
        .set ROUNDS, 1000000 * SCALE
loops:  avx
        movl $ROUNDS, %ecx
        vbroadcastf128 constants, %ymm1
        vbroadcasti128 constants + 16, %ymm2
        vxorps %ymm0, %ymm0, %ymm0
        vxorps %ymm3, %ymm3, %ymm3
        vxorps %ymm4, %ymm4, %ymm4
1:      vpaddd %ymm2, %ymm0, %ymm0
        vpxor %ymm0, %ymm4, %ymm4
        vpmullw %ymm2, %ymm4, %ymm4
        vpshufd $0x1B, %ymm4, %ymm5
        vaddps %ymm1, %ymm3, %ymm3
        vfmadd213ps %ymm1, %ymm1, %ymm3
        vpcmpeqd %ymm0, %ymm5, %ymm5
        vpand %ymm2, %ymm5, %ymm5
        decl %ecx
        jnz 1b
        finish ROUNDS * 10
        .data
        .balign 16
constants: .single 0.5, 0.25, 0.125, 0.0625
        .long 1, 3, 5, 7
        .text
