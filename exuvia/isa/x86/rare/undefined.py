"""What the decoder knows no instruction for (SDM vol. 3, 6.15, interrupt 6)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, rare
from exuvia.isa.x86.state import UD


@rare
def undefined(cpu: Processor) -> None:
    """#UD; what the bytes were is logged once."""
    code = []
    for i in range(15):
        try:
            code.append(cpu.read(cpu.here + i, 1))
        except Fault:
            break
    text = bytes(code).hex(" ")
    cpu.unknown(f"undefined instruction: {text}")
    raise Fault(UD)
