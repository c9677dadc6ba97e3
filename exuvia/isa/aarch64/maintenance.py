"""SYS instructions: translation lookaside buffers, caches, address translation (DDI 0487, C5.3, C5.5, D8.14)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import MAINTENANCE, ZEROES, Cpu, leave, misaligned, undefined
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.paging import HCR_DC, stage1_on
from exuvia.isa.aarch64.system import HCR_TDZ, SCTLR_DZE, SCTLR_UCI, trapped, trapped_to_el2

Text = Callable[[Cpu], None]
HCR_TSW, HCR_TPC, HCR_TPU, HCR_TTLB = (1 << i for i in (22, 23, 24, 25))
PAGE, SPACE, ALL = range(3)  # what of the TLBs goes: rare.invalidate has these too


def system(op1: int, n: int, m: int, op2: int, name: str, **facts: object) -> Callable[[Text], Text]:
    """A SYS instruction by its own name."""
    return op(f"1101010100 0 01 {op1:03b} {n:04b} {m:04b} {op2:03b} Rt", name, w=64, reads="Rt", **facts)


# TLBI: our TLBs hold one address space and one regime at a time; an operation on more of them than was meant is harmless
def address(cpu: Cpu) -> Value:
    """The page in bits 43:0."""
    return (cpu.X("Rt") << 12).low(56).sext(64)


def forget(cpu: Cpu, what: int, linear: Value | int = 0) -> None:
    """Of this processor's TLBs."""
    if what == PAGE:
        cpu.effect("invalidate_page", 0, lift(linear, 64))
    else:
        cpu.effect("flush_tlb", 0, lift(int(what == ALL), 64))


TLBI = {
    (0, 0): ("vmalle1", ALL), (0, 1): ("vae1", PAGE), (0, 2): ("aside1", SPACE), (0, 3): ("vaae1", PAGE), (0, 5): ("vale1", PAGE),
    (0, 7): ("vaale1", PAGE), (4, 0): ("alle2", ALL), (4, 1): ("vae2", ALL), (4, 4): ("alle1", ALL), (4, 5): ("vale2", ALL),
    (4, 6): ("vmalls12e1", ALL),
}  # fmt: skip


def invalidate(op1: int, m: int, op2: int, name: str, what: int, shared: bool) -> None:
    """TLBI: `shared` means the other processors too."""

    @system(op1, 8, m, op2, "tlbi", ends=True, asm=name + (", {Rt}" if what == PAGE or "vae" in name or "asid" in name else ""))
    def run(cpu: Cpu) -> None:
        if cpu.el0:
            return undefined()
        if op1 == 4:
            with when(cpu.el == 1):
                undefined()
        else:
            trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_TTLB) != 0)
        linear = address(cpu) if what == PAGE else lift(0, 64)
        if shared:
            with when(cpu.others != 0):
                leave("invalidate", lift(what, 64), linear)
        forget(cpu, what, linear)


for (_op1, _op2), (_name, _what) in TLBI.items():
    invalidate(_op1, 7, _op2, _name, _what, False)
    invalidate(_op1, 3, _op2, _name + "is", _what, True)
for _m, _shared in ((0, True), (4, False)):
    for _op2, _name in ((1, "ipas2e1"), (5, "ipas2le1")):
        invalidate(4, _m, _op2, _name + "is" * _shared, ALL, _shared)


# caches: there are none, and code that was written is found by its page
def nothing(op1: int, m: int, op2: int, name: str) -> None:
    """By set and way, or of everything."""

    @system(op1, 7, m, op2, name.split()[0], asm=name.split()[1])
    def run(cpu: Cpu) -> None:
        if cpu.el0:
            return undefined()
        trapped_to_el2(cpu, (cpu.hcr_el2 & (HCR_TPU if name.startswith("ic") else HCR_TSW)) != 0)


for _m, _op2, _name in ((1, 0, "ic ialluis"), (5, 0, "ic iallu"), (6, 2, "dc isw,"), (10, 2, "dc csw,"), (14, 2, "dc cisw,")):
    nothing(0, _m, _op2, _name)


def by_address(op1: int, m: int, op2: int, name: str, **facts: object) -> None:
    """A line by its address, which must be readable."""

    @system(op1, 7, m, op2, name.split()[0], asm=name.split()[1] + ", {Rt}", **facts)
    def run(cpu: Cpu) -> None:
        if cpu.el0 and op1 != 3:
            return undefined()
        trapped(cpu, cpu.el0 and (cpu.sctlr_el1 & SCTLR_UCI) == 0)
        trapped_to_el2(cpu, (cpu.hcr_el2 & (HCR_TPU if name in ("ic ivau", "dc cvau") else HCR_TPC)) != 0)
        cpu.effect("translate", 64, cpu.X("Rt").n, attr=["r", 1, MAINTENANCE])


by_address(0, 6, 1, "dc ivac")
for _m, _name in ((10, "dc cvac"), (11, "dc cvau"), (14, "dc civac")):
    by_address(3, _m, 1, _name)
by_address(3, 12, 1, "dc cvap", feature="dcpop")
by_address(3, 5, 1, "ic ivau")


@system(3, 7, 4, 1, "dc", asm="zva, {Rt}")
def dc_zva(cpu: Cpu) -> None:
    """Zeros to 64 bytes."""
    trapped(cpu, cpu.el0 and (cpu.sctlr_el1 & SCTLR_DZE) == 0)
    trapped_to_el2(cpu, (cpu.hcr_el2 & HCR_TDZ) != 0)
    line = cpu.X("Rt") & ~63
    if cpu.strict:  # without a translation all memory is a device's
        with when(~stage1_on(cpu, cpu.el == 2) & ((cpu.hcr_el2 & HCR_DC) == 0)):
            misaligned(cpu, line, True)
    parts = [cpu.memory(line + 16 * i, 128, what=ZEROES).writable() for i in range(4)]
    for part in parts:
        part.set(0)


# AT
for _op1, _m, _op2, _name in (
    (0, 8, 0, "s1e1r"), (0, 8, 1, "s1e1w"), (0, 8, 2, "s1e0r"), (0, 8, 3, "s1e0w"), (4, 8, 0, "s1e2r"), (4, 8, 1, "s1e2w"),
    (4, 8, 4, "s12e1r"), (4, 8, 5, "s12e1w"), (4, 8, 6, "s12e0r"), (4, 8, 7, "s12e0w"),
):  # fmt: skip

    @system(_op1, 7, _m, _op2, "at", ends=True, asm=_name + ", {Rt}")
    def translate(cpu: Cpu) -> None:
        if cpu.el0:
            return undefined()
        leave("translate_address", cpu.instruction, cpu.X("Rt"))
