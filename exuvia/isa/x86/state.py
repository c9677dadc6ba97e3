"""The registers of an x86 processor as they lie in memory (SDM vol. 1 chapter 3, vol. 3 chapter 2)."""

from exuvia.dsl.state import Layout

GPR = "AX CX DX BX SP BP SI DI".split()
SEGMENTS = "ES CS SS DS FS GS LDTR TR".split()  # in the order of their numbers in encodings; LDTR and TR follow
ES, CS, SS, DS, FS, GS, LDTR, TR = range(8)

# EFLAGS bits. Status flags live in `result` and `aux`, DF in `df` (1 or -1); the rest in `eflags`.
TF, IF, IOPL, NT, RF, VM, AC, VIF, VIP, ID = 1 << 8, 1 << 9, 3 << 12, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
SYSTEM_FLAGS = TF | IF | IOPL | NT | RF | VM | AC | VIF | VIP | ID

# exceptions (SDM vol. 3 table 6-1)
DE, DB, NMI, BP, OF, BR, UD, NM, DF = range(9)
TS, NP, SS_FAULT, GP, PF, _, MF, AC_FAULT, MC, XM = range(10, 20)
WITH_ERROR_CODE = 1 << DF | 1 << TS | 1 << NP | 1 << SS_FAULT | 1 << GP | 1 << PF | 1 << AC_FAULT

# what kind of event the delivery routine delivers (the state's `event`)
EXCEPTION, EXTERNAL, SOFTWARE = 0, 1, 2

# what holds events back for one instruction, the one at `inhibit_pc` (the state's `inhibit`): STI interrupts, MOV SS debug traps too
INHIBIT_STI, INHIBIT_SS = 1, 2

# control register bits
CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE = (1 << i for i in range(6))
CR0_WP, CR0_AM, CR0_NW, CR0_CD, CR0_PG = (1 << i for i in (16, 18, 29, 30, 31))
CR4_VME, CR4_PVI, CR4_TSD, CR4_DE, CR4_PSE, CR4_PAE, CR4_MCE, CR4_PGE, CR4_PCE = (1 << i for i in range(9))
CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_UMIP = 1 << 9, 1 << 10, 1 << 11
CR4_FSGSBASE, CR4_PCIDE, CR4_OSXSAVE, CR4_SMEP, CR4_SMAP = 1 << 16, 1 << 17, 1 << 18, 1 << 20, 1 << 21
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11

# Modes: what a block's meaning depends on. 0 is 64-bit; else 1 + code is 32-bit + 2 * stack is 32-bit + 4 * not flat.
MODES = 9


def mode_facts(mode: int) -> dict[str, int | bool]:
    """code: 16, 32 or 64; stack: 16, 32 or 64 bits; flat: all of CS, DS, ES, SS have base 0 and no limit."""
    if mode == 0:
        return dict(code=64, stack=64, flat=True)
    return dict(code=32 if mode - 1 & 1 else 16, stack=32 if mode - 1 & 2 else 16, flat=not mode - 1 & 4)


layout = Layout()
layout.routines += ["deliver", "deliver_protected", "interrupt"]
layout.file("r", 136, 64, stride=1, at=0)  # slots are byte offsets: AL is 0, AH is 1, RCX is 8; 128 holds zero
ZERO = 128
layout.words("result aux df eflags cpl unflat cr0 cr2 cr3 cr4 efer xcr0 gdt_base gdt_limit idt_base idt_limit", df=1)
layout.file("pdpte", 4, 64)  # PAE: the page directory pointers, as they were when CR3 was loaded
layout.attention["eflags"] = TF | RF
layout.words("event event_ip event_start event_has_error inhibit inhibit_pc nmi_blocked others pending_db")
layout.words("intr_high")  # is the INTR line up?
layout.words("star lstar cstar fmask kernel_gs_base sysenter_cs sysenter_esp sysenter_eip tsc_offset tsc_aux pat apic_base misc_enable")
layout.words("no_huge")  # 1 where the model has no pages of 1 GiB
layout.words("tsc_runs", tsc_runs=-1)  # all ones; zero where a run is to be repeatable: then `tsc_offset` alone is the time
layout.words("dr0 dr1 dr2 dr3 dr6 dr7 mxcsr fcw fsw ftw fop fip fdp fcs fds top ignne", dr6=0xFFFF0FF0, dr7=0x400, mxcsr=0x1F80, fcw=0x37F)
layout.words("c1")  # that bit of the x87's status word, where it stands there
_BASE = layout.size
for _i, _name in enumerate("seg_selector seg_base seg_limit seg_attributes seg_low seg_high seg_write_low seg_write_high".split()):
    layout.file(_name, 8, 64, stride=64, at=_BASE + 8 * _i)
layout.size = _BASE + 8 * 64
layout.code_limit = ("seg_base", CS), ("seg_limit", CS)
_BASE = -(-layout.size // 32) * 32
layout.file("x", 16, 128, stride=32, at=_BASE)
layout.file("y", 16, 128, stride=32, at=_BASE + 16)  # the upper halves of ymm registers
layout.size = _BASE + 16 * 32
layout.above["x"] = "y"
layout.vector_control, layout.stack_control, layout.stack_status = "mxcsr", "fcw", "fsw"
layout.file("st", 8, 80, stride=16, at=-(-layout.size // 16) * 16)  # physical registers; ST(i) is physical (top + i) & 7
layout.size = layout.offset("st") + 128
layout.file("mm", 8, 64, stride=16, at=layout.offset("st"))
layout.file("st_exponent", 8, 16, stride=16, at=layout.offset("st") + 8)

# `seg_attributes`: bits 8..23 of a descriptor's second word: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, DB 14, G 15
ATTRIBUTE_S, ATTRIBUTE_P, ATTRIBUTE_L, ATTRIBUTE_DB, ATTRIBUTE_G = 1 << 4, 1 << 7, 1 << 13, 1 << 14, 1 << 15
