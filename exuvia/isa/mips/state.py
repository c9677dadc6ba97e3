"""The registers of a MIPS processor as they lie in memory (MIPS32 Architecture For Programmers, vol. I chapter 4; vol. III chapter 9).

General registers are 64 bits of memory wherever the architecture has 32: the upper half is zero there, and a copy of bit 31 on MIPS64.
"""

from exuvia.dsl.state import Layout

GPR = "zero at v0 v1 a0 a1 a2 a3 t0 t1 t2 t3 t4 t5 t6 t7 s0 s1 s2 s3 s4 s5 s6 s7 t8 t9 k0 k1 gp sp fp ra".split()
RA = 31
SINK = 32  # what is written to register 0 goes to a register of its own, so that 0 stays zero

# exceptions: Cause.ExcCode (vol. III, table 9.33)
INT, MOD, TLBL, TLBS, ADEL, ADES, IBE, DBE, SYS, BP, RI, CPU, OV, TR = range(14)
FPE = 15

# Status (vol. III, 9.21)
IE, EXL, ERL, SM, UM = (1 << i for i in range(5))
KSU = SM | UM
IM = 0xFF00
NMI, SR, TS, BEV = (1 << i for i in (19, 20, 21, 22))
RE, FR, RP = (1 << i for i in (25, 26, 27))
CU0, CU1 = 1 << 28, 1 << 29

# Cause (vol. III, 9.26). The hardware's interrupt lines are in the word `lines`, which only Python writes.
EXC_CODE = 0x7C
IP_SOFTWARE = 0x300
WP, IV, PCI, DC, TI, BD = (1 << i for i in (22, 23, 26, 27, 30, 31))
CE_SHIFT = 28
CE = 3 << CE_SHIFT
TIMER_LINE = 7  # IntCtl.IPTI

# EntryHi, EntryLo (vol. III, 9.5, 9.15)
ASID = 0xFF
VPN2 = 0xFFFF_E000
LO_G, LO_V, LO_D = 1, 2, 4
ENTRYLO = 0x3FFF_FFFF
PAGE_MASK = 0x1FFF_E000  # pages of up to 256 MiB

# FCSR (vol. I, 5.6.3): Cause, Enables and Flags have Inexact, Underflow, Overflow, Zero divide, Invalid from the lowest bit on
F_FLAGS, F_ENABLES, F_CAUSE = 2, 7, 12  # where they begin
F_FS, F_E = 1 << 24, 1 << 17
FCSR_WRITABLE = 0xFF83_FFFF

KSEG0 = 0x8000_0000  # where the half of the address space begins that is the kernel's
NEVER = (1 << 64) - 1
COUNT_NS = 10  # Count runs at 100 MHz, half of the processor's clock
TLB_MOST = 64  # entries that a model may have

# Modes: what a block's meaning depends on. Bit 0 is big-endian, bit 1 is Status.FR.
MODES = 4
BIG, WIDE_FPU = 1, 2

layout = Layout()
layout.routines += ["nullify"]
layout.file("r", 33, 64)
layout.zeros.add(("r", 0))
layout.sinks.add(("r", SINK))
layout.words("hi lo")
layout.delayed = "then"
layout.passing = "then", "taken"
layout.words("then taken")  # a jump whose delay slot runs: where to (see `MARK`), whether the branch is taken
MARK = 1 << 32
"""In `then`: so that a jump to address 0 is one. What is above an address is cut off."""
layout.words("ll_bit ll_address ll_value")
layout.words("tlb_index random wired entrylo0 entrylo1 context pagemask hwrena badvaddr entryhi compare status")
layout.words("intctl srsctl cause lines epc ebase")
layout.words("config userlocal debug depc errctl taglo datalo taghi datahi errorepc desave")
layout.words("count_offset")  # Count is the virtual time in its ticks plus this; while Cause.DC stops it, this alone
layout.words("ring_at", ring_at=NEVER)  # the virtual time at which Count comes to Compare
layout.words("welcome")  # set where an instruction let an interrupt in that waits
layout.attention["welcome"] = 1
# what the processor model says, for the texts
layout.words("prid config1 config2 config3 config7 tlb_size status_writable fir")
layout.file("tlb_hi", TLB_MOST, 64)  # VPN2 and ASID
layout.file("tlb_care", TLB_MOST, 64)  # which bits of those an address and the ASID must have
layout.file("tlb_mask", TLB_MOST, 64)
layout.file("tlb_lo0", TLB_MOST, 64)
layout.file("tlb_lo1", TLB_MOST, 64)
layout.file("old_hi", TLB_MOST, 64)  # entries that TLBWR replaced, which engines still remember
layout.file("old_care", TLB_MOST, 64)
layout.words("olds old_global probed")  # how many, whether one of them is global, whether Index is of an entry that TLBP found
layout.words("fcsr fp_host fp_last fp_a fp_b fp_c", fp_host=0x1F80)  # see fpu_host.py
layout.vector_control = "fp_host"
# Floating point registers: 32 of 32 bits, of which an even and the next make one of 64; or, with Status.FR, 32 of 64 bits.
# Changing FR makes their contents unpredictable (vol. I, 5.5), so each has its own place.
layout.file("f", 34, 32, stride=4)
layout.file("fd", 32, 64, stride=4, at=layout.offset("f"))
layout.size = -(-layout.size // 8) * 8
layout.file("fw", 32, 64)


def mode_facts(mode: int) -> dict[str, bool]:
    """big: the byte order; wide: 64-bit floating point registers."""
    return dict(big=bool(mode & BIG), wide=bool(mode & WIDE_FPU))
