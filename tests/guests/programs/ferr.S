# An unmasked x87 exception without CR0.NE: FERR#, interrupt 13, port F0h and IGNNE#; with CR0.NE it is #MF.
# KVM cannot: has no wire FERR#
# QEMU cannot: asserts that FERR# comes under its big lock, which it does not (7.2)
        .include "protected.inc"
        .include "irq.inc"
        .macro settle
        pushl %ecx
        movl $1000, %ecx
        98: loop 98b
        popl %ecx
        .endm
        .macro trouble                  # 1 / 0, unmasked
        fninit
        fldcw unmasked
        fld1
        fldz
        fdivrp
        .endm
        .macro result
        hex count
        fnstsw %ax
        movzwl %ax, %eax
        hex %eax
        print "\n"
        movl $0, count
        .endm
main:   movl %cr0, %eax
        andl $~0x2E, %eax               # MP, EM, TS, NE
        movl %eax, %cr0
        set_pics
        hook 0x2D, clears
        out 0x21, 0xFB
        out 0xA1, 0xDF
        sti
        trouble
        settle
        print "nothing before an instruction that waits: "
        result
        fnop
        settle
        print "its handler clears it: "
        result
        trouble
        fwait
        settle
        print "fwait: "
        result
        trouble
        pxor %mm0, %mm0
        settle
        print "mmx: "
        result

        hook 0x2D, ignores
        trouble
        fnop
        fld1                            # IGNNE#: it goes on
        fstp %st(0)
        settle
        print "ignored: "
        result
        fnclex
        fld1
        fldz
        fdivrp
        fnop
        settle
        print "the next one is not: "
        result
        outb %al, $0xF0                 # no error reported
        fnclex
        trouble
        outb %al, $0xF0                 # nor yet
        fnop
        settle
        print "port F0h before an error does nothing: "
        result
        cli
        fnclex
        change %cr0, 0, 0x20
        trouble
        try "with NE"
        fnop
        done
        fnclex
        exit
clears: pushl %eax
        incl count
        outb %al, $0xF0
        fnclex
        movb $0x20, %al
        outb %al, $0xA0
        outb %al, $0x20
        popl %eax
        addl $8, %esp
        iret
ignores: pushl %eax
        incl count
        outb %al, $0xF0
        movb $0x20, %al
        outb %al, $0xA0
        outb %al, $0x20
        popl %eax
        addl $8, %esp
        iret
        .data
count:  .long 0
unmasked: .word 0x37B
