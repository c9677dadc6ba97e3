# Code runs up to its segment's limit and no further, whether it came there by a jump or by itself; the fault names the first byte's place.
# QEMU differs: "to the limit", "over the limit", "one byte less", "a loop, shorter", "behind it"
        .include "protected.inc"
        .set LIMITED, SPARE
        .macro below name, limit, at    # runs `at` in a segment of that limit; EAX counts
        print "\name: "
        descriptor LIMITED, 0x20000, \limit, 0x9A, 0x4
        movl $9f, resume
        movl %esp, resume_esp
        xorl %eax, %eax
        xorl %ecx, %ecx
        ljmp $LIMITED, $\at
9:
        .endm
        .macro put at
        movl $8f, %esi
        movl $\at, %edi
        movl $7f - 8f, %ecx
        rep movsb
        jmp 7f
8:
        .endm
main:   gate (idt+8*13), CODE32, general_protection, 0x8E
        put 0x20000
        .rept 40
        incl %eax
        .endr
        .rept 10
        addl $0x1000, %eax
        .endr
        ljmp $CODE32, $back
7:      put 0x20800
6:      incl %eax
        incl %ecx
        cmpl $200000, %ecx
        jne 6b
        ljmp $CODE32, $back
7:      put 0x20FFD                     # over a page's end
        addl $0x2000, %eax
        ljmp $CODE32, $back
7:      below "all of it", 0x78, 0
        below "to the limit", 0x13, 0
        below "over the limit", 0x2D, 0
        below "one byte less", 0x5F, 0
        below "a loop", 0xFFF, 0x800
        below "a loop, shorter", 0x80B, 0x800
        below "the loop again", 0x810, 0x800
        below "over a page", 0x1010, 0xFFD
        below "behind it", 0x1000, 0xFFD
        exit
back:   hex %eax
        print "\n"
        jmp *resume
general_protection:                     # error code, EIP, CS, EFLAGS
        hex 4(%esp)
        print " after "
        hex %eax
        print "\n"
        movl resume_esp, %esp
        jmp *resume
