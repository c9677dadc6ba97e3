# Four processors of `virt`: PSCI's CPU_ON and CPU_OFF in turns, then SYSTEM_OFF while one sleeps, one has all forget translations, one spins.
# Prints "o" for each turn, "k" when the interrupts have reached all of them, "?" when PSCI refuses.
        .equ GICD, 0x08000000
        .equ GICC, 0x08010000
        .equ UART, 0x09000000
        .equ CPU_OFF, 0x84000002
        .equ SYSTEM_OFF, 0x84000008
        .equ CPU_ON, 0xC4000003
        .equ AFFINITY_INFO, 0xC4000004
        .equ TURNS, 3
        .equ INTERRUPTS, 10
        .macro put character
        mov w0, #\character
        str w0, [x27]
        .endm
        .macro others routine           // for each of processors 1 to 3, x22
        mov x22, #1
9:      bl \routine
        add x22, x22, #1
        cmp x22, #4
        b.ne 9b
        .endm

        .include "image.inc"

first:  ldr x27, =UART
        ldr x20, =GICD
        mov w0, #1
        str w0, [x20]
        mov x19, #TURNS
turn:   others switch_on
        others wait_until_on
        mov w0, #(1 << 24)              // SGI 0 to all others
        str w0, [x20, #0xf00]
        others wait_until_off
        put 'o'
        subs x19, x19, #1
        b.ne turn

        adr x21, flags
        mov w0, #1
        str w0, [x21]                   // now they stay
        others switch_on
        others wait_until_on
        mov x19, #INTERRUPTS
6:      mov w0, #(1 << 24)
        str w0, [x20, #0xf00]
        add w24, w24, #1
        others wait_until_counted
        subs x19, x19, #1
        b.ne 6b
        put 'k'
        ldr x0, =SYSTEM_OFF
        hvc #0
bad:    put '?'
        b bad

switch_on:
        adr x21, flags
        mov w24, #1
        str wzr, [x21, x22, lsl #2]
        ldr x0, =CPU_ON
        mov x1, x22
        adr x2, another
        mov x3, x22
        hvc #0
        cbnz x0, bad
        ret
wait_until_on:
        ldr w0, [x21, x22, lsl #2]
        cbz w0, wait_until_on
        ret
wait_until_off:
        ldr x0, =AFFINITY_INFO
        mov x1, x22
        mov x2, #0
        hvc #0
        cmp x0, #1
        b.ne wait_until_off
        ret
wait_until_counted:
        ldr w0, [x21, x22, lsl #2]
        cmp w0, w24
        b.ne wait_until_counted
        ret

another: mov x23, x0
        ldr x20, =GICC
        mov w1, #0xff
        str w1, [x20, #4]
        mov w1, #1
        str w1, [x20]
        adr x0, vectors
        msr vbar_el1, x0
        adr x21, flags
        str w1, [x21, x23, lsl #2]
        ldr w0, [x21]
        cbz w0, once
        msr daifclr, #2
        cmp x23, #2
        b.lo 1f
        b.eq 2f
        b .
1:      wfi
        b 1b
2:      tlbi vmalle1is
        dsb ish
        b 2b
once:   wfi
        ldr w1, [x20, #0xc]
        and w2, w1, #0x3ff
        cmp w2, #1020
        b.hs once
        str w1, [x20, #0x10]
        ldr x0, =CPU_OFF
        hvc #0
        b bad

        .balign 2048
vectors: .space 0x280
        ldr w1, [x20, #0xc]             // IRQ of this exception level
        str w1, [x20, #0x10]
        ldr w3, [x21, x23, lsl #2]
        add w3, w3, #1
        str w3, [x21, x23, lsl #2]
        eret
        .ltorg
        .balign 8
flags:  .space 16                       // whether they stay; how often each was interrupted, and 1
