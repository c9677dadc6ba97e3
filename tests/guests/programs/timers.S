# Real mode: the 8254's and the RTC's interrupts end HLT, masked ones do not, nor what is pending with IF clear.
        .include "protected.inc"
        .include "real.inc"
        .include "irq.inc"
        .section .low
real:   set_pics
        movw $tick, 4 * 0x20
        movw $0, 4 * 0x20 + 2
        movw $rtc_tick, 4 * 0x28
        movw $0, 4 * 0x28 + 2
        movw $answer, 4 * 0x51
        movw $0, 4 * 0x51 + 2
        set_pit 11932                   # 100 Hz
        out 0x21, 0xFE
        sti
1:      hlt
        cmpw $5, ticks
        jb 1b
        out 0x21, 0xFF
        cli
        out16 "five ticks of the 8254 end HLT\n"

        movw $0, ticks
1:      inb $0x20, %al                  # IRR
        testb $1, %al
        jz 1b
        sti
        movw $2000, %cx
1:      loop 1b
        cli
        hex16 ticks
        out16 " ticks while it is masked\n"
1:      inb $0x20, %al                  # the request is gone where its output went low meanwhile
        testb $1, %al
        jz 1b
        out 0x21, 0xFE
        sti
        movw $2000, %cx
1:      loop 1b
        cli
        movw ticks, %ax
        testw %ax, %ax
        jz 2f
        out16 "and then what was pending\n"
2:      out 0x21, 0xFB                  # the second 8259 alone
        out 0xA1, 0xFE
        out 0x70, 0x0A
        out 0x71, 0x2C                  # 16 Hz
        out 0x70, 0x0B
        out 0x71, 0x42                  # periodic
        out 0x70, 0x0C
        inb $0x71, %al
        sti
1:      hlt
        cmpw $3, rtc_ticks
        jb 1b
        cli
        out16 "three ticks of the RTC end HLT\n"
        int $0x51
        hex16 %bx
        out16 " from an INT in between\n"
        exit16
tick:   pushw %ax
        incw %cs:ticks
        movb $0x20, %al
        outb %al, $0x20
        popw %ax
        iret
rtc_tick: pushw %ax
        incw %cs:rtc_ticks
        movb $0x0C, %al
        outb %al, $0x70
        inb $0x71, %al
        movb $0x20, %al
        outb %al, $0xA0
        outb %al, $0x20
        popw %ax
        iret
answer: movw $0x1234, %bx
        iret
ticks:  .word 0
rtc_ticks: .word 0
