"""The registers of an AArch64 processor as they lie in memory (Arm Architecture Reference Manual, DDI 0487, B1.2 and D19)."""

from exuvia.dsl.state import Layout

# Slots of the file `x`. Decoders turn register number 31 into one of the last three: what is read as zero, the current stack pointer, and
# where writes to the zero register go.
ZR, SP, SINK = 31, 32, 33
LR = 30
NO_INDEX = 0  # only CASP's records have an index, the register behind Rs, which is never x0

# Modes, as bits: what a block's meaning depends on. Code of both halves of the address space stands at the same 48 bits, so EL0 has its
# own. STRICT: accesses must be aligned. AWARE: some code that this exception level runs stands on guarded pages, so that indirect branches
# say what they were. LANDING: at the target of one (bti.py), where nothing but that it may be there matters.
PRIVILEGED, USER, STRICT, AWARE, LANDING = 0, 1, 2, 4, 8
MODES = LANDING + USER + 1

# PSTATE and SPSR_ELx bits (C5.2.19)
DAIF_D, DAIF_A, DAIF_I, DAIF_F = (1 << i for i in (9, 8, 7, 6))
DAIF = DAIF_D | DAIF_A | DAIF_I | DAIF_F
SPSR_DIT, SPSR_PAN, SPSR_SS, SPSR_IL = (1 << i for i in (24, 22, 21, 20))
BTYPE_SHIFT = 10

# FEAT_BTI: what is known of pages
GUARDS, GUARDED = 128, 1

BREAKPOINTS, WATCHPOINTS = 6, 4

layout = Layout()
layout.routines += ["exception", "eret", "look_again", "far_branch", "interrupt"]
layout.file("x", 34, 64)
layout.zeros.add(("x", ZR))
layout.sinks.add(("x", SINK))
layout.file("v", 32, 128)
layout.words("nz cv")  # the flags, see flags.py
layout.words("el spsel daif pan dit btype pstate_ss illegal", el=1, spsel=1, daif=DAIF)
# software step is on at this exception level, or a breakpoint means a whole context: Python does one instruction at a time (debug.py)
layout.words("step_armed every_instruction")
layout.attention |= {"step_armed": 1, "every_instruction": 1}
layout.words("step_info os_locked claimed", os_locked=1)  # of software step's syndrome; the OS lock; the debugger's claim tags
for _name in ("dbgbvr", "dbgbcr"):
    layout.file(_name, BREAKPOINTS, 64)
for _name in ("dbgwvr", "dbgwcr", "watch_first", "watch_last", "watch_who", "watch_context", "watch_mask"):
    layout.file(_name, WATCHPOINTS, 64)  # the last five say what a walk compares
layout.words("watchpoints")  # is there one?
layout.words("fpcr fpsr fp_host", fp_host=0x1F80)
layout.vector_control = "fp_host"  # see fpcr.py
layout.words("exclusive exclusive_size exclusive_low exclusive_high", exclusive=-1)  # the local monitor: address or -1, what was read
layout.words("walk_attributes")  # of the page walk, see paging.py
layout.words("met_guarded")  # bit 0: EL0 has met guarded pages, and is AWARE; bit 1: EL1 or EL2 has
layout.file("guards", GUARDS, 64)  # what walks found, by page number: the page's address, and GUARDED
layout.walked |= {"guards", "walk_attributes"}
layout.words("branch_target")  # what the routine `far_branch` takes
layout.words("syndrome fault_address exception_return exception_kind exception_el2")  # what the routine `exception` takes
layout.words("others lines virtual_lines")  # are there other processors; interrupt lines that are up, as bits of DAIF

EL0_WORDS = "tpidr_el0 tpidrro_el0 sp_el0 cntfrq_el0"
EL1_WORDS = """sctlr_el1 actlr_el1 cpacr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 esr_el1 afsr0_el1 afsr1_el1 far_el1 par_el1 mair_el1 amair_el1
    vbar_el1 contextidr_el1 tpidr_el1 cntkctl_el1 elr_el1 spsr_el1 sp_el1 csselr_el1 mdscr_el1"""
EL2_WORDS = """hcr_el2 sctlr_el2 actlr_el2 cptr_el2 mdcr_el2 hstr_el2 hacr_el2 ttbr0_el2 tcr_el2 vttbr_el2 vtcr_el2 esr_el2 far_el2
    hpfar_el2 mair_el2 amair_el2 vbar_el2 tpidr_el2 elr_el2 spsr_el2 sp_el2 cnthctl_el2 cntvoff_el2 vpidr_el2 vmpidr_el2 afsr0_el2
    afsr1_el2"""
TIMER_WORDS = "cntv_ctl_el0 cntv_cval_el0 cntp_ctl_el0 cntp_cval_el0 cnthp_ctl_el2 cnthp_cval_el2"
KEYS = " ".join(f"ap{key}key{half}_el1" for key in ("ia", "ib", "da", "db", "ga") for half in ("lo", "hi"))
for _names in (EL0_WORDS, EL1_WORDS, EL2_WORDS, TIMER_WORDS, KEYS):
    layout.words(_names, cnthctl_el2=3)
layout.words("has_el2 has_pan has_dit has_bti has_e0pd physical_bits midr_el1 mpidr_el1 ctr_el0", physical_bits=40, mpidr_el1=1 << 31)
