# Every exception that 32-bit code can raise without paging: vector, error code, and what EIP was pushed.
# QEMU differs: "lock on mov", "divss by zero", "divss by zero without OSXMMEXCPT", "unknown msr"
        .include "protected.inc"
main:   try "divide"; xorl %ecx, %ecx; divl %ecx; done
        try "divide overflow"; movl $2, %edx; xorl %eax, %eax; movl $1, %ecx; divl %ecx; done
        try "idiv most negative"; movl $0x80000000, %eax; cdq; movl $-1, %ecx; idivl %ecx; done
        try "aam 0"; .byte 0xD4, 0; done
        try "int3"; int3; done
        try "into without overflow"; xorl %eax, %eax; into; done
        try "into"; movb $0x7F, %al; incb %al; into; done
        try "bound inside"; movl $7, %eax; boundl %eax, bounds; done
        try "bound below"; movl $4, %eax; boundl %eax, bounds; done
        try "bound above"; movl $10, %eax; boundl %eax, bounds; done
        try "ud2"; ud2; done
        try "lock on add register"; .byte 0xF0, 0x01, 0xC0; done
        try "lock on mov"; movl $resume + 4, %ebx; .byte 0xF0, 0x89, 0x03; done
        try "fe /7"; .byte 0xFE, 0xF8; done
        try "lea with a register"; .byte 0x8D, 0xC0; done
        try "mov to cs"; movl %cs, %eax; .byte 0x8E, 0xC8; done
        change %cr0, 0, 8               # TS
        try "fnop with TS"; fnop; done
        try "paddb with TS"; paddb %mm0, %mm0; done
        try "wait with TS"; fwait; done
        change %cr0, 0, 2               # MP
        try "wait with TS and MP"; fwait; done
        change %cr0, 10, 4              # EM
        try "fnop with EM"; fnop; done
        try "paddb with EM"; paddb %mm0, %mm0; done
        change %cr0, 4, 0x20            # NE
        fninit
        pushw $0x037B                   # zero divide unmasked
        fldcw (%esp)
        fldz
        fld1
        fdivp
        try "pending x87 error at fnop"; fnop; done
        try "pending x87 error at fnstsw"; fnstsw %ax; done
        fnclex
        try "after fnclex"; fnop; done
        fninit
        try "sse with OSFXSR off"; xorps %xmm0, %xmm0; done
        change %cr4, 0, 0x600           # OSFXSR, OSXMMEXCPT
        try "sse"; xorps %xmm0, %xmm0; done
        pushl $0x1D80                   # zero divide unmasked
        ldmxcsr (%esp)
        try "divss by zero"; movl $0x3F800000, (%esp); movss (%esp), %xmm1; divss %xmm0, %xmm1; done
        change %cr4, 0x400, 0
        try "divss by zero without OSXMMEXCPT"; divss %xmm0, %xmm1; done
        try "misaligned movaps"; movaps stack_top - 129, %xmm0; done
        try "int 0x31 without DPL"; int $0x31; done
        try "ltr of a busy task"; movw $TASK, %ax; ltr %ax; done
        try "lldt of a code segment"; movw $CODE32, %ax; lldt %ax; done
        try "unknown msr"; movl $0x7FFF0000, %ecx; rdmsr; done
        hook 6, invalid
invalid_at: ud2
        hook 3, breakpoint
breakpoint_at: int3
        hook 0, again
        movl $3, %ebx
        movl $6, %eax
        cdq
        xorl %ecx, %ecx
        idivl %ecx                      # the handler repairs ECX; the instruction runs again
        hex %eax
        print " after the divisor was repaired\n"
        exit
invalid: print "ud2 pushed EIP + "
        movl 8(%esp), %eax
        subl $invalid_at, %eax
        hex %eax
        print "\n"
        addl $2, 8(%esp)
        addl $8, %esp
        iret
breakpoint: print "int3 pushed EIP + "
        movl 8(%esp), %eax
        subl $breakpoint_at, %eax
        hex %eax
        print "\n"
        addl $8, %esp
        iret
again:  movl $3, %ecx
        addl $8, %esp
        iret
        .data
bounds: .long 5, 9
