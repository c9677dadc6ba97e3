# Protected mode: two interrupt messages to the local APIC, each asked for at port 1235h.
        .include "protected.inc"
        .set LAPIC, 0xFEE00000
main:   movl $0x1FF, LAPIC + 0xF0       # enabled
        hook 0x40, answer
1:      movw $0x1235, %dx
        outb %al, %dx
2:      movl count, %eax
        cmpl last, %eax
        jne 3f
        sti
        hlt
        cli
        jmp 2b
3:      movl %eax, last
        cmpl $2, %eax
        jb 1b
        print "two messages\n"
        exit
answer: incl count
        movl $0, LAPIC + 0xB0
        addl $8, %esp
        iret
        .bss
count:  .skip 4
last:   .skip 4
