"""The host's instructions as text, by capstone (the extra `profile`): LLVM's own disassembler is not in llvmlite."""

from __future__ import annotations

import platform
from typing import NamedTuple


class HostLine(NamedTuple):
    """An instruction: where in the code, how many bytes, its text."""

    at: int
    size: int
    text: str


def disassemble(code: bytes) -> list[HostLine] | None:
    """The code's instructions up to the first that is none, such as a constant behind it; None where capstone is not installed."""
    try:
        import capstone
    except ImportError:
        return None
    if platform.machine() == "aarch64":
        decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    else:
        decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return [HostLine(at, size, f"{name} {operands}".rstrip()) for at, size, name, operands in decoder.disasm_lite(code, 0)]
