# Interrupts: PIT through the 8259 and the I/O APIC, the local APIC's timer and self-IPIs, HLT, STI's shadow, REP cut by an interrupt, RTC.
# kvm-pvm cannot: looks for interrupts only now and then while it emulates
        .include "protected.inc"
        .include "irq.inc"
        .set LAPIC, 0xFEE00000
        .set IOAPIC, 0xFEC00000
        .macro settle                   # time for an interrupt to arrive
        pushl %ecx
        movl $1000, %ecx
        98: loop 98b
        popl %ecx
        .endm
        .macro ioapic register, value
        movl $\register, IOAPIC
        movl $\value, IOAPIC + 16
        .endm
main:   set_pics
        hook 0x20, pit_tick
        hook 0x28, rtc_tick
        hook 0x30, apic_tick
        hook 0x31, ioapic_tick
        hook 0x32, low_priority
        hook 0x52, high_priority
        set_pit 11932                   # 100 Hz
        out 0x21, 0xFE
        sti
1:      hlt
        cmpl $5, ticks
        jb 1b
        cli
        print "five ticks of the 8254 through the 8259\n"

        xorl %ecx, %ecx                 # no interrupt while IF is clear; then one behind STI's shadow
        movl $0, ticks
2:      inb $0x20, %al                  # IRR
        testb $1, %al
        jz 2b
        hex ticks
        sti
        incl %ecx                       # still in the shadow
        movl ticks, %ebx
        cli
        hex %ebx
        print " pending, then taken behind the shadow\n"

        movl $0, ticks                  # REP goes on where it was
        movl $0x1000000, %edi
        movl $0x800000, %ecx
        xorl %eax, %eax
        incl %eax
        set_pit 1193                    # 1 kHz
        sti
3:      cld
        movl $0x1000000, %edi
        movl $0x800000, %ecx
        rep stosl
        cmpl $3, ticks
        jb 3b
        cli
        hex %ecx
        hex %edi
        movl 0x1000000, %eax
        hex %eax
        movl 0x2FFFFFC, %eax
        hex %eax
        print " rep stosl under interrupts\n"
        out 0x21, 0xFF

        out 0x70, 0x0B                  # RTC: periodic, 1,024 Hz
        inb $0x71, %al
        movb %al, %bl
        orb $0x40, %bl
        out 0x70, 0x0B
        movb %bl, %al
        outb %al, $0x71
        out 0x70, 0x0C
        inb $0x71, %al
        out 0x21, 0xFB                  # the cascade
        out 0xA1, 0xFE
        movl $0, ticks
        sti
4:      hlt
        cmpl $5, ticks
        jb 4b
        cli
        out 0x70, 0x0B
        movb %bl, %al
        andb $~0x40, %al
        outb %al, $0x71
        out 0x21, 0xFF
        out 0xA1, 0xFF
        print "five ticks of the RTC through the second 8259\n"

        movl $0x1FF, LAPIC + 0xF0       # enabled
        movl LAPIC + 0x30, %eax
        andl $0xF0, %eax
        hex %eax
        movl LAPIC + 0x20, %eax
        hex %eax
        print " local APIC's version 1xh, and ID\n"
        movl $0xB, LAPIC + 0x3E0        # divide by 1
        movl $0x30, LAPIC + 0x320       # one shot
        movl $0, ticks
        movl $100000, LAPIC + 0x380
5:      sti                             # the tick may come before HLT waits for it, but not in STI's shadow
        hlt
        cli
        cmpl $1, ticks
        jb 5b
        movl LAPIC + 0x390, %eax
        hex %eax
        print " one shot of the local APIC's timer\n"
        sti
        movl $0x20030, LAPIC + 0x320    # periodic
        movl $1000000, LAPIC + 0x380
6:      hlt
        cmpl $6, ticks
        jb 6b
        cli
        movl $0x10000, LAPIC + 0x320
        print "five more, periodic\n"

        movl $0, LAPIC + 0x80           # priorities: 52h is served before 32h, and 32h waits for its end
        movl $0x40032, LAPIC + 0x300    # to self
        movl $0x40052, LAPIC + 0x300
        sti
        settle
        cli
        print " were served\n"
        movl $0x40, LAPIC + 0x80        # task priority 4 holds 32h back
        movl $0x40032, LAPIC + 0x300
        sti
        settle
        print "held back"
        movl $0, LAPIC + 0x80
        settle
        cli
        print " until the task priority fell\n"

        ioapic 0x14, 0x31               # pin 2, where the PIT is: edge, physical, to APIC 0
        ioapic 0x15, 0
        movl $0, ticks
        sti
7:      hlt
        cmpl $5, ticks
        jb 7b
        cli
        ioapic 0x14, 0x10031
        print "five ticks of the 8254 through the I/O APIC\n"

        rdtsc
        movl %eax, %esi
        movl %edx, %edi
        movl $10000, %ecx
8:      rdtsc
        cmpl %edi, %edx
        ja 9f
        jb 10f
        cmpl %esi, %eax
        jb 10f
9:      movl %eax, %esi
        movl %edx, %edi
        loop 8b
        print "the time-stamp counter never went back\n"
10:     exit
pit_tick: pushl %eax
        incl ticks
        movb $0x20, %al
        outb %al, $0x20
        popl %eax
        addl $8, %esp
        iret
rtc_tick: pushl %eax
        incl ticks
        movb $0x0C, %al
        outb %al, $0x70
        inb $0x71, %al
        movb $0x20, %al
        outb %al, $0xA0
        outb %al, $0x20
        popl %eax
        addl $8, %esp
        iret
apic_tick: incl ticks
        movl $0, LAPIC + 0xB0
        addl $8, %esp
        iret
ioapic_tick: incl ticks
        movl $0, LAPIC + 0xB0
        addl $8, %esp
        iret
low_priority: print " 32h"
        movl $0, LAPIC + 0xB0
        addl $8, %esp
        iret
high_priority: print "52h"
        sti                             # 32h must not nest here
        settle
        cli
        print " done,"
        movl $0, LAPIC + 0xB0
        addl $8, %esp
        iret
        .data
ticks:  .long 0
