"""Fences, cache lines and PAUSE (SDM vol. 2, LFENCE, MFENCE, SFENCE, CLFLUSH, PAUSE)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op


def fence(rows: str, name: str, feature: str) -> None:
    @op(rows, name, feature=feature)
    def run(cpu: Cpu) -> None:
        """Loads are done in order, and so are stores (SDM vol. 3, 8.2.2)."""


fence("NP 0F AE =E8+i", "lfence", "sse2")
fence("NP 0F AE =F8+i", "sfence", "sse")


@op("NP 0F AE =F0+i", feature="sse2")
def mfence(cpu: Cpu) -> None:
    """Loads are done after the stores that stand before them."""
    cpu.effect("fence", 0)


@op("F3 90")
def pause(cpu: Cpu) -> None:
    """A hint that this loop waits for another processor."""
    with when(cpu.others != 0):
        cpu.effect("relax", 0)


@op("NP 0F AE/7 Mb", feature="clflush")
def clflush(cpu: Cpu, line: Any) -> None:
    """There is no cache to flush; an address that may not be read faults."""
    line.read()
