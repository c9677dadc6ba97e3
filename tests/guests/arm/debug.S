// Breakpoints, watchpoints, software step: of EL0 by EL1, and of EL1 by itself.
        .include "arm.inc"
        .set    SS, 1
        .set    KDE, 1 << 13
        .set    MDE, 1 << 15
        .set    HERE, 0x1e1             // DBGBCR: enabled, four bytes
        .set    EL0, 2 << 1             // PMC and PAC
        .set    EL1, 1 << 1
        .set    LOADS, 1 << 3
        .set    STORES, 2 << 3
        .macro  watch_bytes address, bytes, more
        set     dbgwvr0_el1, \address
        set     dbgwcr0_el1, (\bytes) << 5 | 1 | \more
        set     mdscr_el1, MDE | KDE
        msr     daifclr, 8
        isb
        ldr     x10, =data
        .endm
        .macro  done
        set     mdscr_el1, 0
        b       9993f
        .ltorg
9993:
        msr     daifset, 8
        print   "\n"
        .endm
// QEMU differs: "under the os lock", "unaligned, up to there", "not of one that ends before it", "step of el1, until it masks that"
main:   str     x30, [sp, -16]!
        print   "registers:"
        set     dbgbvr5_el1, 0xffff000000001234
        show    dbgbvr5_el1
        set     dbgbcr5_el1, HERE & ~1 | EL0
        show    dbgbcr5_el1
        show    oslsr_el1
        print   "\nbreakpoint of el0:"
        then    DISARM
        set     dbgbvr0_el1, broken
        set     dbgbcr0_el1, HERE | EL0
        set     mdscr_el1, MDE
        call_user broken_before
        print   "\nbreakpoint of el1, not of el0:"
        set     dbgbcr0_el1, HERE | EL1
        set     mdscr_el1, MDE
        call_user broken_before
        print   "\nbreakpoint at el1, masked:"
        set     mdscr_el1, MDE | KDE
        bl      broken
        print   "\nbreakpoint at el1:"
        set     mdscr_el1, MDE | KDE
        msr     daifclr, 8
        bl      broken
        msr     daifset, 8
        print   "\nbreakpoint at el1 without kde:"
        set     mdscr_el1, MDE
        msr     daifclr, 8
        bl      broken
        msr     daifset, 8
        print   "\nwithout mde:"
        set     mdscr_el1, KDE
        msr     daifclr, 8
        bl      broken
        msr     daifset, 8
        print   "\nlinked to a context:"
        set     dbgbcr0_el1, HERE | EL0 | 4 << 16 | 1 << 20
        set     dbgbvr4_el1, 77
        set     dbgbcr4_el1, HERE | EL0 | 3 << 20
        set     contextidr_el1, 77
        set     mdscr_el1, MDE
        call_user broken_before
        print   "\nlinked to another context:"
        set     contextidr_el1, 78
        set     mdscr_el1, MDE
        call_user broken_before
        set     dbgbcr4_el1, 0
        print   "\nunder the os lock:"
        set     dbgbcr0_el1, HERE | EL0
        set     oslar_el1, 1
        set     mdscr_el1, MDE
        call_user broken_before
        set     oslar_el1, 0
        print   "\nanother page's instruction of this offset:"
        set     dbgbvr0_el1, broken + 0x1000
        set     mdscr_el1, MDE
        call_user broken_before
        set     dbgbcr0_el1, 0
        print   "\n"

        then    SKIP
        print   "watched byte 3:"
        watch_bytes data, 8, LOADS | STORES | EL1
        ldrb    w0, [x10, 2]
        ldrb    w0, [x10, 3]
        ldr     x0, [x10]
        ldr     w0, [x10, 4]
        strb    w0, [x10, 3]
        strb    w0, [x10, 4]
        ldrh    w0, [x10, 3]
        ldp     x0, x1, [x10, -8]
        ldr     q0, [x10, -12]
        done
        print   "unaligned, up to there:"
        watch_bytes data, 8, LOADS | STORES | EL1
        ldrh    w0, [x10, 1]
        ldrh    w0, [x10, 2]
        done
        print   "loads:"
        watch_bytes data, 0xff, LOADS | EL1
        str     x0, [x10]
        ldr     x0, [x10]
        ldtr    x0, [x10]
        ldxr    x0, [x10]
        ldadd   x0, x0, [x10]
        done
        print   "stores:"
        watch_bytes data, 0xff, STORES | EL1
        str     x0, [x10]
        ldr     x0, [x10]
        stp     x0, x1, [x10, -8]
        ldadd   x0, x0, [x10]
        dc      zva, x10
        st1     {v0.16b, v1.16b}, [x10]
        done
        print   "el0's:"
        watch_bytes data, 0xff, LOADS | STORES | EL0
        ldr     x0, [x10]
        ldtr    x0, [x10]
        sttr    x0, [x10]
        set     dbgwcr0_el1, 0
        watch_bytes data, 0xff, LOADS | STORES | EL0
        set     mdscr_el1, MDE
        call_user loads
        done
        print   "both levels':"
        watch_bytes data, 0xff, LOADS | STORES | EL0 | EL1
        ldr     x0, [x10]
        ldtr    x0, [x10]
        done
        print   "two pages:"
        watch_bytes over, 0xff, LOADS | EL1 | 13 << 24
        ldr     x0, [x10]
        ldr     x11, =over
        ldr     x0, [x11]
        ldr     x0, [x11, 4088]
        ldr     x0, [x11, 256]
        done
        print   "of an access over a page's end:"
        watch_bytes over + 4096, 1, LOADS | EL1
        ldr     x11, =over + 4092
        ldr     w0, [x11]
        ldr     x0, [x11]
        done
        print   "not of one that ends before it:"
        watch_bytes over + 4096, 0x10, LOADS | EL1
        ldr     x11, =over + 4092
        ldr     x0, [x11]
        ldr     x0, [x11, 1]
        done
        print   "a loop, and what is stored:"
        watch_bytes data, 0xff, STORES | EL1
        mov     x12, 20
        str     xzr, [x10, 16]
1:      ldr     x0, [x10, 16]
        add     x0, x0, x12
        str     x0, [x10, 16]
        subs    x12, x12, 1
        b.ne    1b
        str     x0, [x10]
        mov     x13, x0
        ldr     x14, [x10]
        mov     x0, x13
        bl      hex
        mov     x0, x14
        bl      hex
        done
        set     dbgwcr0_el1, 0

        print   "step of el0:"
        then    STEP, 6
        set     mdscr_el1, SS
        call_user stepped, 1 << 21
        print   "\nstep of el0, at once:"
        then    STEP, 3
        set     mdscr_el1, SS
        call_user stepped
        print   "\nstep over svc:"
        then    STEP, 2
        set     mdscr_el1, SS
        call_user only_svc, 1 << 21
        print   "\nstep and breakpoint:"
        then    STEP, 3
        set     dbgbvr0_el1, stepped + 4
        set     dbgbcr0_el1, HERE | EL0
        set     mdscr_el1, SS | MDE
        call_user stepped, 1 << 21
        set     dbgbcr0_el1, 0
        print   "\nstep of el1, by an exception's return:"
        then    STEP, 4
        set     mdscr_el1, SS | KDE
        call_user stepped, 1 << 21 | 5
        print   "\nstep of el1, masked:"
        then    STEP, 4
        set     mdscr_el1, SS | KDE
        call_user stepped, 1 << 21 | 0x205
        print   "\nstep of el1, from here:"
        then    STEP, 3
        set     mdscr_el1, SS | KDE
        msr     daifclr, 8
        nop
        nop
        nop
        msr     daifset, 8
        set     mdscr_el1, 0
        print   "\nstep of el1, until it masks that:"
        then    STEP, 9
        set     mdscr_el1, SS | KDE
        msr     daifclr, 8
        nop
        msr     daifset, 8
        nop
        set     mdscr_el1, 0
        print   "\nend\n"
        ldr     x30, [sp], 16
        ret

        .section .user, "ax"
        .balign 4096
broken_before:
        nop
        bl      1f
        svc     0
1:      b       broken
        .balign 64
broken: add     x20, x20, 1
        ret
        .balign 64
loads:  ldr     x10, =data
        ldr     x0, [x10]
        str     x0, [x10]
        svc     0
        .balign 64
stepped:
        add     x20, x20, 1
        add     x20, x20, 2
        ldr     x10, =data
        ldxr    x0, [x10]
        b       1f
        nop
1:      clrex
        nop
        svc     0
only_svc:
        svc     0
        .ltorg
        .section .shared, "aw"
        .balign 4096
        .skip   64
data:   .skip   256
        .balign 8192
over:   .skip   8192
