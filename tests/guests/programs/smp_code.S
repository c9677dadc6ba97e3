# Code that one processor writes and another runs: with an IPI and a serializing instruction in between it runs as written (SDM vol. 3,
# 8.1.3). And two that write into one page, each its own code.
# QEMU differs: "code that another processor wrote"
# options: -smp 2
        .set PROCESSORS, 2
        .set ROUNDS, 500
        .set OWN_ROUNDS, 4000
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .macro result text
        print "\text: "
        movl wrong, %eax
        hex %rax
        print " wrong\n"
        movl $0, wrong
        .endm
main_smp: interrupt_gate 0x50, serialize
        both write_for_other, run_others
        result "code that another processor wrote"
        both write_own, write_own
        result "code of one's own, beside another's"
        movb $0xC3, page_of_code + 2048 # what was there is dropped
        both write_fresh, write_fresh
        result "the same in pages that hold code now and then"
        exit
serialize: pushq %rax
        pushq %rbx
        pushq %rcx
        pushq %rdx
        xorl %eax, %eax
        cpuid
        popq %rdx
        popq %rcx
        popq %rbx
        popq %rax
        incl acknowledged
        end_of_interrupt
        iretq
        # The first gives f a new number and has the other serialize; from then on the other must see it, or a later one.
write_for_other: movl $1, %ecx
1:      movl %ecx, f + 1
        ipi 0x50
2:      pause
        cmpl %ecx, acknowledged
        jne 2b
        movl %ecx, least
        incl %ecx
        cmpl $ROUNDS, %ecx
        jbe 1b
        movl $1, over
        ret
run_others: movl $100, %ecx
1:      movl least, %edx
        call f
        cmpl %edx, %eax
        jae 2f
        incl wrong
2:      call inner
        cmpl $1, over
        jne 1b
        ret
inner:  movl $20, %eax                  # something hot beside it
1:      decl %eax
        jnz 1b
        ret
        # Each has 32 bytes of a page that both write to.
write_own: movl $LAPIC, %edi
        movl 0x20(%rdi), %edi
        shrl $19, %edi
        addl $page_of_code, %edi
        movb $0xB8, (%rdi)              # mov $imm, %eax; ret
        movb $0xC3, 5(%rdi)
        movl $OWN_ROUNDS, %ecx
1:      movl %ecx, 1(%rdi)
        jmp 2f
2:      call *%rdi
        cmpl %ecx, %eax
        je 3f
        lock incl wrong
3:      decl %ecx
        jnz 1b
        ret
        # Each has a part of a page; what is written over is no code for a while, so that the page may be written to as others.
write_fresh: movl $LAPIC, %edi
        movl 0x20(%rdi), %edi
        shrl $15, %edi                  # 512 bytes further on
        addl $page_of_code, %edi
        movl $OWN_ROUNDS, %ecx
1:      movb $0xB8, (%rdi)
        movl %ecx, 1(%rdi)
        movb $0xC3, 5(%rdi)
        jmp 2f
2:      call *%rdi
        movq $0, (%rdi)
        movq %rcx, 64(%rdi)             # data beside it
        cmpl %ecx, %eax
        je 3f
        lock incl wrong
3:      cmpq %rcx, 64(%rdi)
        je 4f
        lock incl wrong
4:      decl %ecx
        jnz 1b
        ret
        .balign 64
        nop
        nop
        nop
f:      movl $0, %eax                   # the number is aligned
        ret
        .balign 4096
page_of_code: .skip 4096
        .data
        .balign 64
wrong:  .long 0
        .balign 64
least:  .quad 0
        .balign 64
acknowledged: .long 0
        .balign 64
over:   .long 0
