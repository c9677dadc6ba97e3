"""The processor in plain Python, for what is rare: interrupts, reset, timers, registers that are not there.

A text says `leave("name", args...)`; the engine calls `Processor.perform("name", args, here)`. The function of that name stands in `rare/`,
was registered by `@rare`, gets the processor and works on values. It raises `Fault`; what it wrote to registers before is taken back then.
An engine derives its class from `Processor` and implements memory and the few methods at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from exuvia.dsl.state import ISA_AT
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


class Fault(Exception):
    """An exception of the processor by Cause.ExcCode. `address` is what BadVAddr gets; `walk` says how a translation failed, as the word
    `walk_error` has it; `ce` is the coprocessor that is not usable."""

    def __init__(self, code: int, address: int | None = None, walk: int = 0, ce: int = 0) -> None:
        super().__init__(f"exception {code}" + (f" at {address:#x}" if address is not None else ""))
        self.code, self.address, self.walk, self.ce = code, address, walk, ce


RARE: dict[str, Callable[..., None]] = {}


def rare(f: Callable[..., None]) -> Callable[..., None]:
    """Register what `leave("NAME")` reaches; the name is the function's, without underscores at its ends."""
    name = f.__name__.strip("_")
    if name in RARE:
        raise ValueError(f"two functions are named {name}")
    RARE[name] = f
    return f


class Registers:
    """One file of the state, as a sequence: `cpu.gpr[31]`."""

    __slots__ = ("at", "mask", "size", "stride", "view")

    def __init__(self, view: memoryview, at: int, stride: int, width: int) -> None:
        self.view, self.at, self.stride, self.size, self.mask = view, at, stride, width // 8, (1 << width) - 1

    def __getitem__(self, i: int) -> int:
        at = self.at + i * self.stride
        return int.from_bytes(self.view[at : at + self.size], "little")

    def __setitem__(self, i: int, value: int) -> None:
        at = self.at + i * self.stride
        self.view[at : at + self.size] = (value & self.mask).to_bytes(self.size, "little")


_WORD = struct.Struct("<Q")
_WORDS = {name: f.offset for name, f in layout.files.items() if f.count == 1}
_FILES = {name: f for name, f in layout.files.items() if f.count > 1}
_KEPT = ("mode", "pc")  # engine words that a fault takes back


class Processor:
    """Registers by name over the state's bytes (`exuvia.isa.mips.state.layout`): `cpu.status`, `cpu.gpr[3]`, `cpu.tlb_lo0[5]`."""

    def __init__(self, state: memoryview, model: CpuModel) -> None:
        """`state` is writable and at least `layout.size` bytes long; it belongs to the engine."""
        d = self.__dict__
        d["state"] = state.cast("B")
        d["model"] = model
        for name, f in _FILES.items():
            d["gpr" if name == "r" else name] = Registers(self.state, f.offset, f.stride, f.width)
        d["here"], d["timer"], d["nmi"] = 0, None, False

    state: memoryview
    model: CpuModel
    gpr: Registers
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
    timer: Any  # for Compare
    nmi: bool
    halted: bool
    here: int  # where the instruction that is being done stands; `pc` is already the next one's

    def __getattr__(self, name: str) -> int:
        try:
            return int(_WORD.unpack_from(self.state, _WORDS[name])[0])
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _WORDS:
            _WORD.pack_into(self.state, _WORDS[name], value & 0xFFFFFFFF_FFFFFFFF)
        else:
            self.__dict__[name] = value

    # -- the way in
    def perform(self, name: str, args: tuple[int, ...], here: int) -> None:
        """What an instruction at `here` left to Python. A fault takes back its register writes and is delivered."""
        self.here = here
        saved = bytes(self.state[ISA_AT : layout.size]), [getattr(self, w) for w in _KEPT]
        try:
            RARE[name](self, *args)
        except Fault as fault:
            self.state[ISA_AT : layout.size] = saved[0]
            for w, v in zip(_KEPT, saved[1], strict=True):
                setattr(self, w, v)
            self.update_mode()
            self.fault(fault, here)

    # -- exceptions
    def fault(self, fault: Fault, here: int) -> None:
        """Deliver an exception of the instruction at `here` (vol. III, 6.2; exceptions.py has the native one)."""
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

    def page_fault(self, address: int) -> Fault:
        """Why the walk found no translation."""
        error = self.walk_error
        return Fault(error & CODE, address, error)

    def fetch_fault(self, address: int) -> Fault:
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
            self.interrupt_pending = 1
            self.deadline = 0

    def between(self) -> bool:
        """Take an interrupt that is welcome; native code looks again whether one is when it lets them in."""
        self.interrupt_pending = self.welcome = 0
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
    def count(self) -> int:
        """Count as software reads it."""
        ticks: int = 0 if self.cause & DC else self.clock.now() // COUNT_NS
        return self.count_offset + ticks & WORD_MASK

    def arm(self) -> None:
        """Have the timer ring when Count comes to Compare."""
        if self.timer is None:
            self.timer = self.clock.timer(self.ring)
        if self.cause & DC:
            self.timer.cancel()
            return
        left = (self.compare - self.count) & WORD_MASK or 1 << 32
        self.timer.set((self.clock.now() // COUNT_NS + left) * COUNT_NS)

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
        self.state[ISA_AT : layout.size] = bytes(layout.size - ISA_AT)
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
            self.gpr[GPR.index(name)] = value & WORD_MASK
        self.pc = entry.pc & WORD_MASK
        self.update_mode()
        self.flush_tlb(True)

    def describe(self) -> str:
        """The registers, as -d cpu_reset and the monitor show them."""
        lines = [" ".join(f"{GPR[i]:>4}={self.gpr[i]:08x}" for i in range(row, row + 8)) for row in range(0, 32, 8)]
        lines.append(f"  pc={self.pc:08x}   hi={self.hi:08x}   lo={self.lo:08x} then={self.then & WORD_MASK:08x}")
        lines.append(f"status={self.status:08x} cause={self.cause | self.lines:08x} epc={self.epc:08x} errorepc={self.errorepc:08x}")
        lines.append(f"badvaddr={self.badvaddr:08x} entryhi={self.entryhi:08x} context={self.context:08x} fcsr={self.fcsr:08x}")
        return "\n".join(lines)

    # -- what an engine implements
    def read(self, linear: int, size: int, system: bool = False) -> int:
        """Read 1, 2, 4 or 8 bytes, the first lowest, as the processor may now; Fault carries the address."""
        raise NotImplementedError

    def write(self, linear: int, size: int, value: int, system: bool = False) -> None:
        """Write likewise."""
        raise NotImplementedError

    def switch_tlb(self, index: int) -> None:
        """The TLB in force: 0 user, 1 kernel, 2 supervisor mode."""
        raise NotImplementedError

    def flush_tlb(self, everything: bool) -> None:
        """Forget translations; `everything` includes global pages."""
        raise NotImplementedError

    def halt(self) -> None:
        """Stop until an interrupt."""
        raise NotImplementedError

    def unknown(self, text: str) -> None:
        """Log what the guest asked for and we do not have."""
