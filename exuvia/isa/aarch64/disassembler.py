"""Instructions as text (DDI 0487, C6.2)."""

from __future__ import annotations

from exuvia.isa.aarch64.forms import Row


def disassemble(row: Row, variant: dict[str, int], fields: dict[str, int], mode: int, address: int) -> str:
    """One instruction from its record."""
    return f"{row.name} {fields['disp'] & 0xFFFFFFFF:08x}"
