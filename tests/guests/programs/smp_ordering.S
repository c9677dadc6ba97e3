# Stores and loads of two processors (SDM vol. 3, 8.2): what must not be seen is counted. A store may be seen after a later load of the
# same processor, unless MFENCE or a locked instruction stands between; nothing else is seen out of order.
# options: -smp 2
        .set PROCESSORS, 2
        .set ROUNDS, 4000
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .macro litmus name, first, second, forbidden
        print "\name: "
        call clear
        both \first, \second
        movl $\forbidden, %eax
        call tell
        .endm
        # Once a round, when both are there: rsi is the round's line; results go to 16(%rsi) and 24(%rsi).
        .macro round
        movl $LINES, %esi
        movl $PROCESSORS, %edi
        97: lock incl met
        96: pause
        cmpl %edi, met
        jb 96b
        .endm
        .macro again
        addl $64, %esi
        addl $PROCESSORS, %edi
        cmpl $LINES + 64 * ROUNDS, %esi
        jb 97b
        ret
        .endm
        .set LINES, 0x1000000
main_smp:
        litmus "store buffering with mfence", sb_fence_0, sb_fence_1, both_zero
        litmus "store buffering with a locked add", sb_lock_0, sb_lock_1, both_zero
        litmus "store buffering with xchg", sb_xchg_0, sb_xchg_1, both_zero
        litmus "message passing", mp_0, mp_1, new_then_old
        litmus "message passing backwards", mp_back_0, mp_back_1, new_then_old
        litmus "load buffering", lb_0, lb_1, both_one
        litmus "two stores of each, the second seen first", ss_0, ss_1, both_one
        litmus "aligned stores are seen whole", whole_0, whole_1, torn
        litmus "stores of rep movsd are seen before later ones", rep_0, rep_1, new_then_old
        exit
clear:  movl $LINES, %edi
        xorl %eax, %eax
        movl $8 * ROUNDS, %ecx
        rep stosq
        movl $0, met
        movl $0, met2
        ret
tell:   movl $LINES, %esi               # count the lines for which rax says so
        xorl %ebx, %ebx
1:      call *%rax
        adcl $0, %ebx
        addl $64, %esi
        cmpl $LINES + 64 * ROUNDS, %esi
        jb 1b
        hex %rbx
        print " forbidden\n"
        ret
both_zero: movq 16(%rsi), %rdx          # carry: yes
        orq 24(%rsi), %rdx
        cmpq $1, %rdx
        ret
both_one: movq 16(%rsi), %rdx
        andq 24(%rsi), %rdx
        negq %rdx
        ret
new_then_old: cmpq $1, 16(%rsi)         # the flag was seen, what was written before it was not
        jne 1f
        cmpq $1, 24(%rsi)
        ret
1:      clc
        ret
torn:   movq 16(%rsi), %rdx
        testq %rdx, %rdx
        jz 1f
        cmpq $-1, %rdx
        je 1f
        stc
        ret
1:      clc
        ret
sb_fence_0: round; movq $1, (%rsi); mfence; movq 8(%rsi), %rax; movq %rax, 16(%rsi); again
sb_fence_1: round; movq $1, 8(%rsi); mfence; movq (%rsi), %rax; movq %rax, 24(%rsi); again
sb_lock_0: round; movq $1, (%rsi); lock addq $0, (%rsp); movq 8(%rsi), %rax; movq %rax, 16(%rsi); again
sb_lock_1: round; movq $1, 8(%rsi); lock addq $0, (%rsp); movq (%rsi), %rax; movq %rax, 24(%rsi); again
sb_xchg_0: round; movl $1, %edx; xchgq %rdx, (%rsi); movq 8(%rsi), %rax; movq %rax, 16(%rsi); again
sb_xchg_1: round; movl $1, %edx; xchgq %rdx, 8(%rsi); movq (%rsi), %rax; movq %rax, 24(%rsi); again
mp_0:   round; movq $1, (%rsi); movq $1, 8(%rsi); again
mp_1:   round; movq 8(%rsi), %rax; movq (%rsi), %rdx; movq %rax, 16(%rsi); movq %rdx, 24(%rsi); again
mp_back_0: round; movl $1, 8(%rsi); movq $1, (%rsi); again
mp_back_1: round; movq (%rsi), %rax; movl 8(%rsi), %edx; movq %rax, 16(%rsi); movq %rdx, 24(%rsi); again
lb_0:   round; movq (%rsi), %rax; movq $1, 8(%rsi); movq %rax, 16(%rsi); again
lb_1:   round; movq 8(%rsi), %rax; movq $1, (%rsi); movq %rax, 24(%rsi); again
ss_0:   round; movq $1, (%rsi); movq $2, 8(%rsi); call settled; cmpq $1, (%rsi); sete %al; movzbl %al, %eax; movq %rax, 16(%rsi); again
ss_1:   round; movq $1, 8(%rsi); movq $2, (%rsi); call settled; cmpq $1, 8(%rsi); sete %al; movzbl %al, %eax; movq %rax, 24(%rsi); again
whole_0: round; movq $-1, (%rsi); again
whole_1: round; movq (%rsi), %rax; movq %rax, 16(%rsi); again
rep_0:  movl $1, ones
        round; call copied; again
rep_1:  round; movq 8(%rsi), %rax; movl (%rsi), %edx; movq %rax, 16(%rsi); movq %rdx, 24(%rsi); again
copied: pushq %rdi
        pushq %rsi
        movq %rsi, %rdi
        movl $ones, %esi
        movl $1, %ecx
        rep movsl
        popq %rsi
        popq %rdi
        movq $1, 8(%rsi)
        ret
settled: lock incl met2                 # until both have stored
        movl %edi, %eax
95:     pause
        cmpl %eax, met2
        jb 95b
        ret
        .data
        .balign 64
met:    .long 0
        .balign 64
met2:   .long 0
        .balign 64
ones:   .long 0
