// Branch target identification: every branch to every landing pad, at EL1 and EL0, under both values of SCTLR_EL1.BT0 and BT1.
        .include "arm.inc"
        .set    BT, 3 << 35
        .macro  from_here branch, register
        .irp    pad, pad_none, pad_bti, pad_c, pad_j, pad_jc, pad_paciasp, pad_pacibsp, pad_brk, plain
        ldr     \register, =\pad
        adr     x11, 1f
        b       2f
        .ltorg
2:      \branch \register
1:
        .endr
        .endm
        .macro  all
        from_here br, x0
        from_here br, x16
        from_here br, x17
        from_here blr, x0
        from_here blr, x16
        .endm
        .macro  everything
        print   "guarded, at el1:"
        bl      guarded_all
        print   "\nnot guarded, at el1:"
        all
        print   "\nguarded, at el0:"
        call_user guarded_user
        print   "\nby authenticated pointers:"
        bl      guarded_authenticated
        print   "\nended\n"
        .endm
main:   str     x30, [sp, -16]!
        then    SKIP
        print   "identified: "
        mrs     x0, id_aa64pfr1_el1
        and     x0, x0, 15
        bl      hex
        print   "\n"
        everything
        mrs     x0, sctlr_el1
        ldr     x1, =BT
        orr     x0, x0, x1
        msr     sctlr_el1, x0
        isb
        print   "bt0 and bt1:\n"
        everything
        ldr     x30, [sp], 16
        ret

        .section .guarded, "ax"
        .balign 4096
pad_none: nop
        ret     x11
pad_bti: bti
        ret     x11
pad_c:  bti     c
        ret     x11
pad_j:  bti     j
        ret     x11
pad_jc: bti     jc
        ret     x11
pad_paciasp: paciasp
        ret     x11
pad_pacibsp: pacibsp
        ret     x11
pad_brk: brk    7
        ret     x11
guarded_all:
        mov     x12, x30
        all
        ret     x12
guarded_user:
        all
        svc     0
guarded_authenticated:
        mov     x12, x30
        adr     x11, 1f
        ldr     x0, =pad_c
        braaz   x0
1:      adr     x11, 2f
        blraaz  x0
2:      adr     x11, 3f
        mov     x16, x0
        braaz   x16
3:      adr     x11, 4f
        ldr     x0, =pad_j
        blraaz  x0
4:      ret     x12
        .ltorg
        .section .user, "ax"
        .balign 4096
plain:  nop
        ret     x11
