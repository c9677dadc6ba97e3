"""Where a linear address leads, for a person who looks: a page walk that checks no rights and changes nothing (SDM vol. 3, chapter 4)."""

from collections.abc import Callable
from typing import Any

from exuvia.isa.x86.paging import ADDRESS, PS, P
from exuvia.isa.x86.state import CR0_PG, CR4_PAE, CR4_PSE, EFER_LMA


def translate(cpu: Any, linear: int, read: Callable[[int, int], int]) -> int | None:
    """The physical address, None where nothing is mapped. `read(address, size)` reads physical memory; `cpu` has cr0, cr3, cr4, efer."""
    if not cpu.cr0 & CR0_PG:
        return linear & 0xFFFFFFFF
    shifts: tuple[int, ...]
    if cpu.efer & EFER_LMA:
        if linear >> 47 not in (0, 0x1FFFF):  # not canonical
            return None
        shifts, width, base, size = (39, 30, 21, 12), 9, cpu.cr3 & ADDRESS, 8
    elif cpu.cr4 & CR4_PAE:
        linear &= 0xFFFFFFFF
        shifts, width, base, size = (30, 21, 12), 9, cpu.cr3 & 0xFFFFFFE0, 8
    else:
        linear &= 0xFFFFFFFF
        shifts, width, base, size = (22, 12), 10, cpu.cr3 & 0xFFFFF000, 4
    for shift in shifts:
        entry = read(base + (linear >> shift & (1 << width) - 1) * size, size)
        if not entry & P:
            return None
        inside = (1 << shift) - 1
        if shift == 12 or (entry & PS and shift <= 30 and (shift != 22 or cpu.cr4 & CR4_PSE) and (shift != 30 or len(shifts) == 4)):
            if shift == 22:  # PSE-36: bits 20:13 are address bits 39:32
                return (entry & 0xFFC00000 | (entry >> 13 & 0xFF) << 32) + (linear & inside)
            return (entry & ADDRESS & ~inside) + (linear & inside)
        base = entry & (ADDRESS if size == 8 else 0xFFFFF000)
    return None
