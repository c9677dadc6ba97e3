# What stands behind the features of CPUID that only long mode has, as features.S does for the others.
# KVM cannot: shows the host's features, and what is not announced works all the same
# QEMU differs: "invpcid", "rdpid"
        .include "protected.inc"
        .include "long.inc"
        .macro probe name, code:vararg
        try "\name"
        \code
        done
        .endm
main64: movq $area, %rdi
        probe "cx16", cmpxchg16b (%rdi)
        probe "lahf_lm", lahf
        probe "lahf_lm store", sahf
        try "fsgsbase on"; change %cr4, 0, 1 << 16; done
        probe "fsgsbase", rdfsbase %rax
        probe "fsgsbase write", wrgsbase %rdi
        try "pcid"; change %cr4, 0, 1 << 17; done
        movl $2, %eax
        probe "invpcid", invpcid (%rdi), %rax
        probe "bmi2", mulxq %rax, %rax, %rax
        probe "movbe", movbeq (%rdi), %rax
        probe "popcnt", popcntq %rax, %rax
        probe "rdrand", rdrand %rax
        probe "sse4_2", crc32q %rax, %rax
        probe "adx", adcxq %rax, %rax
        probe "rdpid", rdpid %rax
        probe "rdtscp", rdtscp
        movq $0x83, %rax                # 1 GiB at 1 GiB
        movq %rax, PML4 + 0x1008
        try "pdpe1gb"; movl $0x40000000, %eax; movb 0x100(%rax), %al; done
        probe "-ptwrite", .byte 0xF3, 0x48, 0x0F, 0xAE, 0xE0
        probe "-wrss", .byte 0x48, 0x0F, 0x38, 0xF6, 0x07
        probe "-uiret", .byte 0xF3, 0x0F, 0x01, 0xEC
        exit
        .bss
        .balign 64
area:   .skip 4096
        .text
