# Two processors write, two others read: they see the writes in one order (SDM vol. 3, 8.2.3.6).
# options: -smp 4
        .set PROCESSORS, 4
        .set ROUNDS, 400
        .set LINES, 0x1000000
        .include "protected.inc"
        .include "long.inc"
        .include "smp.inc"
main_smp: movl $LINES, %edi
        xorl %eax, %eax
        movl $8 * ROUNDS, %ecx
        rep stosq
        all rounds
        movl $LINES, %esi
        xorl %ebx, %ebx
1:      cmpl $0x01000100, 32(%rsi)      # the third saw x and not y, the fourth y and not x
        jne 2f
        incl %ebx
2:      addl $64, %esi
        cmpl $LINES + 64 * ROUNDS, %esi
        jb 1b
        print "seen in two orders: "
        hex %rbx
        print "\n"
        exit
rounds: movl $LINES, %esi
        movl $PROCESSORS, %edi
1:      lock incl met
2:      pause
        cmpl %edi, met
        jb 2b
        call *parts(,%rbx,8)
        addl $64, %esi
        addl $PROCESSORS, %edi
        cmpl $LINES + 64 * ROUNDS, %esi
        jb 1b
        ret
write_x: movb $1, (%rsi)
        ret
write_y: movb $1, 8(%rsi)
        ret
read_xy: movb (%rsi), %al
        movb 8(%rsi), %dl
        movb %dl, 32(%rsi)
        movb %al, 33(%rsi)
        ret
read_yx: movb 8(%rsi), %al
        movb (%rsi), %dl
        movb %dl, 34(%rsi)
        movb %al, 35(%rsi)
        ret
        .data
        .balign 64
met:    .long 0
        .balign 64
parts:  .quad write_x, write_y, read_xy, read_yx
