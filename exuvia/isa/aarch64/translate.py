"""Where an address leads, for a person who looks: stage 1 of EL1&0, without rights and without changing anything (DDI 0487, D8)."""

from collections.abc import Callable
from typing import Any

from exuvia.isa.aarch64.paging import ADDRESS, SCTLR_M


def translate(cpu: Any, linear: int, read: Callable[[int, int], int]) -> int | None:
    """The (intermediate) physical address, None where nothing is mapped. `read(address, size)` reads physical memory."""
    if not cpu.sctlr_el1 & SCTLR_M:
        return linear
    upper = linear >> 55 & 1
    tcr = cpu.tcr_el1
    size = max(tcr >> 16 & 63 if upper else tcr & 63, 16)
    granule = {1: 14, 2: 12, 3: 16}.get(tcr >> 30, 12) if upper else {0: 12, 1: 16, 2: 14}.get(tcr >> 14 & 3, 12)
    bits, stride = 64 - size, granule - 3
    if (linear ^ -upper) >> bits & (1 << 56 - bits) - 1:
        return None
    inside = linear & (1 << bits) - 1
    table = (cpu.ttbr1_el1 if upper else cpu.ttbr0_el1) & (1 << 48) - 2
    levels = -(-(bits - granule) // stride)
    for left in range(levels - 1, -1, -1):
        shift = granule + stride * left
        entry = read(table + (inside >> shift & (1 << stride) - 1) * 8, 8)
        if not entry & 1:
            return None
        if left == 0 or not entry & 2:
            span = (1 << shift) - 1
            return int(entry & ADDRESS & ~span | inside & span)
        table = entry & ADDRESS & ~((1 << granule) - 1)
    return None
