"""PAUSE where several processors take turns: who waits for another lets it run."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Processor, rare


@rare
def pause(cpu: Processor) -> None:
    """End this processor's turn."""
    cpu.end_turn()
