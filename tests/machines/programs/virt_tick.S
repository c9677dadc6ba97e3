# The virtual timer's interrupt on `virt`, by a GICv2 or, with V3 defined, a GICv3: what a handler and its surroundings see at each point.
# Prints a letter for each part, in capitals where something is not as it has to be.
        .equ GICD, 0x08000000
        .equ GICC, 0x08010000
        .equ GICR, 0x080a0000
        .equ UART, 0x09000000
        .equ SYSTEM_OFF, 0x84000008
        .equ PPI, 27
        .ifdef V3
        .equ PRIVATE, GICR + 0x10000
        .else
        .equ PRIVATE, GICD
        .endif
        .macro acknowledge register
        .ifdef V3
        mrs x\register, s3_0_c12_c12_0
        .else
        ldr w\register, [x21, #0xc]
        .endif
        .endm
        .macro end register
        .ifdef V3
        msr s3_0_c12_c12_1, x\register
        .else
        str w\register, [x21, #0x10]
        .endif
        .endm
        .macro mask_priorities_from value
        mov w0, #\value
        .ifdef V3
        msr s3_0_c4_c6_0, x0
        .else
        str w0, [x21, #4]
        .endif
        .endm
        .macro arm ticks
        mov x0, #\ticks
        msr cntv_tval_el0, x0
        mov x0, #1
        msr cntv_ctl_el0, x0
        isb
        .endm
        .macro until_it_rings
8:      mrs x0, cntv_ctl_el0
        tbz x0, #2, 8b
        .endm
        .macro bit register             // of the timer's interrupt, in a register of the private ones
        ldr w0, [x22, #\register]
        ubfx w0, w0, #PPI, #1
        .endm
        .macro must_be value            // w0
        cmp w0, #\value
        cinc x25, x25, ne
        .endm
        .macro handled value
        mov x0, x24
        must_be \value
        .endm
        .macro window
        msr daifclr, #2
        isb
        msr daifset, #2
        .endm
        .macro part letter
        mov w0, #\letter
        sub w1, w0, #32
        cmp x25, #0
        csel w0, w0, w1, eq
        str w0, [x27]
        mov x24, #0
        mov x25, #0
        .endm
        .macro handler label
        adr x26, \label
        .endm

        .include "image.inc"

first:  ldr x27, =UART
        ldr x20, =GICD
        ldr x21, =GICC
        ldr x22, =PRIVATE
        mov x24, #0
        mov x25, #0
        adr x0, vectors
        mov sp, x0                      // over what is done already
        msr vbar_el1, x0
        isb
        .ifdef V3
        ldr x0, =GICR
        str wzr, [x0, #0x14]            // awake
        mov w0, #-1
        str w0, [x22, #0x80]            // group 1
        mov w0, #0x12
        str w0, [x20]
        mov x0, #1
        msr s3_0_c12_c12_7, x0
        .else
        mov w0, #1
        str w0, [x20]
        str w0, [x21]
        .endif
        mov w0, #0xa0
        strb w0, [x22, #0x400 + PPI]
        strb w0, [x22, #0x401]
        ldr w0, =(1 << PPI | 2)
        str w0, [x22, #0x100]
        mask_priorities_from 0xf0

        handler anew
        arm 2000
1:      wfi
        window
        cmp x24, #200
        b.lt 1b
        msr cntv_ctl_el0, xzr
        handled 200
        part 'a'

        handler once
        arm 200
        until_it_rings
        bit 0x200
        must_be 1
        bit 0x300
        must_be 0
        handled 0
        window
        handled 1
        bit 0x200
        must_be 0
        acknowledge 0
        and w0, w0, #0x3ff
        sub w0, w0, #1000
        must_be 23                      // none
        part 'b'

        handler inside
        arm 200
        until_it_rings
        window
        handled 1
        bit 0x300
        must_be 0
        part 'c'

        handler twice                   // its level stays: it comes again
        arm 200
        until_it_rings
        msr daifclr, #2
3:      cmp x24, #2
        b.ne 3b
        msr daifset, #2
        part 'd'

        handler once
        mask_priorities_from 0x80
        arm 200
        until_it_rings
        window
        handled 0
        mask_priorities_from 0xf0
        window
        handled 1
        part 'e'

        arm 200
        mov x0, #3                      // IMASK
        msr cntv_ctl_el0, x0
        until_it_rings
        window
        handled 0
        bit 0x200
        must_be 0
        mov x0, #1
        msr cntv_ctl_el0, x0
        isb
        window
        handled 1
        part 'f'

        handler either                  // among interrupts that the processor sends itself
        mov x23, #0
        mov x19, #0
        arm 2000
        msr daifclr, #2
4:      add x19, x19, #1
        .ifdef V3
        ldr x0, =(1 << 24 | 1)
        msr s3_0_c12_c11_5, x0
        isb
        .else
        ldr w0, =(2 << 24 | 1)
        str w0, [x20, #0xf00]
        .endif
5:      cmp x23, x19
        b.ne 5b
        cmp x24, #100
        b.lt 4b
        msr daifset, #2
        msr cntv_ctl_el0, xzr
        sub x0, x23, x19
        must_be 0
        part 'g'

        mov w0, #(1 << PPI)             // disabled at the distributor
        str w0, [x22, #0x180]
        handler once
        arm 200
        until_it_rings
        window
        handled 0
        bit 0x200
        must_be 1
        mov w0, #(1 << PPI)
        str w0, [x22, #0x100]
        window
        handled 1
        part 'h'
        ldr x0, =SYSTEM_OFF
        hvc #0
0:      b 0b

        .balign 2048
vectors: .balign 128
        b .
        .balign 128
        b .
        .balign 128
        b .
        .balign 128
        b .
        .balign 128
        b .
        .balign 128                     // IRQ, this level's stack
        stp x0, x1, [sp, #-16]!
        acknowledge 28
        add x24, x24, #1
        br x26
        .balign 1024
leave:  end 28
        ldp x0, x1, [sp], #16
        eret
anew:   arm 2000
        b leave
once:   msr cntv_ctl_el0, xzr
        isb
        b leave
inside: bit 0x300                       // active, and pending still
        must_be 1
        bit 0x200
        must_be 1
        acknowledge 0
        and w0, w0, #0x3ff
        sub w0, w0, #1000
        must_be 23
        b once
twice:  cmp x24, #2
        b.eq once
        b leave
        .ltorg
either: and w0, w28, #0x3ff
        cmp w0, #PPI
        b.eq anew
        sub x24, x24, #1
        add x23, x23, #1
        b leave
