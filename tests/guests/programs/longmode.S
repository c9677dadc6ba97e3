# Long mode: 4-level paging with NX, SMEP, SMAP and reserved bits, canonical addresses, IRET, IST, SYSCALL, SYSENTER, compatibility mode.
# kvm-pvm differs: "read across the hole", "wrmsr FS base non-canonical", "execute user page at ring 3, SMEP on", "read user page at ring 3, SMAP on", "syscall", "syscall and sysret"
# QEMU differs: "stack non-canonical", "read across the hole", "wrmsr FS base non-canonical", "reserved bit", "reserved bit, write"
# QEMU differs: "reserved bit at ring 3", "NX without NXE", "syscall", "syscall and sysret"
        .include "protected.inc"
        .include "long.inc"
        .set NX, 0x8000000000000000
main64: print "long mode\n"
        movq %rsp, %rbx                 # interrupts align the stack to 16 bytes and always push SS:RSP
        hook 0x41, frame
        subq $8, %rsp
        int $0x41
        addq $8, %rsp
        int $0x41
        movb $1, IDT64 + 16 * 0x42 + 4  # by IST1
        hook 0x42, by_ist
        int $0x42
        try "read absent"; movq AREA, %rax; done
        try "write absent"; movq %rax, AREA + 8; done
        try "read beyond"; movl $0xC0000000, %eax; movb (%rax), %al; done
        try "read non-canonical"; movq $1, %rax; shlq $47, %rax; movb (%rax), %al; done
        try "stack non-canonical"; movq $1, %rbp; shlq $47, %rbp; movb (%rbp), %al; done
        try "jump to non-canonical"; movq $1, %rax; shlq $47, %rax; jmp *%rax; done
        try "read across the hole"; movq $-1, %rax; shrq $17, %rax; movw (%rax), %ax; done
        try "wrmsr FS base non-canonical"; movl $0xC0000100, %ecx; movl $0x8000, %edx; xorl %eax, %eax; wrmsr; done
        page 0, FRAME | 3
        movb $0xC3, AREA
        try "execute supervisor page"; movl $AREA, %eax; call *%rax; done
        movq TABLE, %rax
        hex %rax
        print " A and D\n"
        movq $FRAME | 3, %rax
        btsq $63, %rax
        movq %rax, TABLE
        invlpg AREA
        try "execute NX page"; movl $AREA, %eax; call *%rax; done
        try "read NX page"; movb AREA, %al; done
        user "execute NX supervisor page at ring 3"; movl $AREA, %eax; call *%rax; back
        movq $FRAME | 3, %rax
        btsq $51, %rax
        movq %rax, TABLE
        invlpg AREA
        try "reserved bit"; movb AREA, %al; done
        try "reserved bit, write"; movb %al, AREA; done
        user "reserved bit at ring 3"; movb AREA, %al; back
        movl $0xC0000080, %ecx          # NX is a reserved bit without NXE
        rdmsr
        andl $~0x800, %eax
        wrmsr
        movq $FRAME | 3, %rax
        btsq $63, %rax
        movq %rax, TABLE
        invlpg AREA
        try "NX without NXE"; movb AREA, %al; done
        movl $0xC0000080, %ecx
        rdmsr
        orl $0x800, %eax
        wrmsr
        page 1, FRAME + 0x1000 | 7
        movb $0xC3, AREA + 0x1000
        try "execute user page, SMEP off"; movl $AREA + 0x1000, %eax; call *%rax; done
        change %cr4, 0, 0x100000
        try "execute user page, SMEP on"; movl $AREA + 0x1000, %eax; call *%rax; done
        user "execute user page at ring 3, SMEP on"; movl $AREA + 0x1000, %eax; call *%rax; back
        try "read user page, SMAP off"; movb AREA + 0x1000, %al; done
        change %cr4, 0, 0x200000
        try "read user page, SMAP on"; movb AREA + 0x1000, %al; done
        try "write user page, SMAP on"; movb %al, AREA + 0x1000; done
        try "read user page after stac"; stac; movb AREA + 0x1000, %al; done
        clac
        try "read user page after clac"; movb AREA + 0x1000, %al; done
        user "stac at ring 3"; stac; back
        user "read user page at ring 3, SMAP on"; movb AREA + 0x1000, %al; back
        change %cr4, 0x300000, 0
        try "daa"; .byte 0x27; done
        try "pusha"; .byte 0x60; done
        try "push es"; .byte 0x06; done
        try "far jump with immediate"; .byte 0xEA, 0, 0, 0, 0, 0, 0; done
        try "lldt null"; xorl %eax, %eax; lldt %ax; done
        try "load null stack at ring 0"; xorl %eax, %eax; movw %ax, %ss; done

        movl $0xC0000081, %ecx          # STAR: kernel 30h and 38h, user 38h + 16 and + 8
        movl $(USER_DATA - 8) << 16 | CODE64, %edx
        xorl %eax, %eax
        wrmsr
        incl %ecx                       # LSTAR
        xorl %edx, %edx
        movl $called, %eax
        wrmsr
        movl $0xC0000084, %ecx          # FMASK
        movl $0x400, %eax
        wrmsr
        movq $0xC02, user_flags64
        user "syscall"; syscall; back
        hook 0x43, show_rbx
        user "syscall and sysret"; movl $1, %edi; syscall; pushfq; popq %rbx; int $0x43; movl %cs, %ebx; int $0x43; movl %ss, %ebx; int $0x43; back
        movq $2, user_flags64
        user "sysret at ring 3"; sysretq; back
        user "swapgs at ring 3"; swapgs; back
        movl $0xC0000080, %ecx
        rdmsr
        andl $~1, %eax
        wrmsr
        user "syscall without SCE"; syscall; back
        movl $0xC0000101, %ecx
        movl $0x1111, %eax
        xorl %edx, %edx
        wrmsr
        incl %ecx
        movl $0x2222, %eax
        wrmsr
        swapgs
        decl %ecx
        rdmsr
        hex %rax
        incl %ecx
        rdmsr
        hex %rax
        print " after swapgs\n"
        print "compatibility mode: "
        pushq $CODE32
        pushq $compatible
        lretq
back64: movq $stack_top, %rsp
        xorq %rcx, %rcx                 # upper halves of 32-bit results are zero
        movq $-1, %rax
        movl %eax, %eax
        hex %rax
        movq $-1, %rax
        movw $0, %ax
        hex %rax
        print " upper halves\n"
        exit
        .code32
compatible: movl $0x12345678, %eax
        incl %eax
        .byte 0x48                      # DEC eax here, REX.W there
        .byte 0x48
        ljmp $CODE64, $1f
        .code64
1:      hex %rax
        print "\n"
        jmp back64
show_rbx: hex %rbx
        print " "
        addq $16, %rsp
        iretq
frame:  movq 40(%rsp), %rax             # RSP before
        subq %rbx, %rax
        hex %rax
        movq %rsp, %rax
        andl $15, %eax
        hex %rax
        movq 48(%rsp), %rax
        hex %rax
        print " frame\n"
        addq $16, %rsp
        iretq
by_ist: movq $ist_top, %rax
        subq %rsp, %rax
        hex %rax
        print " by IST\n"
        addq $16, %rsp
        iretq
called: movq %rsp, %r12
        movq $ring0_top, %rsp
        pushq %rcx
        pushq %r11
        movl %cs, %ebx
        hex %rbx
        print " "
        movl %ss, %ebx
        hex %rbx
        print " saved flags "
        hex %r11
        print " now "
        pushfq
        popq %rbx
        hex %rbx
        print " "
        popq %r11
        popq %rcx
        movq %r12, %rsp
        sysretq
