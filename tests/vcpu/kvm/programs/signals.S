# Real mode: two doorbells, at a port and in memory; then three interrupts of input 5, each asked for at a third.
        .include "protected.inc"
        .include "real.inc"
        .include "irq.inc"
        .section .low
real:   set_pics
        movw $answer, 4 * 0x25
        movw $0, 4 * 0x25 + 2
        movw $0x1234, %dx
        movb $6, %al
        outb %al, %dx                   # not the value that is waited for
        movb $7, %al
        outb %al, %dx
        outb %al, %dx
        movw $0xA000, %ax
        movw %ax, %es
        movl $0x55, %es:0x10
        out16 "rung\n"
        out 0x21, 0xDF
1:      movw $0x1235, %dx
        outb %al, %dx
2:      movw count, %ax
        cmpw last, %ax
        jne 3f
        sti
        hlt
        cli
        jmp 2b
3:      movw %ax, last
        cmpw $3, %ax
        jb 1b
        out16 "three interrupts\n"
        exit16
answer: pushw %ax
        incw %cs:count
        movb $0x20, %al
        outb %al, $0x20
        popw %ax
        iret
count:  .word 0
last:   .word 0
