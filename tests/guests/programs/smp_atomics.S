# Two processors count with every instruction that takes LOCK, in a page of data, and in a page of code, where other handlers do it.
# kvm-pvm cannot: leaves CMPXCHG16B to the software processor, which takes milliseconds
# options: -smp 2
        .set PROCESSORS, 2
        .set ROUNDS, 10000
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
        .macro counts text, at, value
        print "\text: "
        movq \at(%rbp), %rax
        movq $\value, %rdx
        call verdict
        .endm
main_smp: movq $counters, base
        print "in a page of data\n"
        call measure
        movq $beside_code, base
        print "in a page of code\n"
        call measure
        exit
measure: movq base, %rbp
        movq $5, 136(%rbp)
        both count, count
        counts "inc byte", 0, (2*ROUNDS)&0xFF
        counts "inc word", 8, (2*ROUNDS)&0xFFFF
        counts "inc dword", 16, 2*ROUNDS
        counts "inc qword", 24, 2*ROUNDS
        counts "dec", 32, -2*ROUNDS
        counts "add", 40, 6*ROUNDS
        counts "sub", 48, -14*ROUNDS
        counts "adc", 56, 2*ROUNDS
        counts "sbb", 64, -2*ROUNDS
        counts "xadd", 72, 10*ROUNDS
        counts "cmpxchg", 80, 2*ROUNDS
        counts "cmpxchg8b", 88, 2*ROUNDS
        counts "cmpxchg16b, low", 96, 2*ROUNDS
        counts "cmpxchg16b, high", 104, 2*ROUNDS
        counts "or and and", 112, 0
        counts "xor", 120, 0
        counts "not", 128, 0
        counts "neg", 136, 5
        counts "under an xchg lock", 152, 2*ROUNDS
        counts "under a bts lock", 168, 2*ROUNDS
        counts "under a cmpxchg lock", 184, 2*ROUNDS
        counts "btc", 192, 0
        counts "xchg", 200, 0
        ret
verdict: cmpq %rax, %rdx
        je 1f
        hex %rax
        print " instead of "
        hex %rdx
        print "\n"
        ret
1:      print "right\n"
        ret
count:  movq base, %rbp
        movl $ROUNDS, %r8d
        xorl %edi, %edi
        movl $LAPIC, %esi
        movl 0x20(%rsi), %esi           # a bit of its own for each processor
        shrl $24, %esi
        incl %esi
        movl $1, %r9d
1:      lock incb 0(%rbp)
        lock incw 8(%rbp)
        lock incl 16(%rbp)
        lock incq 24(%rbp)
        lock decq 32(%rbp)
        lock addq $3, 40(%rbp)
        movl $7, %eax
        lock subq %rax, 48(%rbp)
        stc
        lock adcq $0, 56(%rbp)
        stc
        lock sbbq $0, 64(%rbp)
        movl $5, %eax
        lock xaddq %rax, 72(%rbp)
        movl 80(%rbp), %eax
2:      leal 1(%rax), %ecx
        lock cmpxchgl %ecx, 80(%rbp)
        jne 2b
        movl 88(%rbp), %eax
        movl 92(%rbp), %edx
2:      movl %eax, %ebx
        movl %edx, %ecx
        addl $1, %ebx
        adcl $0, %ecx
        lock cmpxchg8b 88(%rbp)
        jne 2b
        movq 96(%rbp), %rax
        movq 104(%rbp), %rdx
2:      leaq 1(%rax), %rbx
        leaq 1(%rdx), %rcx
        lock cmpxchg16b 96(%rbp)
        jne 2b
        lock orl %esi, 112(%rbp)
        movl %esi, %eax
        notl %eax
        lock andl %eax, 112(%rbp)
        lock xorl %esi, 120(%rbp)
        lock notq 128(%rbp)
        lock negq 136(%rbp)
2:      movl $1, %eax                   # locks: a plain increment between
        xchgl %eax, 144(%rbp)
        testl %eax, %eax
        pause
        jnz 2b
        incq 152(%rbp)
        movl $0, 144(%rbp)
2:      lock btsl $3, 160(%rbp)
        pause
        jc 2b
        incq 168(%rbp)
        lock btrl $3, 160(%rbp)
2:      xorl %eax, %eax
        lock cmpxchgq %r9, 176(%rbp)
        pause
        jne 2b
        incq 184(%rbp)
        movq $0, 176(%rbp)
        lock btcl %esi, 192(%rbp)
        xchgq %rdi, 200(%rbp)           # what one puts in comes out somewhere, once
        incq %rdi
        decl %r8d
        jnz 1b
        lock addq %rdi, kept
        lock incl ended
3:      pause
        testl $1, ended
        jnz 3b
        cmpl $1, %esi
        jne 4f
        movq kept, %rax                 # all increments are in it or in memory
        addq %rax, 200(%rbp)
        subq $2 * ROUNDS, 200(%rbp)
        movq $0, kept
4:      ret
        .balign 64
beside_code: .skip 256
        .data
        .balign 64
counters: .skip 256
        .balign 64
kept:   .quad 0
base:   .quad 0
ended:  .long 0
