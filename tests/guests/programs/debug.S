# Debug exceptions: single step, its suppression behind MOV SS and inside an interrupt, breakpoints on code and data, general detect.
# kvm-pvm cannot: has no single steps and no breakpoints in what it emulates
# QEMU differs: "general detect", "dr7 afterwards"
        .include "protected.inc"
        .set NEAR, SPARE                # code whose offsets have 16 bits
        .set OTHER, SPARE + 8
        .macro watch name
        print "\name: "
        movl $0, count
        movl $0, last
        .endm
        .macro result
        hex count
        movl last, %eax
        hex %eax
        movl %dr6, %eax
        hex %eax
        print "\n"
        xorl %eax, %eax
        movl %eax, %dr6
        .endm
        .macro step
        pushf
        orl $0x100, (%esp)
        popf
        .endm
        .macro stop_step
        pushf
        andl $~0x100, (%esp)
        popf
        .endm
main:   hook 1, debug
        movl $0x12345678, %ebp
        watch "single step of three"
        step
1:      nop
        nop
        incl %eax
        stop_step
        result
        watch "rep counts each element"
        movl $5, %ecx
        movl $buffer, %edi
        step
        rep stosb
        stop_step
        result
        watch "mov ss holds it back"
        movl %ss, %eax
        step
        movw %ax, %ss
        nop
        stop_step
        result
        hook 0x50, handler
        watch "an interrupt clears TF"
        step
        int $0x50
        stop_step
        result
        watch "popf that sets it traps after the next"
        pushf
        orl $0x100, (%esp)
        popf
        nop
        stop_step
        result
        movl $watched, %eax
        movl %eax, %dr0
        movl $0x402, %eax               # G0, code
        movl %eax, %dr7
        watch "code breakpoint"
        call watched
        result
        movl $0, %eax
        movl %eax, %dr7
        movl $cell, %eax
        movl %eax, %dr1
        movl $0x00D00408, %eax          # G1, write, 4 bytes
        movl %eax, %dr7
        watch "data write"
        movl %eax, cell
        result
        watch "data read does not match a write breakpoint"
        movl cell, %eax
        result
        watch "byte write inside"
        movb %al, cell + 3
        result
        watch "write beside"
        movb %al, cell + 4
        result
        watch "write that overlaps"
        movl %eax, cell - 2
        result
        movl $0x00F00408, %eax          # G1, read or write
        movl %eax, %dr7
        watch "data read"
        movl cell, %eax
        result
        watch "push and pop"
        movl $0, %eax
        pushl cell
        popl cell
        result
        # to ring 3, for the trap's frame must lie elsewhere
        watch "iret takes its frame from there"
        movl %esp, saved
        movl $user, cell - 4
        movl $USER_CODE, cell
        movl $2, cell + 4
        movl $0, cell + 8
        movl $USER_DATA, cell + 12
        movl $0, count
        movl $1f, going
        hook 1, from_user
        movl $cell - 4, %esp
        iret
1:      result
        hook 1, debug
        watch "a 16-bit iret"
        descriptor NEAR, 0x100000, 0xFFFF, 0xFA, 4
        movl $user - 0x100000, %eax
        movw %ax, cell
        movw $NEAR + 3, cell + 2
        movw $2, cell + 4
        movw $0, cell + 6
        movw $USER_DATA, cell + 8
        movl $0, count
        movl $1f, going
        hook 1, from_user
        movl $cell, %esp
        iretw
1:      result
        hook 1, debug
        watch "a far call"
        movl %esp, %esi
        movl $cell + 4, %esp
        lcall $CODE32, $1f
1:      movl %esi, %esp
        result
        watch "a task switch reads its new registers"
        movl $0x67, gdt + OTHER
        movl $cell - 0x38, %eax         # ESP's place in the TSS
        movl $other_task, cell - 0x38 + 0x20
        movl $2, cell - 0x38 + 0x24
        movl $0, cell - 0x38 + 0x1C
        movl $cell - 16, cell - 0x38 + 0x38
        movl $CODE32, cell - 0x38 + 0x4C
        movl $DATA32, cell - 0x38 + 0x50
        movl $DATA32, cell - 0x38 + 0x54
        movl $DATA32, cell - 0x38 + 0x48
        movl $0, cell - 0x38 + 0x60
        movw %ax, gdt + OTHER + 2
        shrl $16, %eax
        movb %al, gdt + OTHER + 4
        movb $0x89, gdt + OTHER + 5
        movl $0, count
        movl %esp, saved
        ljmp $OTHER, $0
other_task: movl saved, %esp
        result
        movl %ss, %eax                  # an old MOV SS holds nothing back
        movw %ax, %ss
        nop
        movl $0x00F00408, %eax
        movl %eax, %dr7
        watch "behind an old mov ss"
        movl cell, %eax
        result
        movl %ss, %eax
        watch "a later mov ss"
        movw %ax, %ss
        nop
        nop
        movl cell, %eax
        nop
        result
        movl %cr4, %eax
        orl $8, %eax                    # DE
        movl %eax, %cr4
        movl $0x80, %eax
        movl %eax, %dr1
        movl $0x00E00408, %eax          # G1, port, 4 bytes
        movl %eax, %dr7
        watch "out to a port"
        outb %al, $0x82
        result
        watch "in from a port"
        inb $0x80, %al
        result
        watch "port beside"
        outb %al, $0x84
        result
        movl $0x2400, %eax              # GD
        movl %eax, %dr7
        watch "general detect"
        movl %dr0, %eax
        result
        print "dr7 afterwards: "
        movl %dr7, %eax
        hex %eax
        print "\n"
        exit
user:   hlt                             # not reached: it would be #GP
from_user: movw $DATA32, %ax
        movw %ax, %ds
        movw %ax, %es
        incl count
        movl saved, %esp
        jmp *going
watched: nop
        ret
handler: nop
        nop
        addl $8, %esp
        iret
debug:  pushl %eax                      # EAX, vector, error, EIP, CS, EFLAGS
        incl count
        movl 20(%esp), %eax
        andl $0x100, %eax
        orl %eax, last                  # TF as pushed
        movl %dr6, %eax
        testl $1, %eax                  # a code breakpoint: go on behind it with RF
        jz 2f
        orl $0x10000, 20(%esp)
2:      popl %eax
        addl $8, %esp
        iret
        .data
        .balign 16
count:  .long 0
last:   .long 0
buffer: .long 0, 0, 0, 0
saved:  .long 0
going:  .long 0
        .skip 128
        .balign 16
        .long 0, 0
cell:   .long 0, 0, 0
        .skip 128
