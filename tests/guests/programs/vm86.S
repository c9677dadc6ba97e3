# Virtual-8086 mode: entry by IRET, IOPL-sensitive instructions, INT and the I/O bitmap, addresses, and what a fault's frame holds.
# kvm-pvm cannot: has no ring 3 outside of long mode
# QEMU differs: "segment wrap"
        .include "protected.inc"
        .macro virtual name, flags=0x20002
        print "\name: "
        movl $9f, resume
        movl %esp, resume_esp
        pushl $0x1111                   # GS, FS, DS, ES
        pushl $0x2222
        pushl $0x700
        pushl $0x800
        pushl $0x600                    # SS:ESP
        pushl $0x3000
        pushl $\flags
        pushl $0x600                    # CS:EIP
        pushl $8f - 0x6000
        iret
        .section .low, "ax"
        .code16
8:
        .endm
        .macro back
        int $0x40
        .text
        .code32
9:
        .endm
main:   movl $low_load, %esi
        movl $0x6000, %edi
        movl $low_size, %ecx
        rep movsb
        movb $0xEE, idt + 8 * 0x40 + 5
        movb $0xEE, idt + 8 * 0x41 + 5
        hook 0x40, leave
        hook 0x41, frame
        movl $0x89ABCDEF, 0x7000
        xorl %ebx, %ebx
        virtual "enter and leave", 0x23002; back
        virtual "frame", 0x23002; int $0x41; back
        virtual "int with IOPL 0"; int $0x40; back
        virtual "int without DPL", 0x23002; int $0x42; back
        virtual "int3 with IOPL 0"; int3; back
        virtual "pushf with IOPL 0"; pushf; back
        virtual "popf with IOPL 0"; popf; back
        virtual "cli with IOPL 0"; cli; back
        virtual "iret with IOPL 0"; iret; back
        virtual "hlt", 0x23002; hlt; back
        virtual "mov cr0", 0x23002; movl %cr0, %eax; back
        virtual "lldt", 0x23002; lldt %ax; back
        virtual "ltr", 0x23002; ltr %ax; back
        virtual "sldt", 0x23002; sldt %ax; back
        virtual "in 80h", 0x23002; inb $0x80, %al; back
        virtual "read", 0x23002; movl 0, %ebx; int $0x41; back
        virtual "segment wrap", 0x23002; movw $0xFFFF, %bx; movw (%bx), %ax; back
        virtual "load a segment", 0x23002; movw $0x700, %ax; movw %ax, %fs; movl %fs:0, %ebx; int $0x41; back
        virtual "pushf and popf with IOPL 3", 0x23002; pushf; popw %bx; int $0x41; sti; pushf; popw %bx; cli; int $0x41; back
        movw $104, tss + 102
        movw $104 + 32, gdt + TASK
        movb $0x89, gdt + TASK + 5
        movw $TASK, %ax
        ltr %ax
        movb $0xFE, tss + 104 + 0x10
        virtual "in 80h by the bitmap", 0x23002; inb $0x80, %al; back
        virtual "in 81h by the bitmap", 0x23002; inb $0x81, %al; back
        virtual "divide", 0x23002; xorw %cx, %cx; divw %cx; back
        exit
leave:  movl %ds, %ecx                  # null after the switch
        movw $DATA32, %ax
        movw %ax, %ds
        movw %ax, %es
        print "left"
        movl 16(%esp), %eax
        andl $0x20000, %eax
        hex %eax
        hex %ecx
        print "\n"
        movl resume_esp, %esp
        jmp *resume
frame:  pushl %eax                      # EAX, vector, error, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS
        movw $DATA32, %ax
        movw %ax, %ds
        hex %ebx
        print " "
        hex 16(%esp)
        hex 20(%esp)
        print " "
        hex 24(%esp)
        hex 28(%esp)
        print " "
        hex 32(%esp)
        hex 36(%esp)
        hex 40(%esp)
        hex 44(%esp)
        print " "
        popl %eax
        addl $8, %esp
        iret
