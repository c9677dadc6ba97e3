"""Exceptions that plain Python raises, and the registry of plain-Python functions."""

from __future__ import annotations

from exuvia.dsl import processor
from exuvia.isa.aarch64.cpu import EC_SYSTEM, EC_UNKNOWN

rare = processor.Rare()


class Fault(processor.Fault):
    """A synchronous exception: class, syndrome, the address that FAR gets, whether it is EL2's."""

    def __init__(self, ec: int, iss: int = 0, address: int | None = None, el2: bool = False) -> None:
        super().__init__(f"exception class {ec:#x}, syndrome {iss:#x}")
        self.ec, self.iss, self.address, self.el2 = ec, iss, address, el2


def undefined() -> Fault:
    """The instruction is UNDEFINED."""
    return Fault(EC_UNKNOWN)


def trap(instruction: int, el2: bool = False) -> Fault:
    """The trap of an MSR, MRS or SYS instruction."""
    op0, op1, n, m, op2 = fields(instruction)
    direction = instruction >> 21 & 1
    return Fault(EC_SYSTEM, op0 << 20 | op2 << 17 | op1 << 14 | n << 10 | (instruction & 31) << 5 | m << 1 | direction, el2=el2)


def fields(instruction: int) -> tuple[int, int, int, int, int]:
    """op0, op1, CRn, CRm, op2 of a system instruction."""
    return instruction >> 19 & 3, instruction >> 16 & 7, instruction >> 12 & 15, instruction >> 8 & 15, instruction >> 5 & 7
