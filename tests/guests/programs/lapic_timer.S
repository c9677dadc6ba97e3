# The local APIC's timer: one-shot and periodic, what is requested while IF, TPR or the handler itself holds it back, STI's one instruction.
# kvm-pvm cannot: let an interrupt in between two given instructions
        .include "protected.inc"
        .set LAPIC, 0xFEE00000
        .set IRR, LAPIC + 0x200 + 0x10      # vectors 20h to 3Fh
        .set ISR, LAPIC + 0x100 + 0x10
        .set TIMER, 0x10000                 # vector 30h, bit 16 of these
        .macro arm count
        movl $\count, LAPIC + 0x380
        .endm
        .macro until_requested
        95: testl $TIMER, IRR
        jz 95b
        .endm
        .macro bits address
        movl \address, %eax
        shrl $16, %eax
        andl $1, %eax
        hex %eax
        .endm
        .macro window                       # two instructions with IF set: an interrupt comes in before the second
        sti
        nop
        cli
        .endm
main:   movl $0x1FF, LAPIC + 0xF0           # enabled
        movl $0xB, LAPIC + 0x3E0            # divided by one
        movl $0x30, LAPIC + 0x320           # one-shot
        hook 0x30, armed_again
        movl $200, left
        arm 50000
        sti
1:      hlt
        cmpl $0, left
        jne 1b
        cli
        print "one-shot, from its handler: "
        hex count
        print "\n"

        hook 0x30, once
        movl $0, count
        arm 2000
        until_requested
        print "requested with IF clear: IRR "
        bits IRR
        print " ISR "
        bits ISR
        print " handled "
        hex count
        print "\n"
        window
        print "then in the handler: IRR "
        hex irr
        print " ISR "
        hex isr
        print " handled "
        hex count
        print "\n"
        print "and after it: IRR "
        bits IRR
        print " ISR "
        bits ISR
        print "\n"

        movl $0, count
        arm 2000
        until_requested
        movl $1000, %ecx
1:      sti                                 # STI's own instruction never lets it in
        cli
        loop 1b
        print "a window of no instruction: "
        hex count
        window
        print ", of one: "
        hex count
        print "\n"

        movl $0, count
        movl $0x30, LAPIC + 0x80
        arm 2000
        sti
        until_requested
        movl $100000, %ecx
1:      loop 1b
        print "held back by the task priority: "
        hex count
        movl $0x20, LAPIC + 0x80
        nop
        print ", let in: "
        hex count
        print "\n"
        cli
        movl $0, LAPIC + 0x80

        movl $0, count
        hook 0x30, twice
        arm 2000
        sti
1:      cmpl $2, count
        jne 1b
        cli
        print "rings again in the handler: IRR "
        hex irr
        print " ISR "
        hex isr
        print "\n"

        movl $0, count
        hook 0x30, count_it
        hook 0x51, other
        movl $0x20030, LAPIC + 0x320        # periodic
        arm 100000
        sti
        movl $0, others
1:      movl $0x4051, LAPIC + 0x300         # and interrupts of another vector in between
        movl $1000, %ecx
2:      loop 2b
        incl sent
        cmpl $100, count
        jb 1b
        cli
        movl sent, %eax
        subl others, %eax
        print "periodic among others, that went astray: "
        hex %eax
        print "\n"
        sti
1:      hlt
        cmpl $150, count
        jb 1b
        cli
        print "periodic, halted: is the current count in its period: "
        movl LAPIC + 0x390, %eax
        cmpl $100000, %eax
        setbe %al
        movzbl %al, %eax
        hex %eax
        print "\n"

        movl $0x10030, LAPIC + 0x320        # masked, one-shot
        testl $TIMER, IRR
        jz 1f
        window
1:      movl $0, count
        arm 2000
1:      cmpl $0, LAPIC + 0x390
        jne 1b
        sti
        movl $1000, %ecx
1:      loop 1b
        cli
        print "masked: "
        hex count
        print " IRR "
        bits IRR
        print "\n"
        movl $0x31, LAPIC + 0x320           # another vector
        hook 0x31, count_it
        arm 2000
        sti
        hlt
        cli
        print "of another vector: "
        hex count
        print "\n"
        arm 10000000
        arm 0
        movl $0x20, %ecx
        print "taken back: "
        hex LAPIC + 0x390
        print "\n"
        exit
        .macro leave_handler
        movl $0, LAPIC + 0xB0
        popa
        addl $8, %esp
        iret
        .endm
        .macro note_bits
        movl IRR, %eax
        shrl $16, %eax
        andl $1, %eax
        movl %eax, irr
        movl ISR, %eax
        shrl $16, %eax
        andl $1, %eax
        movl %eax, isr
        .endm
armed_again: pusha
        incl count
        decl left
        jz 1f
        arm 50000
1:      leave_handler
once:   pusha
        note_bits
        jmp 1f
count_it: pusha
1:      incl count
        leave_handler
other:  pusha
        incl others
        leave_handler
twice:  pusha
        incl count
        cmpl $1, count
        jne 1f
        arm 2000
        until_requested
        note_bits
1:      leave_handler
        .data
count:  .long 0
left:   .long 0
irr:    .long 0
isr:    .long 0
sent:   .long 0
others: .long 0
