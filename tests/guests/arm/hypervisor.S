// EL2: AT of either regime and of both stages, stage 2's faults in tables of stage 1, what CNTHCTL_EL2 and MDCR_EL2 trap.
// options: -M virt,virtualization=on
        .include "arm.inc"
        .set    HOLE, 0x40600000        // what stage 2 has not, has read-only, and as a device
        .set    READ_ONLY, 0x40800000
        .set    DEVICE, 0x40a00000
        .section .bss
        .balign 4096
second1: .skip  4096
second2: .skip  4096
        .text
        .balign 2048
vectors2:
        .rept   16
        .balign 128
        b       to_el2
        .endr
to_el2: mrs     x19, esr_el2            // x19 to x21 are ours; an exception goes on behind its instruction, HVC to who called `guest`
        lsr     x20, x19, 26
        cmp     x20, 0x16
        b.eq    1f
        stp     x0, x1, [sp, -16]!
        stp     x2, x3, [sp, -16]!
        stp     x4, x30, [sp, -16]!
        print   " ["
        show    esr_el2
        show    elr_el2
        lsr     x20, x19, 26
        mov     x0, 5
        bic     x20, x20, x0
        cmp     x20, 0x20
        b.ne    2f
        show    far_el2
        show    hpfar_el2
2:      print   " ]"
        mrs     x0, elr_el2
        add     x0, x0, 4
        msr     elr_el2, x0
        ldp     x4, x30, [sp], 16
        ldp     x2, x3, [sp], 16
        ldp     x0, x1, [sp], 16
        eret
1:      ret     x21
        .macro  guest where
        ldr     x0, =\where
        msr     elr_el2, x0
        mov     x0, 0x3c5
        msr     spsr_el2, x0
        adr     x21, 9995f
        eret
9995:
        .endm
        .macro  tell how, where
        ldr     x10, =\where
        at      \how, x10
        isb
        show    par_el1
        .endm
        .macro  every where
        tell    s12e1r, \where
        tell    s12e1w, \where
        tell    s12e0r, \where
        tell    s1e1r, \where
        tell    s1e1w, \where
        .endm
// QEMU differs: "of memory at el2", "of tables that stage 2 has not", "faults in tables", "registers of extensions", "registers of aarch32"
main:   str     x30, [sp, -16]!
        ldr     x0, =vectors2
        msr     vbar_el2, x0
        ldr     x0, =second1
        ldr     x1, =0x4c1
        str     x1, [x0]
        ldr     x1, =second2 + 3
        str     x1, [x0, 8]
        ldr     x0, =second2
        ldr     x1, =0x400007fd
        mov     x2, 512
1:      str     x1, [x0], 8
        add     x1, x1, 0x200000
        subs    x2, x2, 1
        b.ne    1b
        ldr     x0, =second2
        str     xzr, [x0, 3 * 8]
        ldr     x1, [x0, 4 * 8]
        bic     x1, x1, 0x80
        str     x1, [x0, 4 * 8]
        ldr     x1, [x0, 5 * 8]
        bic     x1, x1, 0x3c
        str     x1, [x0, 5 * 8]
        ldr     x0, =second1
        msr     vttbr_el2, x0
        ldr     x0, =1 << 31 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 1 << 6 | 32
        msr     vtcr_el2, x0
        ldr     x0, =1 << 31 | 1
        msr     hcr_el2, x0
        msr     hpfar_el2, xzr
        dsb     sy
        isb
        print   "told of memory:"
        every   0x40300000
        print   "\nof memory at el2:"
        tell    s1e2r, 0x40300000
        tell    s1e2r, 0x90000000
        print   "\nof what stage 2 has not:"
        every   HOLE
        print   "\nof what it has read-only:"
        every   READ_ONLY
        print   "\nof nothing:"
        every   0x90000000
        b       1f
        .ltorg
1:      print   "\nof tables that stage 2 has not:"
        ldr     x0, =HOLE
        mrs     x16, ttbr0_el1
        msr     ttbr0_el1, x0
        isb
        every   0x40300000
        msr     ttbr0_el1, x16
        isb
        print   "\nhpfar_el2 is kept:"
        show    hpfar_el2
        print   "\nfaults of a guest:"
        guest   faults
        print   "\nfaults in tables:"
        guest   faults_in_tables
        print   "\ntimers:"
        msr     cnthctl_el2, xzr
        guest   timers
        print   "\ntimers, allowed:"
        mov     x0, 3
        msr     cnthctl_el2, x0
        guest   timers
        print   "\ndebug registers:"
        mov     x0, 1 << 9
        msr     mdcr_el2, x0
        guest   debuggers
        print   "\nthe lock, too:"
        mov     x0, 1 << 10
        msr     mdcr_el2, x0
        guest   debuggers
        print   "\nbrk:"
        mov     x0, 1 << 8
        msr     mdcr_el2, x0
        guest   breaks
        msr     mdcr_el2, xzr
        .irp    traps, 1<<16, 1<<17, 1<<18, 1<<21, 1<<22, 1<<23, 1<<24, 1<<25, 1<<26, 1<<28, 1<<30|1<<26, 1<<35
        print   "\nhcr_el2, \traps:"
        set     hcr_el2, 1 << 31 | 3 << 40 | \traps
        guest   many
        .endr
        print   "\nkeys:"
        set     hcr_el2, 1 << 31
        guest   many
        print   "\ncpacr_el1:"
        set     hcr_el2, 1 << 31 | 3 << 40
        set     cptr_el2, 1 << 31
        guest   many
        msr     cptr_el2, xzr
        print   "\nregisters of el2:"
        show    s3_4_c12_c0_1           // RVBAR_EL2
        show    isr_el1
        set     hcr_el2, 1 << 31 | 1 << 7 | 1 << 6 | 1 << 4
        show    isr_el1
        guest   waits
        mov     x0, x22
        bl      hex
        msr     hcr_el2, xzr
        print   "\nregisters of extensions:"
        .irp    register, s3_4_c2_c0_1, s3_4_c13_c0_1, s3_4_c14_c3_1, s3_4_c1_c2_1, s3_4_c1_c1_4, s3_4_c12_c1_1
        mrs     x0, \register
        msr     \register, x0
        .endr
        print   "\nregisters of aarch32:"
        mov     x0, 0xff
        .irp    register, spsr_irq, spsr_abt, spsr_und, spsr_fiq
        msr     \register, x0
        show    \register
        .endr
        .irp    register, dacr32_el2, ifsr32_el2, fpexc32_el2, dbgvcr32_el2
        mrs     x0, \register
        msr     \register, x0
        .endr
        print   "\nend\n"
        msr     hcr_el2, xzr
        ldr     x30, [sp], 16
        ret
        .ltorg

        .balign 64
faults: ldr     x10, =HOLE
        ldr     x0, [x10, 16]
        str     x0, [x10, 24]
        ldrsb   w7, [x10, 1]
        mov     x0, 8
        ldrsw   x8, [x10, x0]
        ldrh    w9, [x10]
        ldapr   w6, [x10]
        ldar    x2, [x10]
        stlrb   wzr, [x10]
        ldr     x0, [x10], 8
        ldp     x0, x1, [x10, -8]
        sub     x10, x10, 8
        ldxr    x0, [x10]
        ldadd   x0, x1, [x10]
        ldr     q0, [x10]
        ldr     x10, =READ_ONLY
        ldr     x0, [x10]
        str     x0, [x10]
        hvc     0
faults_in_tables:                       // a table of stage 1 that stage 2 has not: of the 2 MiB behind the program
        ldr     x3, =level2
        ldr     x4, =HOLE + 3
        str     x4, [x3, 32]
        dsb     sy
        tlbi    vmalle1
        dsb     sy
        isb
        ldr     x10, =READ_ONLY + 0x1238
        at      s1e1r, x10
        ldr     x0, [x10]
        hvc     0
timers: mrs     x0, cntpct_el0
        mrs     x0, cntp_ctl_el0
        msr     cntp_cval_el0, x0
        msr     cntp_tval_el0, x0
        mrs     x0, cntvct_el0
        mrs     x0, cntv_ctl_el0
        hvc     0
debuggers:
        mrs     x0, dbgbcr0_el1
        mrs     x0, mdscr_el1
        msr     mdscr_el1, x0
        mrs     x0, oslsr_el1
        msr     oslar_el1, xzr
        hvc     0
waits:  mrs     x0, isr_el1             // EL1's own are virtual, where EL2 has the others
        mov     x22, x0
        hvc     0
breaks: brk     5
        hvc     0
many:                                   // what can be trapped; what was read is written back
        mrs     x22, sctlr_el1
        msr     sctlr_el1, x22
        .irp    register, ttbr0_el1, ttbr1_el1, tcr_el1, esr_el1, far_el1, afsr0_el1, afsr1_el1, mair_el1, amair_el1, contextidr_el1
        mrs     x22, \register
        msr     \register, x22
        .endr
        .irp    register, actlr_el1, cpacr_el1, csselr_el1, apiakeylo_el1, apgakeyhi_el1, vbar_el1, lorc_el1
        mrs     x22, \register
        msr     \register, x22
        .endr
        .irp    register, revidr_el1, aidr_el1, ctr_el0, ccsidr_el1, clidr_el1, midr_el1, id_aa64pfr0_el1, id_aa64isar1_el1, lorid_el1
        mrs     x22, \register
        .endr
        mrs     x22, dczid_el0
        ldr     x10, =0x40c00000
        tlbi    vmalle1
        tlbi    vaae1is, x10
        ic      iallu
        ic      ialluis
        ic      ivau, x10
        dc      csw, xzr
        dc      cvac, x10
        dc      cvau, x10
        dc      civac, x10
        dc      zva, x10
        mov     x0, x22
        hvc     0
        .ltorg
