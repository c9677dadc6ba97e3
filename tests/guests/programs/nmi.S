# NMIs: one is handled at a time, one more is kept, and any IRET lets it in; a maskable interrupt is welcome meanwhile.
# kvm-pvm differs: "an interrupt in between", "00000001 iret behind it"
# QEMU differs: "an iret that faults"
        .include "protected.inc"
        .set LAPIC, 0xFEE00000
        .macro send command
        movl $\command, LAPIC + 0x300   # to APIC 0
        jmp 97f                         # time to arrive
97:     nop
        jmp 97f
97:     nop
        .endm
        .macro settle
        pushl %ecx
        movl $1000, %ecx
        98: loop 98b
        popl %ecx
        .endm
        .macro result
        hex count
        hex deepest
        print "\n"
        movl $0, count
        movl $0, deepest
        .endm
main:   movl $0x1FF, LAPIC + 0xF0       # enabled
        movl $0, LAPIC + 0x310
        hook 2, once
        print "one: "
        send 0x4400
        settle
        result

        hook 2, three_times
        print "three more while one is handled are one: "
        send 0x4400
        settle
        result

        hook 2, breakpoint
        hook 3, handler
        print "the iret of an exception in between: "
        send 0x4400
        settle
        result

        hook 2, faulting
        hook 13, general_protection
        print "an iret that faults: "
        send 0x4400
        settle
        result

        hook 2, with_interrupt
        hook 0x30, interrupt
        print "an interrupt in between: "
        send 0x4400
        settle
        result
        hex after
        print " iret behind it\n"
        exit
        .macro enter
        incl count
        incl depth
        movl depth, %eax
        cmpl deepest, %eax
        jbe 96f
        movl %eax, deepest
96:
        .endm
        .macro leave_nmi
        decl depth
        popa
        addl $8, %esp
        iret
        .endm
once:   pusha
        enter
        leave_nmi
three_times: pusha
        enter
        cmpl $1, count
        jne 1f
        send 0x4400
        send 0x4400
        send 0x4400
        settle
1:      leave_nmi
breakpoint: pusha
        enter
        cmpl $1, count
        jne 1f
        send 0x4400
        settle
        int3                            # its IRET is any IRET
        settle
1:      leave_nmi
handler: addl $8, %esp
        iret
faulting: pusha
        enter
        cmpl $1, count
        jne 1f
        send 0x4400
        settle
        pushl $2
        pushl $0xFFF8                   # no such code segment
        pushl $1f
        iret
1:      leave_nmi
general_protection: settle              # an NMI comes at once
        addl $8 + 12 + 12, %esp         # vector, error code; the fault's frame; the frame that was wrong
        jmp 1b
with_interrupt: pusha
        enter
        cmpl $1, count
        jne 1f
        send 0x4400
        send 0x4030
        sti
        settle
        cli
1:      leave_nmi
interrupt: pusha
        movl count, %eax
        movl %eax, after                # no NMI has come in yet
        movl $0, LAPIC + 0xB0
        popa
        addl $8, %esp
        iret
        .data
count:  .long 0
depth:  .long 0
deepest: .long 0
after:  .long 0
