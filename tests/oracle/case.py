"""What a test case for the host's processor is, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW = 0x2000_0000
"""Virtual address of the memory that a case sees; the pages before and after it are not mapped."""
WINDOW_SIZE = 3 * 4096
CODE = 0x1000_0800
"""Virtual address of a case's first byte; the page around it is filled with INT3 (CC), so branches have somewhere to land."""
CODE_PAGE = CODE & ~0xFFF
CODE_LIMIT = 256
"""Most bytes of code in one case."""
GPR = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
FXSAVE_SIZE = 512
UPPER_SIZE = 256
FXSAVE_DEFAULT = bytes.fromhex("7f03") + bytes(22) + bytes.fromhex("801f0000ffff0000") + bytes(480)
"""FXSAVE image after FNINIT with MXCSR 1F80 (SDM vol. 1, 10.5.1)."""


@dataclass(slots=True)
class Case:
    """Bytes to run and the whole user-visible state before them."""

    code: bytes
    mode: int = 64
    """64, or 32: compatibility mode with flat segments; then only the low halves of the first eight registers count."""
    gprs: list[int] = field(default_factory=lambda: [0] * 16)
    rflags: int = 0x202
    fxsave: bytes = FXSAVE_DEFAULT
    """512 bytes as FXSAVE64 writes them."""
    memory: bytes = bytes(WINDOW_SIZE)
    """WINDOW_SIZE bytes, at WINDOW."""
    upper: bytes = bytes(UPPER_SIZE)
    """The upper halves of YMM0 to YMM15, where the host has them."""


@dataclass(slots=True, frozen=True)
class Fault:
    """A fault that the case raised."""

    signal: int
    """Linux signal number; SIGKILL when the case never ended or took its process down."""
    vector: int
    """x86 exception vector, -1 when the process died of it."""
    error: int
    """Error code as pushed by the processor."""
    address: int
    """CR2 for a page fault."""


@dataclass(slots=True)
class Result:
    """The state after a case; at a fault, the state that the fault handler would see."""

    gprs: list[int]
    rflags: int
    rip: int
    """Where execution stood: behind the code, at a branch's target, or at the faulting instruction (behind it for a trap)."""
    fxsave: bytes
    memory: bytes
    fault: Fault | None
    upper: bytes = bytes(UPPER_SIZE)
