"""RDRAND and RDSEED: the host's random numbers (SDM vol. 1, 7.3.17)."""

from __future__ import annotations

import secrets

from exuvia.isa.x86.concrete import Processor, rare


@rare
def random(cpu: Processor, register: int, width: int) -> None:
    """`width` bits to the general register with this number; 32 bits clear the upper half. CF, that a number was there, is the text's."""
    value = secrets.randbits(width)
    cpu.gpr[register] = value if width >= 32 else cpu.gpr[register] & ~0xFFFF | value
