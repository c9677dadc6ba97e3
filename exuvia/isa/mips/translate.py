"""Where an address leads, for a person who looks: by its segment or by the TLB, whatever the mode allows (vol. III, chapter 4)."""

from collections.abc import Callable
from typing import Any

from exuvia.isa.mips.state import ASID, ERL, LO_V, VPN2


def translate(cpu: Any, linear: int, read: Callable[[int, int], int]) -> int | None:
    """The physical address, None where nothing is mapped. `cpu` has the registers of coprocessor 0; there are no tables to `read`."""
    linear &= 0xFFFF_FFFF
    if linear >> 30 == 2:  # kseg0 and kseg1
        return linear & 0x1FFF_FFFF
    if cpu.status & ERL and linear < 1 << 31:
        return linear
    what = linear & VPN2 | cpu.entryhi & ASID
    for i in range(cpu.tlb_size):
        if not (cpu.tlb_hi[i] ^ what) & cpu.tlb_care[i]:
            inside = cpu.tlb_mask[i] >> 1 | 0xFFF
            lo = (cpu.tlb_lo1 if linear & inside + 1 else cpu.tlb_lo0)[i]
            return ((lo >> 6) << 12 & ~inside & 0xFFFF_F000 | linear & inside) if lo & LO_V else None
    return None
