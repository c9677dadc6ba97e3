"""MXCSR (SDM vol. 1, 10.2.3): on hosts that compute as the guest does, part of it lies in the host's own word while guest code runs."""

from __future__ import annotations

from exuvia.dsl.hostfloats import set_vector_control, vector_control
from exuvia.dsl.values import Value
from exuvia.isa.x86.cpu import Cpu

MASK = 0xFFFF
"""The bits that exist."""
MASKED = 0x1F80
"""All exceptions masked, as a processor begins."""
FLAGS = 0x3F


def current(cpu: Cpu) -> Value:
    """The word with the exceptions that only the host knows of yet."""
    word: Value = cpu.mxcsr | (vector_control() & FLAGS).zext(64)
    return word


def load(cpu: Cpu, word: Value) -> None:
    """Replace it; nothing may fault afterwards."""
    cpu.mxcsr = word
    set_vector_control(word.low(32) & ~(MASKED | FLAGS) | MASKED)
