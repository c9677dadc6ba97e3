# XSAVEC, the compacted format of XRSTOR, and XGETBV of what is in use.
# kvm-pvm cannot: gives no XSAVE
# QEMU cannot: run XSAVEC in 7.2
        .include "protected.inc"
        .include "long.inc"
        .include "ymm.inc"
        .set AREA1, 0x601000
main64: print "XSAVEC\n"
        fninit
        change %cr4, 0, 0x40000
        xcr0 7
        vzeroall
        movl $0x2222, %ebx
        movq %rbx, %xmm15
        print "XSAVEC without what is not in use: "
        filled AREA1, 0x5555
        components 7
        xsavec AREA1
        hex AREA1+512
        hex AREA1+520
        hex AREA1+576
        hex AREA1+160+16*15
        print "\n"
        try "XRSTOR of the compacted format with dirt in the header"; components 7; xrstor AREA1; done
        filled AREA1, 0
        vinsertf128 $1, %xmm15, %ymm15, %ymm14
        components 7
        xsavec AREA1
        hex AREA1+512
        hex AREA1+520
        hex AREA1+576+16*14
        print " XSAVEC\n"
        vzeroall
        components 7
        xrstor AREA1
        show mm14
        print " XRSTOR of the compacted format\n"
        movl $1, %ecx
        xgetbv
        andl $6, %eax
        hex %rax
        print " in use\n"
        movq $1 << 1, AREA1 + 520
        try "XRSTOR of the compacted format, wrong"; components 7; xrstor AREA1; done
        exit
