# What stands behind each feature that CPUID can announce, in 32-bit code: a line per feature, "ok" where it works (test_features.py takes
# KVM cannot: shows the host's features, and what is not announced works all the same
# features away). A line that begins with "-" is an instruction that no model here announces.
# QEMU differs: "sha_ni", "sha_ni rounds", "invpcid", "rdpid", "-monitor", "-clwb", "-clflushopt", "-extrq", "-pfadd", "-xbegin", "xsavec"
        .include "protected.inc"
        .macro probe name, code:vararg
        try "\name"
        \code
        done
        .endm
        .macro control name, bit        # a bit of CR4
        try "\name"
        movl %cr4, %ebx
        movl %ebx, %eax
        orl $1 << \bit, %eax
        movl %eax, %cr4
        movl %ebx, %cr4
        done
        .endm
        .macro msr name, number
        try "\name"
        movl $\number, %ecx
        rdmsr
        wrmsr
        done
        .endm
        .macro efer name, bit
        try "\name"
        movl $0xC0000080, %ecx
        rdmsr
        movl %eax, %ebx
        orl $1 << \bit, %eax
        wrmsr
        movl %ebx, %eax
        wrmsr
        done
        .endm
main:   movl $area, %edi
        control "de", 3
        control "pse", 4
        control "tsc", 2
        control "pae", 5
        control "mce", 6
        control "pge", 7
        control "fxsr", 9
        control "sse", 10
        control "umip", 11
        control "xsave", 18
        control "smep", 20
        control "smap", 21
        msr "apic msr", 0x1B
        msr "tsc msr", 0x10
        msr "sep msr", 0x174
        msr "mca msr", 0x17B
        msr "pat msr", 0x277
        msr "mtrr msr", 0x2FF
        msr "tsc_adjust msr", 0x3B
        msr "syscall msr", 0xC0000081
        msr "lm msr", 0xC0000100
        efer "syscall msr bit", 0
        efer "lm msr bit", 8
        efer "nx msr bit", 11
        movl %cr4, %eax                 # SSE and XSAVE where they are
        orl $0x600, %eax
        try "sse on"; movl %eax, %cr4; done
        try "xsave on"; movl %cr4, %eax; orl $1 << 18, %eax; movl %eax, %cr4; done
        probe "fpu", fninit
        probe "fpu load", fldz
        probe "tsc insn", rdtsc
        probe "cx8", cmpxchg8b (%edi)
        probe "cmov", cmovzl %eax, %eax
        probe "cmov fpu", fcmovb %st(0), %st
        probe "cmov fpu compare", fcomi %st(0), %st
        probe "clflush", clflush (%edi)
        probe "mmx", pxor %mm0, %mm0
        probe "mmx end", emms
        probe "fxsr save", fxsave (%edi)
        probe "sse float", xorps %xmm0, %xmm0
        probe "sse control", stmxcsr (%edi)
        probe "sse mm", pavgb %mm0, %mm0
        probe "sse fence", sfence
        probe "sse2 float", xorpd %xmm0, %xmm0
        probe "sse2 integer", paddq %xmm0, %xmm0
        probe "sse2 mm", paddq %mm0, %mm0
        probe "sse2 fence", mfence
        probe "sse2 store", movnti %eax, (%edi)
        probe "pni", haddps %xmm0, %xmm0
        probe "pni load", lddqu (%edi), %xmm0
        probe "fpu value", fldz
        probe "pni fpu", fisttpl (%edi)
        probe "ssse3", pabsb %xmm0, %xmm0
        probe "ssse3 mm", pshufb %mm0, %mm0
        probe "sse4_1", pmulld %xmm0, %xmm0
        probe "sse4_1 round", roundss $0, %xmm0, %xmm0
        probe "sse4_2", pcmpgtq %xmm0, %xmm0
        probe "sse4_2 string", pcmpistri $0, %xmm0, %xmm0
        probe "sse4_2 crc", crc32b %al, %eax
        probe "popcnt", popcntl %eax, %eax
        probe "aes", aesenc %xmm0, %xmm0
        probe "aes key", aeskeygenassist $0, %xmm0, %xmm0
        probe "pclmulqdq", pclmulqdq $0, %xmm0, %xmm0
        probe "sha_ni", sha1msg1 %xmm0, %xmm0
        probe "sha_ni rounds", sha256rnds2 %xmm0, %xmm0, %xmm0
        xorl %ecx, %ecx
        probe "xsave get", xgetbv
        movl $3, %eax
        xorl %edx, %edx
        probe "xsave save", xsave (%edi)
        probe "xsaveopt", xsaveopt (%edi)
        probe "rdrand", rdrand %eax
        probe "rdseed", rdseed %eax
        probe "movbe", movbel (%edi), %eax
        probe "bmi1", andnl %eax, %eax, %eax
        probe "bmi1 blsr", blsrl %eax, %eax
        probe "bmi2", pdepl %eax, %eax, %eax
        probe "bmi2 rorx", rorxl $1, %eax, %eax
        probe "adx", adcxl %eax, %eax
        probe "adx overflow", adoxl %eax, %eax
        probe "smap insn", clac
        movl $2, %eax
        probe "invpcid", invpcid (%edi), %eax
        probe "rdpid", .byte 0xF3, 0x0F, 0xC7, 0xF8
        probe "rdtscp", rdtscp
        probe "-monitor", monitor
        probe "-clwb", clwb (%edi)
        probe "-clflushopt", clflushopt (%edi)
        xorl %ecx, %ecx
        probe "-rdpkru", rdpkru
        probe "-extrq", .byte 0x66, 0x0F, 0x79, 0xC0
        probe "-vmcall", vmcall
        probe "-vmrun", vmrun
        probe "-stgi", .byte 0x0F, 0x01, 0xDC
        movl $3, %eax
        xorl %edx, %edx
        probe "xsavec", xsavec (%edi)
        probe "-xsaves", xsaves (%edi)
        probe "-pfadd", .byte 0x0F, 0x0F, 0xC0, 0x9E
        probe "-xbegin", .byte 0xC7, 0xF8, 0, 0, 0, 0
        probe "-encls", .byte 0x0F, 0x01, 0xCF
        probe "-movdiri", .byte 0x0F, 0x38, 0xF9, 0x07
        probe "-gf2p8mulb", .byte 0x66, 0x0F, 0x38, 0xCF, 0xC0
        exit
        .bss
        .balign 64
area:   .skip 4096
