"""ENTER with nested frames (SDM vol. 1, 6.6; vol. 2, ENTER)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Processor, rare
from exuvia.isa.x86.state import SS


@rare
def nested_enter(cpu: Processor, size: int, depth: int, n: int) -> None:
    """Make a frame of `size` bytes at nesting level `depth`, operands of n bytes. Every access is tried before anything changes."""
    mask, width = cpu.stack_mask, (1 << 8 * n) - 1
    base, frame = cpu.gpr[5], cpu.gpr[4] - n & mask
    final = frame - depth * n - size & mask

    def at(offset: int, write: bool, length: int = n) -> int:
        return cpu.segment_linear(SS, offset & mask, length, write)

    for i in range(1, depth):
        cpu.read(at(base - i * n, False), n)
    for i in range(depth + 1):
        cpu.write(at(frame - i * n, True), n, cpu.read(at(frame - i * n, True), n))
    cpu.write(at(final, True, 1), 1, cpu.read(at(final, True, 1), 1))
    cpu.write(at(frame, True), n, base & width)
    for i in range(1, depth):
        cpu.write(at(frame - i * n, True), n, cpu.read(at(base - i * n, False), n))
    cpu.write(at(frame - depth * n, True), n, frame & width)
    cpu.gpr[5] = base & ~0xFFFF | frame & 0xFFFF if n == 2 else frame & width
    cpu.gpr[4] = cpu.gpr[4] & ~0xFFFF | final if mask == 0xFFFF else final
