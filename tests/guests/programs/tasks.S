# Task switches: jump and call to a TSS, a task gate as interrupt handler, IRET through the back link, busy bits, #DF through a task gate.
# kvm-pvm differs: "000000000000000000000028 double fault by task gate"
        .include "protected.inc"
        .set OTHER, SPARE
        .set OTHER_GATE, SPARE + 8
        .set FAULT_TASK, SPARE + 16
        .set NARROW, SPARE + 24         # a 16-bit TSS
        .set NEAR, SPARE + 32           # code whose offsets have 16 bits
        .macro show_busy
        print " busy "
        movzbl gdt + TASK + 5, %ebx
        hex %ebx
        movzbl gdt + OTHER + 5, %ebx
        hex %ebx
        print "\n"
        .endm
        .macro task_state at, entry, stack, flags
        movl $\entry, \at + 32
        movl $\flags, \at + 36
        movl $0xEAEAEAEA, \at + 40
        movl $\stack, \at + 56
        movl $0x51515151, \at + 64
        movl $DATA32, \at + 72
        movl $CODE32, \at + 76
        movl $DATA32, \at + 80
        movl $DATA32, \at + 84
        movl $DATA32, \at + 88
        movl $DATA32, \at + 92
        movl $0, \at + 96
        movl $104 << 16, \at + 100
        .endm
        .macro task_descriptor selector, at
        movl $\at, %eax
        movw $103, gdt + \selector
        movw %ax, gdt + \selector + 2
        shrl $16, %eax
        movb %al, gdt + \selector + 4
        movb $0x89, gdt + \selector + 5
        movb $0, gdt + \selector + 6
        movb %ah, gdt + \selector + 7
        .endm
main:   task_descriptor OTHER, other
        task_descriptor FAULT_TASK, faulty
        task_state other, entry, other_top, 0x402
        task_state faulty, double_fault, other_top, 2
        gate gdt + OTHER_GATE, OTHER, 0, 0xE5
        print "before"
        show_busy
        movl $0x12341234, %esi
        stc
        lcall $OTHER, $0
        movl $0, %eax
        adcl $0, %eax                   # CF came back
        hex %eax
        hex %esi
        print " after the call"
        show_busy
        lcall $OTHER_GATE, $0           # resumes behind its IRET
        print "after the call by gate"
        show_busy
        ljmp $OTHER, $0
        print "after the jump"
        show_busy
        movl $OTHER << 16, idt + 8 * 0x50       # an interrupt through a task gate
        movl $0xE500, idt + 8 * 0x50 + 4
        int $0x50
        print "after the interrupt"
        show_busy
        movl %cr0, %eax
        andl $8, %eax
        hex %eax
        print " TS\n"
        clts
        task_descriptor NARROW, narrow
        movw $43, gdt + NARROW
        movb $0x81, gdt + NARROW + 5
        descriptor NEAR, 0x100000, 0xFFFF, 0x9A, 4
        movw $narrow_entry - 0x100000, narrow + 14
        movw $2, narrow + 16
        movw $0xABCD, narrow + 18
        movw $DATA32, narrow + 34
        movw $NEAR, narrow + 36
        movw $DATA32, narrow + 38
        movw $DATA32, narrow + 40
        movl $0x56785678, %edi
        lcall $NARROW, $0
        hex seen
        movzwl narrow, %ebx             # the back link
        hex %ebx
        movzwl narrow + 14, %ebx
        addl $0x100000 - narrow_end, %ebx
        hex %ebx
        hex %edi
        print " after the 16-bit task\n"
        clts
        try "call a busy task"; lcall $TASK, $0; done
        movb $0x09, gdt + OTHER + 5
        try "call an absent task"; lcall $OTHER, $0; done
        movb $0x89, gdt + OTHER + 5
        movw $102, gdt + OTHER
        try "call a short task"; lcall $OTHER, $0; done
        movw $103, gdt + OTHER
        movl $FAULT_TASK << 16, idt + 8 * 8
        movl $0xE500, idt + 8 * 8 + 4
        movb $0, idt + 8 * 13 + 5       # no #GP gate: #NP while delivering #GP makes #DF
        hlt_here: ljmp $0, $0
entry:  hex %eax
        hex %esi
        pushf
        popl %ebx
        hex %ebx
        movzwl other, %ebx
        hex %ebx
        str %bx
        movzwl %bx, %ebx
        hex %ebx
        print " in the other task"
        show_busy
        iret
        print "called again\n"
        iret
        print "jumped to"
        show_busy
        ljmp $TASK, $0
        print "interrupted"
        show_busy
        iret
narrow_entry: movw %ax, seen
        str %ax
        movw %ax, seen + 2
        iret
narrow_end:
double_fault: popl %eax
        hex %eax
        movl tss + 32, %ebx
        subl $hlt_here, %ebx
        hex %ebx
        movzwl faulty, %ebx
        hex %ebx
        print " double fault by task gate\n"
        exit
        .bss
        .balign 128
other:  .skip 128
faulty: .skip 128
narrow: .skip 128
seen:   .skip 4
        .skip 4096
other_top: .skip 16
