# A page is taken from under another processor that reads and writes it: after its INVLPG it uses the new one (SDM vol. 3, 4.10.5). And
# accessed and dirty bits that processors set while another changes the entry are not lost.
# options: -smp 2
        .set PROCESSORS, 2
        .set ROUNDS, 500
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .macro result text, value
        print "\text: "
        movl \value, %eax
        hex %rax
        print "\n"
        .endm
main_smp: interrupt_gate 0x50, shoot
        movq $1, FRAME + 8
        page 0, FRAME | 3
        both remap, use
        result "reads of an old page", old_reads
        result "writes to an old page", old_writes
        page 1, FRAME + 0x2000 | 3
        both mark, touch
        movq TABLE + 8, %rax
        andl $0xFFF, %eax
        movl %eax, flags
        result "accessed, dirty and one of software", flags
        exit
shoot:  invlpg AREA
        incl acknowledged
        end_of_interrupt
        iretq
        # Frames in turn; each has its generation at 8 and a counter at 0.
remap:  movl $2, %ecx
1:      movl %ecx, %edx
        andl $1, %edx
        shll $12, %edx
        addl $FRAME, %edx               # the new frame
        movq %rcx, 8(%rdx)
        movl %edx, %eax
        orl $3, %eax
        movq %rax, TABLE
        movl acknowledged, %esi
        ipi 0x50
2:      pause
        cmpl %esi, acknowledged
        je 2b
        movq %rcx, generation
        xorl $0x1000, %edx              # the old frame: nobody writes to it any more
        movq (%rdx), %rax
        movl $50, %edi
3:      pause
        decl %edi
        jnz 3b
        cmpq (%rdx), %rax
        je 4f
        incl old_writes
4:      incl %ecx
        cmpl $ROUNDS, %ecx
        jb 1b
        movl $1, over
        ret
use:    movq generation, %rdx
        movq AREA + 8, %rax
        cmpq %rdx, %rax
        jae 1f
        incl old_reads
1:      incq AREA
        cmpl $1, over
        jne use
        ret
mark:   movl $10000, %ecx
1:      lock xorq $0x200, TABLE + 8
        decl %ecx
        jnz 1b
        lock orq $0x400, TABLE + 8
        movl $2, over
        ret
touch:  lock andq $~0x60, TABLE + 8
        invlpg AREA + 0x1000
        movb $1, AREA + 0x1000
        cmpl $2, over
        jne touch
        ret
        .data
        .balign 64
old_reads: .long 0
        .balign 64
old_writes: .long 0
        .balign 64
generation: .quad 0
        .balign 64
acknowledged: .long 0
        .balign 64
over:   .long 0
flags:  .long 0
