"""System registers that are words of the state, PSTATE's fields, hints (DDI 0487, C5, D19).

What is not here is plain Python's (rare.py): the rows at the end of this file leave there with the instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import EC_SYSTEM, EC_WFX, TO_EL2, Cpu, leave, raise_, undefined
from exuvia.isa.aarch64.debug import masks_changed
from exuvia.isa.aarch64.exceptions import choose_tlb, keep_stack_pointer, take_stack_pointer, welcome
from exuvia.isa.aarch64.flags import nzcv_word
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.paging import yes
from exuvia.isa.aarch64.state import DAIF, SPSR_DIT, SPSR_PAN
from exuvia.isa.aarch64.timers import EL0PCTEN, EL0PTEN, EL0VCTEN, EL0VTEN, EL1PCEN, EL1PCTEN, ENABLE, IMASK, ISTATUS

Text = Callable[[Cpu], None]
HCR_TWI, HCR_TWE, HCR_TID2, HCR_TACR, HCR_TVM, HCR_TDZ, HCR_TRVM, HCR_APK = (1 << i for i in (13, 14, 17, 21, 26, 28, 30, 40))
CPTR_TCPAC = 1 << 31
MEMORY_CONTROL = """sctlr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 esr_el1 far_el1 afsr0_el1 afsr1_el1 mair_el1 amair_el1 contextidr_el1""".split()
SCTLR_UMA, SCTLR_DZE, SCTLR_UCT, SCTLR_NTWI, SCTLR_NTWE, SCTLR_UCI = (1 << i for i in (9, 14, 15, 16, 18, 26))


def bits(encoding: str) -> str:
    """`3_0_C1_C0_0` as columns: op0's low bit, op1, CRn, CRm, op2."""
    op0, op1, n, m, op2 = (int(x.lstrip("C")) for x in encoding.split("_"))
    return f"1 {op0 & 1} {op1:03b} {n:04b} {m:04b} {op2:03b}"


def read(encoding: str, name: str, **facts: object) -> Callable[[Text], Text]:
    """MRS of a register."""
    return op(f"1101010100 1 {bits(encoding)} Rt", "mrs", w=64, system=name, asm="{Rt}, {system}", **facts)


def write(encoding: str, name: str, **facts: object) -> Callable[[Text], Text]:
    """MSR of a register."""
    return op(f"1101010100 0 {bits(encoding)} Rt", "msr", w=64, system=name, reads="Rt", asm="{system}, {Rt}", **facts)


def trapped(cpu: Cpu, condition: Value | bool) -> None:
    """The trap of an MSR, MRS or SYS instruction to EL1."""
    if condition is False:
        return
    raise_trap(cpu, lift(condition, 1), EC_SYSTEM)


def trapped_to_el2(cpu: Cpu, condition: Value) -> None:
    """Its trap from EL1 and EL0 to EL2."""
    raise_trap(cpu, (cpu.has_el2 != 0) & (cpu.el != 2) & condition, EC_SYSTEM | TO_EL2)


def raise_trap(cpu: Cpu, condition: Value, ec: int) -> None:
    """With the syndrome of such an instruction."""
    with when(condition):
        i = cpu.instruction.zext(64)
        iss = (i & 31) << 5 | ((i.u >> 5) & 7) << 17 | ((i.u >> 8) & 15) << 1 | ((i.u >> 12) & 15) << 10
        raise_(ec, iss | ((i.u >> 16) & 7) << 14 | ((i.u >> 19) & 3) << 20 | ((i.u >> 21) & 1))


def allowed(cpu: Cpu, encoding: str) -> bool:
    """Is the register there at this exception level? What is UNDEFINED is said here."""
    level = int(encoding.split("_")[1])
    if cpu.el0 and level != 3:
        undefined()
        return False
    if level == 4:
        with when(cpu.el == 1):
            undefined()
    return True


def known_to_el2(cpu: Cpu, word: str, writes: bool) -> None:
    """What HCR_EL2 and CPTR_EL2 trap of EL1's registers (D1.3.6)."""
    if word in MEMORY_CONTROL:
        trapped_to_el2(cpu, (cpu.hcr_el2 & (HCR_TVM if writes else HCR_TRVM)) != 0)
    elif word == "actlr_el1":
        trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_TACR) != 0)
    elif word == "csselr_el1":
        trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_TID2) != 0)
    elif word == "cpacr_el1":
        trapped_to_el2(cpu, (cpu.cptr_el2 & CPTR_TCPAC) != 0)
    elif word.startswith("ap"):
        trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_APK) == 0)


def register(
    encoding: str, word: str, before: Text | None = None, after: Text | None = None, mask: int = (1 << 64) - 1, feature: str = ""
) -> None:
    """A register that is a word; `before` and `after` are what a write does besides, before the word changes and when it has."""

    @read(encoding, word, feature=feature)
    def mrs(cpu: Cpu) -> None:
        if allowed(cpu, encoding):
            known_to_el2(cpu, word, False)
            cpu.set_X("Rt", cpu.get((word, 0, 64)))

    @write(encoding, word, ends=before is not None or after is not None, feature=feature)
    def msr(cpu: Cpu) -> None:
        if allowed(cpu, encoding):
            known_to_el2(cpu, word, True)
            if before is not None:
                before(cpu)
            cpu.put((word, 0, 64), cpu.X("Rt") & mask)
            if after is not None:
                after(cpu)


def everything_changes(cpu: Cpu) -> None:
    """What all translations depend on."""
    cpu.effect("flush_tlb", 0, lift(1, 64))


def tables_change(word: str, everything: bool) -> Text:
    """A register of tables: translations go where it becomes another, all of them or those that are not global."""

    def text(cpu: Cpu) -> None:
        with when(cpu.X("Rt") != cpu.get((word, 0, 64))):
            cpu.effect("flush_tlb", 0, lift(int(everything), 64))
            if word == "ttbr0_el1":
                cpu.met_guarded = cpu.met_guarded & ~1  # of EL0's guarded pages no translation is left

    return text


WORDS = """
3_0_C1_C0_1  actlr_el1    3_0_C1_C0_2  cpacr_el1   3_0_C5_C1_0 afsr0_el1   3_0_C5_C1_1  afsr1_el1   3_0_C5_C2_0  esr_el1
3_0_C6_C0_0  far_el1      3_0_C7_C4_0  par_el1     3_0_C10_C2_0 mair_el1   3_0_C10_C3_0 amair_el1   3_0_C13_C0_1 contextidr_el1
3_0_C13_C0_4 tpidr_el1    3_0_C14_C1_0 cntkctl_el1 3_0_C4_C0_1  elr_el1    3_0_C4_C0_0  spsr_el1    3_2_C0_C0_0  csselr_el1
3_3_C13_C0_2 tpidr_el0
3_4_C1_C0_1  actlr_el2    3_4_C1_C1_1  mdcr_el2    3_4_C1_C1_2  cptr_el2   3_4_C1_C1_3  hstr_el2    3_4_C1_C1_7  hacr_el2
3_4_C5_C1_0  afsr0_el2    3_4_C5_C1_1  afsr1_el2   3_4_C5_C2_0  esr_el2    3_4_C6_C0_0  far_el2     3_4_C6_C0_4  hpfar_el2
3_4_C10_C2_0 mair_el2     3_4_C10_C3_0 amair_el2   3_4_C13_C0_2 tpidr_el2  3_4_C14_C1_0 cnthctl_el2
3_4_C0_C0_0  vpidr_el2    3_4_C0_C0_5  vmpidr_el2  3_4_C4_C0_1  elr_el2    3_4_C4_C0_0  spsr_el2    3_4_C4_C1_0  sp_el1
3_0_C2_C1_0 apiakeylo_el1 3_0_C2_C1_1 apiakeyhi_el1 3_0_C2_C1_2 apibkeylo_el1 3_0_C2_C1_3 apibkeyhi_el1 3_0_C2_C2_0 apdakeylo_el1
3_0_C2_C2_1 apdakeyhi_el1 3_0_C2_C2_2 apdbkeylo_el1 3_0_C2_C2_3 apdbkeyhi_el1 3_0_C2_C3_0 apgakeylo_el1 3_0_C2_C3_1 apgakeyhi_el1
""".split()
for _encoding, _word in zip(WORDS[::2], WORDS[1::2]):
    register(_encoding, _word, feature=("pacg" if "ga" in _word else "paca") if _word.startswith("ap") else "")
register("3_0_C12_C0_0", "vbar_el1", mask=-1 << 11)
register("3_4_C12_C0_0", "vbar_el2", mask=-1 << 11)
register("3_0_C1_C0_0", "sctlr_el1", everything_changes, choose_tlb)
register("3_0_C2_C0_2", "tcr_el1", everything_changes)
for _encoding, _word in (("3_0_C2_C0_0", "ttbr0_el1"), ("3_0_C2_C0_1", "ttbr1_el1")):
    register(_encoding, _word, tables_change(_word, False))
for _encoding, _word in (
    ("3_4_C1_C0_0", "sctlr_el2"), ("3_4_C2_C0_0", "ttbr0_el2"), ("3_4_C2_C0_2", "tcr_el2"), ("3_4_C2_C1_0", "vttbr_el2"),
    ("3_4_C2_C1_2", "vtcr_el2"), ("3_4_C1_C1_0", "hcr_el2"),
):  # fmt: skip
    register(_encoding, _word, tables_change(_word, True), choose_tlb)
register("3_4_C14_C0_3", "cntvoff_el2", after=lambda cpu: leave("timers_change"))


@read("3_3_C13_C0_3", "tpidrro_el0")
def read_tpidrro(cpu: Cpu) -> None:
    cpu.set_X("Rt", cpu.tpidrro_el0)


@write("3_3_C13_C0_3", "tpidrro_el0")
def write_tpidrro(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.tpidrro_el0 = cpu.X("Rt")


@read("3_3_C0_C0_1", "ctr_el0")
def read_ctr(cpu: Cpu) -> None:
    trapped(cpu, cpu.el0 and (cpu.sctlr_el1 & SCTLR_UCT) == 0)
    trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_TID2) != 0)
    cpu.set_X("Rt", cpu.ctr_el0)


@read("3_3_C0_C0_7", "dczid_el0")
def read_dczid(cpu: Cpu) -> None:
    prohibited = (cpu.has_el2 != 0) & (cpu.el != 2) & ((cpu.hcr_el2 & HCR_TDZ) != 0)
    if cpu.el0:
        prohibited = prohibited | ((cpu.sctlr_el1 & SCTLR_DZE) == 0)
    cpu.set_X("Rt", yes(prohibited, 16) | 4)


@read("3_0_C0_C0_0", "midr_el1")
def read_midr(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.set_X("Rt", ((cpu.el == 1) & (cpu.has_el2 != 0)).choose(cpu.vpidr_el2, cpu.midr_el1))


@read("3_0_C0_C0_5", "mpidr_el1")
def read_mpidr(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.set_X("Rt", ((cpu.el == 1) & (cpu.has_el2 != 0)).choose(cpu.vmpidr_el2, cpu.mpidr_el1))


# the counter
def counter(cpu: Cpu) -> Value:
    """Virtual time in units of 16 ns (timers.py)."""
    return cpu.effect("virtual_time", 64).u >> 4


@read("3_3_C14_C0_1", "cntpct_el0")
def read_physical_counter(cpu: Cpu) -> None:
    trapped(cpu, cpu.el0 and (cpu.cntkctl_el1 & EL0PCTEN) == 0)
    trapped_to_el2(cpu, (cpu.cnthctl_el2 & EL1PCTEN) == 0)
    cpu.set_X("Rt", counter(cpu))


@read("3_3_C14_C0_2", "cntvct_el0")
def read_virtual_counter(cpu: Cpu) -> None:
    trapped(cpu, cpu.el0 and (cpu.cntkctl_el1 & EL0VCTEN) == 0)
    cpu.set_X("Rt", counter(cpu) - cpu.cntvoff_el2)


@read("3_3_C14_C0_0", "cntfrq_el0")
def read_frequency(cpu: Cpu) -> None:
    trapped(cpu, cpu.el0 and (cpu.cntkctl_el1 & (EL0PCTEN | EL0VCTEN)) == 0)
    cpu.set_X("Rt", cpu.cntfrq_el0)


# timers: what changes neither an output nor an alarm needs no Python (timers.py)
def timer(number: int, words: str, trap: int, count: Callable[[Cpu], Value]) -> None:
    """CTL as it is read, and CVAL; EL0 has them where CNTKCTL_EL1 says so, the physical one only where CNTHCTL_EL2 does."""
    ctl_word, cval_word = f"{words}_ctl_el0", f"{words}_cval_el0"

    def may(cpu: Cpu) -> None:
        trapped(cpu, cpu.el0 and (cpu.cntkctl_el1 & trap) == 0)
        if words == "cntp":
            trapped_to_el2(cpu, (cpu.cnthctl_el2 & EL1PCEN) == 0)

    @read(f"3_3_C14_C{number}_1", ctl_word)
    def read_ctl(cpu: Cpu) -> None:
        may(cpu)
        ctl = cpu.get((ctl_word, 0, 64))
        met = ((ctl & ENABLE) != 0) & (count(cpu).u >= cpu.get((cval_word, 0, 64)))
        with when(met):  # who sees it may count on the interrupt
            cpu.put_at("deadline", lift(0, 64), lift(0, 64))
        cpu.set_X("Rt", ctl | yes(met, ISTATUS))

    @read(f"3_3_C14_C{number}_2", cval_word)
    def read_cval(cpu: Cpu) -> None:
        may(cpu)
        cpu.set_X("Rt", cpu.get((cval_word, 0, 64)))

    if number == 3:  # the rest is in tick.py
        return

    @write(f"3_3_C14_C{number}_2", cval_word, ends=True)
    def write_cval(cpu: Cpu) -> None:
        may(cpu)
        with when((cpu.get((ctl_word, 0, 64)) & (ENABLE | IMASK)) == ENABLE):
            leave("write_system_register", cpu.instruction, cpu.X("Rt"))
        cpu.put((cval_word, 0, 64), cpu.X("Rt"))


timer(2, "cntp", EL0PTEN, counter)
timer(3, "cntv", EL0VTEN, lambda cpu: counter(cpu) - cpu.cntvoff_el2)


# the stack pointer and PSTATE
@read("3_0_C4_C1_0", "sp_el0")
def read_sp_el0(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    with when(cpu.spsel == 0):
        undefined()
    cpu.set_X("Rt", cpu.sp_el0)


@write("3_0_C4_C1_0", "sp_el0")
def write_sp_el0(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    with when(cpu.spsel == 0):
        undefined()
    cpu.sp_el0 = cpu.X("Rt")


def select_stack_pointer(cpu: Cpu, spsel: Value) -> None:
    """PSTATE.SP."""
    keep_stack_pointer(cpu, cpu.el, cpu.spsel)
    take_stack_pointer(cpu, cpu.el, spsel)
    cpu.spsel = spsel


@read("3_0_C4_C2_0", "spsel")
def read_spsel(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.set_X("Rt", cpu.spsel)


@write("3_0_C4_C2_0", "spsel")
def write_spsel(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    select_stack_pointer(cpu, cpu.X("Rt") & 1)


@op("1101010100 0 00 000 0100 CRm=4 101 11111", "msr", asm="spsel, {CRm}")
def spsel_immediate(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    select_stack_pointer(cpu, cpu.bits("CRm") & 1)


@read("3_0_C4_C2_2", "currentel")
def read_currentel(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.set_X("Rt", cpu.el << 2)


def masks_trapped(cpu: Cpu) -> None:
    """DAIF at EL0."""
    trapped(cpu, cpu.el0 and (cpu.sctlr_el1 & SCTLR_UMA) == 0)


def set_masks(cpu: Cpu, daif: Value) -> None:
    """An interrupt may come in now, software step be on."""
    cpu.daif = daif
    if not cpu.el0:
        masks_changed(cpu)
    welcome(cpu)


@read("3_3_C4_C2_1", "daif")
def read_daif(cpu: Cpu) -> None:
    masks_trapped(cpu)
    cpu.set_X("Rt", cpu.daif)


@write("3_3_C4_C2_1", "daif")
def write_daif(cpu: Cpu) -> None:
    masks_trapped(cpu)
    set_masks(cpu, cpu.X("Rt") & DAIF)


@op("1101010100 0 00 011 0100 CRm=4 110 11111", "msr", asm="daifset, {CRm}")
def daifset(cpu: Cpu) -> None:
    masks_trapped(cpu)
    cpu.daif = cpu.daif | cpu.bits("CRm") << 6


@op("1101010100 0 00 011 0100 CRm=4 111 11111", "msr", asm="daifclr, {CRm}")
def daifclr(cpu: Cpu) -> None:
    masks_trapped(cpu)
    set_masks(cpu, cpu.daif & ~(cpu.bits("CRm") << 6))


@read("3_3_C4_C2_0", "nzcv")
def read_nzcv(cpu: Cpu) -> None:
    cpu.set_X("Rt", nzcv_word(cpu))


@write("3_3_C4_C2_0", "nzcv")
def write_nzcv(cpu: Cpu) -> None:
    cpu.set_flags("nzcv", cpu.X("Rt").bits(31, 28))


@read("3_0_C4_C2_3", "pan", feature="pan")
def read_pan(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    cpu.set_X("Rt", yes(cpu.pan != 0, SPSR_PAN))


def set_pan(cpu: Cpu, pan: Value) -> None:
    """PSTATE.PAN chooses the TLB."""
    cpu.pan = pan
    choose_tlb(cpu)


@write("3_0_C4_C2_3", "pan", feature="pan", ends=True)
def write_pan(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    set_pan(cpu, cpu.X("Rt").bit(22).zext(64))


@op("1101010100 0 00 000 0100 CRm=4 100 11111", "msr", feature="pan", ends=True, asm="pan, {CRm}")
def pan_immediate(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    set_pan(cpu, cpu.bits("CRm") & 1)


@read("3_3_C4_C2_5", "dit", feature="dit")
def read_dit(cpu: Cpu) -> None:
    cpu.set_X("Rt", yes(cpu.dit != 0, SPSR_DIT))


@write("3_3_C4_C2_5", "dit", feature="dit")
def write_dit(cpu: Cpu) -> None:
    cpu.dit = cpu.X("Rt").bit(24).zext(64)


@op("1101010100 0 00 011 0100 CRm=4 010 11111", "msr", feature="dit", asm="dit, {CRm}")
def dit_immediate(cpu: Cpu) -> None:
    cpu.dit = cpu.bits("CRm") & 1


# hints
@op("11010101000000110010 CRm=4 op2=3 11111", "hint", asm="{hint}")
def hint(cpu: Cpu) -> None:
    """Those that are not known, or not needed, do nothing."""


@op("11010101000000110010 0000 001 11111", "yield")
def yield_(cpu: Cpu) -> None:
    with when(cpu.others != 0):
        cpu.effect("relax", 0)


def wait_trapped(cpu: Cpu, wfe: int) -> None:
    """WFI and WFE may be traps at EL0 and EL1."""
    iss = 0x1E << 20 | wfe
    if cpu.el0:
        with when((cpu.sctlr_el1 & (SCTLR_NTWE if wfe else SCTLR_NTWI)) == 0):
            raise_(EC_WFX, iss)
    with when((cpu.el != 2) & ((cpu.hcr_el2 & (HCR_TWE if wfe else HCR_TWI)) != 0)):
        raise_(EC_WFX | TO_EL2, iss)


@op("11010101000000110010 0000 010 11111")
def wfe(cpu: Cpu) -> None:
    """Events may come at any time: it waits as YIELD does."""
    wait_trapped(cpu, 1)
    with when(cpu.others != 0):
        cpu.effect("relax", 0)


@op("11010101000000110010 0000 011 11111", ends=True)
def wfi(cpu: Cpu) -> None:
    wait_trapped(cpu, 0)
    leave("wait")


# everything else
@op("1101010100 1 1 o0=1 op1=3 CRn=4 CRm=4 op2=3 Rt", "mrs", ends=True, asm="{Rt}, {system}")
def mrs(cpu: Cpu) -> None:
    leave("read_system_register", cpu.instruction)


@op("1101010100 0 1 o0=1 op1=3 CRn=4 CRm=4 op2=3 Rt", "msr", ends=True, reads="Rt", asm="{system}, {Rt}")
def msr(cpu: Cpu) -> None:
    leave("write_system_register", cpu.instruction, cpu.X("Rt"))


@op("11010100 000 imm16 000 10", ends=True, asm="{imm}")
def hvc(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    leave("hypervisor_call", cpu.imm)


@op("11010100 000 imm16 000 11", ends=True, asm="{imm}")
def smc(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    leave("secure_monitor_call", cpu.imm)
