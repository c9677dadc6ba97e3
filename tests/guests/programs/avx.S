# AVX: what it needs of CR4, XCR0 and CR0, faults, and the upper halves of ymm registers through XSAVE, XSAVEOPT and XRSTOR.
# kvm-pvm cannot: gives no XSAVE
# QEMU differs: "VADDPS with EM", "VMOVD with L", "VPERMQ with W0", "XSAVE", "XSAVEOPT of components as they begin"
        .include "protected.inc"
        .include "long.inc"
        .include "ymm.inc"
        .set AREA0, 0x600000
main64: print "AVX\n"
        fninit
        try "VADDPS without OSXSAVE"; vaddps %ymm0, %ymm1, %ymm2; done
        try "XGETBV without OSXSAVE"; xorl %ecx, %ecx; xgetbv; done
        change %cr4, 0, 0x40000
        try "VADDPS without XCR0"; vaddps %ymm0, %ymm1, %ymm2; done
        try "XCR0 with AVX and without SSE"; xcr0 5; done
        try "XCR0 with what is not there"; xcr0 0x27; done
        movl $0xD, %eax
        xorl %ecx, %ecx
        cpuid
        hex %rbx
        print " bytes without AVX\n"
        xcr0 7
        movl $0xD, %eax
        xorl %ecx, %ecx
        cpuid
        hex %rbx
        print " bytes with AVX\n"
        xorl %ecx, %ecx
        xgetbv
        hex %rax
        print " XCR0\n"
        movl $1, %eax
        cpuid
        andl $0x18000000, %ecx
        hex %rcx
        print " OSXSAVE and AVX\n"
        change %cr0, 0, 8
        try "VADDPS with TS"; vaddps %ymm0, %ymm1, %ymm2; done
        change %cr0, 8, 0
        change %cr0, 0, 4
        try "VADDPS with EM"; vaddps %ymm0, %ymm1, %ymm2; done
        change %cr0, 4, 0
        try "VADDPS"; vaddps %ymm0, %ymm1, %ymm2; done
        try "LOCK before VEX"; .byte 0xF0, 0xC5, 0xF4, 0x58, 0xD0; done
        try "66 before VEX"; .byte 0x66, 0xC5, 0xF4, 0x58, 0xD0; done
        try "F2 before VEX"; .byte 0xF2, 0xC5, 0xF4, 0x58, 0xD0; done
        try "F3 before VEX"; .byte 0xF3, 0xC5, 0xF4, 0x58, 0xD0; done
        try "REX before VEX"; .byte 0x48, 0xC5, 0xF4, 0x58, 0xD0; done
        try "VMOVAPS with vvvv"; .byte 0xC5, 0xF4, 0x28, 0xD0; done
        try "VMOVD with L"; .byte 0xC5, 0xFD, 0x6E, 0xC0; done
        try "VPERMQ with W0"; .byte 0xC4, 0xE3, 0x7D, 0x00, 0xC0, 0x1B; done
        movl $AREA0 + 16, %esi
        try "VMOVAPS unaligned"; vmovaps (%rsi), %ymm0; done
        try "VMOVNTDQ unaligned"; vmovntdq %ymm0, (%rsi); done
        try "VMOVUPS unaligned"; vmovups 1(%rsi), %ymm0; done
        try "VADDPS unaligned"; vaddps 1(%rsi), %ymm0, %ymm1; done

        movq $0x1111, %rax
        vmovq %rax, %xmm3
        vinsertf128 $1, %xmm3, %ymm3, %ymm3
        show mm3
        print " whole\n"
        movq $0x2222, %rbx
        movq %rbx, %xmm3                # SSE leaves the upper half
        show mm3
        print " SSE\n"
        vinsertf128 $1, %xmm3, %ymm3, %ymm4
        vmovq %rbx, %xmm4               # VEX does not
        show mm4
        print " VEX.128\n"
        vinsertf128 $1, %xmm3, %ymm3, %ymm4
        vzeroupper
        show mm4
        print " VZEROUPPER\n"
        vzeroall
        show mm3
        print " VZEROALL\n"

        vmovq %rbx, %xmm7
        vinsertf128 $1, %xmm7, %ymm7, %ymm7
        filled AREA0, 0
        components 7
        xsave AREA0
        print "XSAVE: "
        hex AREA0+512
        hex AREA0+576+16*7
        print "\n"
        vzeroall
        components 7
        xrstor AREA0
        show mm7
        print " XRSTOR\n"
        components 3
        vzeroupper
        xrstor AREA0
        show mm7
        print " XRSTOR without AVX\n"
        movq $3, AREA0 + 512
        vinsertf128 $1, %xmm7, %ymm7, %ymm7
        components 4
        xrstor AREA0
        show mm7
        print " XRSTOR of AVX as it begins\n"
        fninit
        vzeroall
        print "XSAVEOPT of components as they begin: "
        filled AREA0, 0x5555
        components 6
        xsaveopt AREA0
        hex AREA0+512
        hex AREA0+576
        print "\n"
        xcr0 3
        try "VADDPS after XCR0 lost AVX"; vaddps %ymm0, %ymm1, %ymm2; done
        try "ANDN needs no XCR0"; andn %eax, %ebx, %ecx; done
        exit
