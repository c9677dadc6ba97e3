// Alignment faults of SCTLR_EL1.A and of devices, at EL1 and EL0, and what AT says of pages.
        .include "arm.inc"
        .macro  accesses
        ldrh    w0, [x10, 1]
        ldrh    w0, [x10, 2]
        ldr     w0, [x10, 2]
        ldr     w0, [x10, 4]
        ldr     x0, [x10, 8]
        ldur    x0, [x10, 4]
        ldp     w0, w1, [x10, 4]
        ldp     x0, x1, [x10, 8]
        str     w0, [x10, 4]
        stur    w0, [x10, 3]
        stur    x0, [x10, 9]
        ldr     q0, [x10, 16]
        ldur    q0, [x10, 8]
        ldur    d0, [x10, 4]
        add     x11, x10, 1
        ld1     {v0.16b}, [x11]
        ld1     {v0.8h}, [x11]
        st1     {v0.s}[1], [x11]
        ldr     x0, [x11], 8
        ldxr    w0, [x11]
        stlr    w0, [x11]
        ldadd   w0, w0, [x11]
        swpb    w0, w0, [x11]
        .endm
        .macro  ask name:vararg
        ldr     x10, =\name
        at      s1e1r, x10
        bl      told
        at      s1e1w, x10
        bl      told
        at      s1e0r, x10
        bl      told
        at      s1e0w, x10
        bl      told
        b       9994f
        .ltorg
9994:
        .endm
told:   mov     x15, x30
        isb
        show    par_el1
        mov     x30, x15
        ret
// QEMU differs: "a device", "memory as a device", "of a device in RAM", "of a device"
main:   str     x30, [sp, -16]!
        then    SKIP
        ldr     x10, =data
        print   "nothing is checked, but atomic accesses:"
        bl      plain
        print   "\nat el0:"
        call_user of_user
        mrs     x0, sctlr_el1
        orr     x0, x0, 2
        msr     sctlr_el1, x0
        isb
        print   "\nsctlr_el1.a:"
        ldr     x10, =data
        bl      plain
        print   "\nat el0, too:"
        call_user of_user
        mrs     x0, sctlr_el1
        bic     x0, x0, 2
        msr     sctlr_el1, x0
        isb
        print   "\na device:"
        ldr     x10, =UART + 0xfe0
        ldr     w0, [x10]
        ldr     w0, [x10, 4]
        ldur    w0, [x10, 2]
        ldurh   w0, [x10, 1]
        ldur    x0, [x10, 4]
        ldrb    w0, [x10, 1]
        dc      zva, x10
        ldr     x0, =level3
        ldr     x1, =data
        ubfx    x2, x1, 12, 9
        add     x2, x2, 1
        ldr     x3, [x0, x2, lsl 3]
        bic     x3, x3, 0x1c
        str     x3, [x0, x2, lsl 3]
        dsb     sy
        tlbi    vmalle1
        dsb     sy
        isb
        print   "\nmemory as a device:"
        ldr     x10, =data + 0x1000
        mov     x0, 0x1234
        str     x0, [x10]
        ldr     x0, [x10]
        ldrb    w1, [x10, 1]
        add     x0, x0, x1
        bl      hex
        bl      plain
        dc      zva, x10
        ldr     x10, =data
        print   "\ntold of data:"
        ask     data
        print   "\nof a device in RAM:"
        ask     data + 0x1000
        print   "\nof code:"
        ask     of_user
        print   "\nof a device:"
        ask     UART
        print   "\nof nothing:"
        ask     0x80000000
        print   "\nof what no table is for:"
        ask     0x123456789000
        print   "\nunchanged:"
        ldr     x10, =data
        ldr     x0, [x10, 2048]
        bl      hex
        print   "\n"
        ldr     x30, [sp], 16
        ret
plain:  mov     x12, x30
        accesses
        ret     x12

        .section .user, "ax"
        .balign 4096
of_user:
        ldr     x10, =data
        accesses
        svc     0
        .ltorg
        .section .shared, "aw"
        .balign 4096
data:   .skip   2048
        .quad   0x1122334455667788
        .skip   6136
