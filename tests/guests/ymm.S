# A program for Linux: fills the ymm registers with numbers of its own, gives the processor away 2,000 times, and looks at them each time.
# Exit status 0, or 1 where they are not what they were.
        .globl _start
_start: movl $39, %eax                  # getpid
        syscall
        movq %rax, %r12
        movl $2000, %r13d
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
        leaq \n(%r12), %rax
        vmovq %rax, %xmm\n
        notq %rax
        vmovq %rax, %xmm15
        vinsertf128 $1, %xmm15, %ymm\n, %ymm\n
        .endr
again:  movl $24, %eax                  # sched_yield
        syscall
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
        leaq \n(%r12), %rbx
        vmovq %xmm\n, %rax
        cmpq %rax, %rbx
        jne bad
        vextractf128 $1, %ymm\n, %xmm15
        vmovq %xmm15, %rax
        notq %rax
        cmpq %rax, %rbx
        jne bad
        .endr
        decl %r13d
        jnz again
        xorl %edi, %edi
        jmp done
bad:    movl $1, %edi
done:   movl $60, %eax                  # exit
        syscall
