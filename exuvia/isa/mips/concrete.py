"""The processor in plain Python (dsl/processor.py): exceptions that Python raises, interrupts, Count and Compare, reset.

What a text leaves to `rare/` finds it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exuvia.dsl import processor
from exuvia.dsl.processor import Rare, Registers
from exuvia.isa.mips.exceptions import BOOT_BASE, CODE, GENERAL_VECTOR, INTERRUPT_VECTOR
from exuvia.isa.mips.state import (
    ADEL,
    ADES,
    BD,
    BEV,
    BIG,
    CE,
    CE_SHIFT,
    COUNT_NS,
    DC,
    ERL,
    EXC_CODE,
    EXL,
    FR,
    GPR,
    IBE,
    IE,
    IM,
    INT,
    IV,
    KSU,
    NEVER,
    NMI,
    SM,
    SR,
    TI,
    TIMER_LINE,
    TLB_MOST,
    TS,
    VPN2,
    WIDE_FPU,
    layout,
)  # fmt: skip
from exuvia.isa.mips.tlb import IS_FETCH, NOWHERE, REFILL

if TYPE_CHECKING:
    from exuvia.isa.mips.cpus import CpuModel

RESET_VECTOR = 0xBFC0_0000
WORD_MASK = 0xFFFF_FFFF


class Fault(processor.Fault):
    """An exception of the processor by Cause.ExcCode. `address` is what BadVAddr gets; `walk` says how a translation failed, as the word
    `walk_error` has it; `ce` is the coprocessor that is not usable."""

    def __init__(self, code: int, address: int | None = None, walk: int = 0, ce: int = 0) -> None:
        super().__init__(f"exception {code}" + (f" at {address:#x}" if address is not None else ""))
        self.code, self.address, self.walk, self.ce = code, address, walk, ce


rare = Rare()


class Processor(processor.Processor):
    """Registers by name over the state's bytes (`exuvia.isa.mips.state.layout`): `cpu.status`, `cpu.r[3]`, `cpu.tlb_lo0[5]`."""

    layout = layout
    rare = rare

    def __init__(self, state: memoryview, model: CpuModel) -> None:
        super().__init__(state, model)
        d = self.__dict__
        d["timer"], d["nmi"] = None, False

    model: CpuModel
    r: Registers
    tlb_hi: Registers
    tlb_care: Registers
    f: Registers
    fw: Registers
    status: int
    cause: int
    lines: int
    then: int
    context: int
    entryhi: int
    ebase: int
    clock: Any  # virtual time, which the machine gives (vcpu/clock.py)
    machine: Any
    timer: Any  # for Compare
    nmi: bool
    halted: bool

    def perform(self, name: str, args: tuple[int, ...], here: int) -> None:
        """What an instruction left to Python; behind a delay slot it goes on where `then` says."""
        super().perform(name, args, here)
        self.pc &= WORD_MASK

    # -- exceptions
    def fault(self, fault: processor.Fault, here: int) -> None:
        """Deliver an exception of the instruction at `here` (vol. III, 6.2; exceptions.py has the native one)."""
        assert isinstance(fault, Fault)
        if fault.address is not None:
            self.badvaddr = fault.address
        if fault.walk and fault.code not in (ADEL, ADES):
            assert fault.address is not None
            self.context = self.context & 0xFF80_0000 | fault.address >> 9 & 0x7F_FFF0
            self.entryhi = self.entryhi & ~VPN2 | fault.address & VPN2
        slot = bool(fault.walk & IS_FETCH) and fault.address != here
        refill = bool(fault.walk & REFILL) and not self.status & EXL
        self.exception(fault.code, here, 0 if refill else GENERAL_VECTOR, fault.ce, slot)

    def exception(self, code: int, here: int, offset: int, ce: int = 0, slot: bool = False) -> None:
        """Go to the handler at `offset` from the vectors' base."""
        cause = self.cause & ~(EXC_CODE | CE) | code << 2 | ce << CE_SHIFT
        if not self.status & EXL:
            self.epc = here - 4 & WORD_MASK if self.then else here
            cause = cause & ~BD | (BD if self.then or slot else 0)
        self.cause = cause
        self.then = 0
        self.status |= EXL
        self.pc = (BOOT_BASE if self.status & BEV else self.ebase & 0xFFFF_F000) + offset
        self.update_mode()

    def page_fault(self, linear: int) -> Fault:
        """Why the walk found no translation."""
        error = self.walk_error
        return Fault(error & CODE, linear, error)

    def fetch_fault(self, linear: int) -> Fault:
        """Code where neither RAM nor ROM is: the bus answers with an error (vol. III, 6.2.14)."""
        return Fault(IBE)

    # -- interrupts
    @property
    def asked(self) -> int:
        """The interrupts that are requested and not masked, as bits of Cause.IP."""
        return (self.cause | self.lines) & self.status & IM

    def signal(self, line: str, level: bool) -> None:
        """Drive an input line: ip2 to ip7, nmi."""
        if line == "nmi":
            self.nmi = self.nmi or level
        else:
            bit = 1 << 8 + int(line[2])
            self.lines = self.lines | bit if level else self.lines & ~bit
        if self.nmi or level and self.asked:
            self.halted = False
        if level:
            self.attention(True)

    def input_arrived(self) -> None:
        """What a call of semihosting waits for."""
        self.halted = False
        self.machine.attend(self)

    def between(self) -> bool:
        """Take an interrupt that is welcome; native code looks again whether one is when it lets them in."""
        self.welcome = 0
        self.attention(False)
        if self.nmi:
            self.nmi = False
            self.take_nmi()
        elif (asked := self.asked) and self.status & (IE | EXL | ERL) == IE:
            self.halted = False
            self.exception(INT, self.pc, self.interrupt_offset(asked))
        return True

    def interrupt_offset(self, asked: int) -> int:
        """Where the handler of an interrupt is (vol. III, 6.1.1): of its own where they are vectored."""
        if not self.cause & IV:
            return GENERAL_VECTOR
        spacing = self.intctl & 0x3E0
        if not spacing or self.status & BEV:
            return INTERRUPT_VECTOR
        return INTERRUPT_VECTOR + spacing * (asked.bit_length() - 9)

    def take_nmi(self) -> None:
        """Vol. III, 6.2.4."""
        self.halted = False
        self.errorepc = self.pc
        self.status = self.status & ~(SR | TS) | BEV | NMI | ERL
        self.pc = RESET_VECTOR
        self.update_mode()
        self.flush_tlb(True)

    # -- Count and Compare
    @property
    def ticks(self) -> int:
        """Count as software reads it."""
        passed: int = 0 if self.cause & DC else self.clock.now() // COUNT_NS
        return self.count_offset + passed & WORD_MASK

    def arm(self) -> None:
        """Have the timer ring when Count comes to Compare."""
        if self.timer is None:
            self.timer = self.clock.timer(self.ring)
        if self.cause & DC:
            self.timer.cancel()
            self.ring_at = NEVER
            return
        now = self.clock.now() // COUNT_NS
        left = (self.compare - self.count_offset - now) & WORD_MASK or 1 << 32
        self.ring_at = (now + left) * COUNT_NS
        self.timer.set(self.ring_at)

    def ring(self) -> None:
        """Count is Compare."""
        self.lines |= TI
        self.signal(f"ip{TIMER_LINE}", True)
        self.arm()

    # -- modes
    @property
    def user(self) -> bool:
        """Is it neither in kernel mode nor in supervisor mode?"""
        return self.status & (EXL | ERL) == 0 and self.status & KSU not in (0, SM)

    def update_mode(self) -> None:
        """After any change of Status: the words by which engines choose code and TLB."""
        status = self.status
        self.mode = (BIG if self.model.big else 0) | (WIDE_FPU if status & FR else 0)
        kernel = status & (EXL | ERL) or not status & KSU
        self.switch_tlb(1 if kernel else 2 if status & KSU == SM else 0)

    # -- start
    def reset(self) -> None:
        """Cold reset (vol. III, 6.2.2): everything the architecture declares, and what the model says of itself."""
        super().reset()
        for name, value in self.model.words().items():
            setattr(self, name, value)
        for i in range(TLB_MOST):
            self.tlb_hi[i] = self.tlb_care[i] = NOWHERE
        self.random = self.tlb_size - 1
        self.status = BEV | ERL
        self.ebase = 0x8000_0000 | self.model.index
        self.pc = RESET_VECTOR
        self.nmi = False
        if self.timer is not None:
            self.timer.cancel()
        self.update_mode()
        self.flush_tlb(True)

    def enter(self, entry: Any) -> None:
        """Take the state in which a loaded image begins: `entry.pc` and `entry.registers` by name, with or without `$`."""
        for name, value in entry.registers.items():
            self.r[GPR.index(name)] = value & WORD_MASK
        self.pc = entry.pc & WORD_MASK
        self.update_mode()
        self.flush_tlb(True)

    def describe(self) -> str:
        """The registers, as -d cpu_reset and the monitor show them."""
        lines = [" ".join(f"{GPR[i]:>4}={self.r[i]:08x}" for i in range(row, row + 8)) for row in range(0, 32, 8)]
        lines.append(f"  pc={self.pc:08x}   hi={self.hi:08x}   lo={self.lo:08x} then={self.then & WORD_MASK:08x}")
        lines.append(f"status={self.status:08x} cause={self.cause | self.lines:08x} epc={self.epc:08x} errorepc={self.errorepc:08x}")
        lines.append(f"badvaddr={self.badvaddr:08x} entryhi={self.entryhi:08x} context={self.context:08x} fcsr={self.fcsr:08x}")
        return "\n".join(lines)
