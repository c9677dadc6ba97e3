# SYSENTER and SYSEXIT in protected mode; an LDT with a segment in it.
# kvm-pvm differs: "sysenter"
        .include "protected.inc"
        .include "user.inc"
        .set LDT, SPARE
        .set KERNEL, SPARE + 8          # code, stack, user code, user stack in this order
main:   call user_setup
        descriptor KERNEL, 0, 0xFFFFF, 0x9A, 12
        descriptor KERNEL + 8, 0, 0xFFFFF, 0x92, 12
        descriptor KERNEL + 16, 0, 0xFFFFF, 0xFA, 12
        descriptor KERNEL + 24, 0, 0xFFFFF, 0xF2, 12
        user "sysenter without a selector"; sysenter; back
        movl $0x174, %ecx
        xorl %edx, %edx
        movl $KERNEL, %eax
        wrmsr
        incl %ecx
        movl $ring0_top, %eax
        wrmsr
        incl %ecx
        movl $entered, %eax
        wrmsr
        user "sysenter"; pushl $0x202; popf; movl %esp, %ecx; movl $8f, %edx; sysenter; 8: movl %cs, %ebx; call show_ebx; movl %ss, %ebx; call show_ebx; movl %esp, %ebx; subl $user_top, %ebx; call show_ebx; back
        user "sysexit at ring 3"; sysexit; back
        movl $ldt, %eax
        movw $15, gdt + LDT
        movw %ax, gdt + LDT + 2
        shrl $16, %eax
        movb %al, gdt + LDT + 4
        movb $0x82, gdt + LDT + 5
        try "load the LDT"; movw $LDT, %ax; lldt %ax; done
        try "load from it"; movw $0x0F, %ax; movw %ax, %fs; movl %fs:0, %eax; hex %eax; print " "; done
        try "load past it"; movw $0x17, %ax; movw %ax, %fs; done
        sldt %ax
        movzwl %ax, %eax
        hex %eax
        movzbl ldt + 13, %eax
        hex %eax
        print "\n"
        exit
entered: movl %cs, %ebx
        hex %ebx
        movl %ss, %ebx
        hex %ebx
        movl $ring0_top, %ebx
        subl %esp, %ebx
        hex %ebx
        pushf
        popl %ebx
        andl $0x200, %ebx
        hex %ebx
        print " entered "
        sysexit
        .data
        .balign 8
ldt:    .quad 0, 0x0040F2000000FFFF | (0x6000 << 16)
