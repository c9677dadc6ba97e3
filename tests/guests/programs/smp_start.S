# Processors start, sleep until an IPI comes, take INIT and NMIs, and keep the time together.
# options: -smp 4
        .set PROCESSORS, 4
        .set ROUNDS, 300
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .macro result text, value
        print "\text: "
        movl \value, %eax
        hex %rax
        print "\n"
        .endm
main_smp: interrupt_gate 0x50, wake
        interrupt_gate 2, non_maskable
        result "processors", alive
        all say
        result "numbers of all", numbers
        both ping, sleep
        result "wake-ups", woken
        movl $0xC4400, 0x300(%r15)      # NMI to all but this one
1:      pause
        cmpl $PROCESSORS - 1, nmis
        jne 1b
        result "non-maskable interrupts", nmis
        movl $0xC4500, 0x300(%r15)      # INIT and start them again, twice
        call a_moment
        movl $0xC4600 | TRAMPOLINE >> 12, 0x300(%r15)
1:      pause
        cmpl $2 * PROCESSORS - 1, alive
        jne 1b
        movl $0xC4600 | TRAMPOLINE >> 12, 0x300(%r15)  # none waits for this
        call a_moment
        movl $0, numbers
        all say
        result "started again", alive
        result "numbers of all", numbers
        all clock
        result "steps back in time", back
        exit
say:    movl $1, %eax
        movl %ebx, %ecx
        shll $3, %ecx
        shll %cl, %eax
        lock orl %eax, numbers
        ret
wake:   lock incl woken
        end_of_interrupt
        iretq
non_maskable: lock incl nmis
        iretq
ping:   xorl %ecx, %ecx
1:      ipi 0x50
        incl %ecx
2:      pause
        cmpl %ecx, woken
        jne 2b
        cmpl $ROUNDS, %ecx
        jb 1b
        ret
sleep:  cli
        cmpl $ROUNDS, woken
        je 1f
        sti
        hlt
        jmp sleep
1:      sti
        ret
clock:  movl $4000, %ecx                # what one has read, another does not see as yet to come
1:      movl %ecx, %esi
2:      movl $1, %eax
        xchgl %eax, latch
        testl %eax, %eax
        pause
        jnz 2b
        rdtsc
        shlq $32, %rdx
        orq %rdx, %rax
        cmpq latest, %rax
        jae 3f
        incl back
3:      movq %rax, latest
        movl $0, latch
        decl %ecx
        jnz 1b
        ret
        .data
        .balign 64
numbers: .long 0
        .balign 64
woken:  .long 0
nmis:   .long 0
back:   .long 0
        .balign 64
latch:  .long 0
        .balign 64
latest: .quad 0
