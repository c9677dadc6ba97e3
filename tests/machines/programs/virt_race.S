# Two processors of `virt` call PSCI's CPU_ON for a third at the same time, in turns: one of them succeeds, and it starts once, with what that
# one gave it. Prints "o" for 50 turns, a letter when something is wrong.
        .equ UART, 0x09000000
        .equ CPU_OFF, 0x84000002
        .equ SYSTEM_OFF, 0x84000008
        .equ CPU_ON, 0xC4000003
        .equ AFFINITY_INFO, 0xC4000004
        .equ ALREADY_ON, -4
        .equ ON_PENDING, -5
        .equ TURNS, 200
        .equ TURN, 0                    // words of `shared`: which turn it is, how often the third started in it, with what, whether it is
        .equ STARTS, 8                  // to go; what the second's call gave, and that it has
        .equ CONTEXT, 16
        .equ LEAVE, 24
        .equ RESULT, 32
        .equ DONE, 40
        .macro print character
        mov w0, #\character
        str w0, [x27]
        .endm

        .include "image.inc"

first:  ldr x27, =UART
        adr x21, shared
        mov x1, #1
        adr x2, second
        bl switch_on
        cbnz x0, bad
        mov x19, #1
turn:   str xzr, [x21, #STARTS]
        str xzr, [x21, #LEAVE]
        dmb ish
        str x19, [x21, #TURN]
        mov x1, #2
        adr x2, third
        add x3, x19, #0x1000
        bl switch_on
        mov x23, x0
1:      ldr x1, [x21, #DONE]
        cmp x1, x19
        b.ne 1b
2:      ldr x1, [x21, #STARTS]
        cbz x1, 2b
        dmb ish
        ldr x24, [x21, #RESULT]
        add x4, x19, #0x1000            // what it was started with, if it was by us
        cbz x23, 3f
        mov x5, x23                     // or by the second
        add x4, x19, #0x2000
        cbnz x24, neither
        b 4f
3:      mov x5, x24
        cbz x24, both
4:      cmn x5, #-ALREADY_ON
        b.eq 5f
        cmn x5, #-ON_PENDING
        b.ne refused
5:      ldr x1, [x21, #CONTEXT]
        cmp x1, x4
        b.ne context
        mov x1, #1
        str x1, [x21, #LEAVE]
6:      ldr x0, =AFFINITY_INFO
        mov x1, #2
        mov x2, #0
        hvc #0
        cmp x0, #1
        b.ne 6b
        ldr x1, [x21, #STARTS]
        cmp x1, #1
        b.ne starts
        mov x1, #50
        udiv x2, x19, x1
        msub x2, x2, x1, x19
        cbnz x2, 7f
        print 'o'
7:      add x19, x19, #1
        cmp x19, #TURNS + 1
        b.ne turn
off:    ldr x0, =SYSTEM_OFF
        hvc #0
bad:    print '?'
        b off
both:   print 'B'
        b off
neither: print 'N'
        b off
refused: print 'R'
        b off
context: print 'C'
        b off
starts: print 'S'
        b off

switch_on:
        ldr x0, =CPU_ON
        hvc #0
        ret

second: adr x21, shared
        mov x19, #0
1:      ldr x1, [x21, #TURN]
        cmp x1, x19
        b.eq 1b
        mov x19, x1
        mov x1, #2
        adr x2, third
        add x3, x19, #0x2000
        bl switch_on
        str x0, [x21, #RESULT]
        dmb ish
        str x19, [x21, #DONE]
        b 1b

third:  adr x21, shared
        str x0, [x21, #CONTEXT]
        dmb ish
        add x1, x21, #STARTS
2:      ldxr x2, [x1]
        add x2, x2, #1
        stxr w3, x2, [x1]
        cbnz w3, 2b
1:      ldr x1, [x21, #LEAVE]
        cbz x1, 1b
        ldr x0, =CPU_OFF
        hvc #0
        b .
        .ltorg
        .balign 64
shared: .space 64
