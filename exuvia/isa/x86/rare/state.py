"""XSAVE, XSAVEOPT, XRSTOR: the x87 and SSE registers in memory (SDM vol. 1, 10.5, 13.7-13.9)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor, rare
from exuvia.isa.x86.state import GP

X87, SSE = 1, 2
MXCSR_MASK = 0xFFFF


def full_tags(cpu: Processor) -> int:
    """The abridged tag byte: a set bit is a register in use (`ftw` keeps the opposite)."""
    return ~cpu.ftw & 0xFF


def save_legacy(cpu: Processor, where: int, parts: int, wide: bool) -> None:
    """The 512-byte area; `wide` writes 64-bit pointers (REX.W)."""

    def put(at: int, size: int, v: int) -> None:
        cpu.write(where + at, size, v & (1 << 8 * size) - 1)

    if parts & X87:
        top = cpu.top & 7
        put(0, 2, cpu.fcw)
        put(2, 2, cpu.fsw & ~0x3800 | top << 11)
        put(4, 2, full_tags(cpu))
        put(6, 2, cpu.fop)
        put(8, 8, cpu.fip if wide else cpu.fip & 0xFFFFFFFF | (cpu.fcs & 0xFFFF) << 32)
        put(16, 8, cpu.fdp if wide else cpu.fdp & 0xFFFFFFFF | (cpu.fds & 0xFFFF) << 32)
        for i in range(8):
            v = cpu.st[top + i & 7]
            put(32 + 16 * i, 8, v)
            put(40 + 16 * i, 8, v >> 64)
    if parts & SSE:
        put(24, 8, cpu.mxcsr | MXCSR_MASK << 32)
        for i in range(16 if cpu.long64 else 8):
            put(160 + 16 * i, 8, cpu.x[i])
            put(168 + 16 * i, 8, cpu.x[i] >> 64)


def load_x87(cpu: Processor, where: int, wide: bool) -> None:
    """x87 registers from the legacy area."""
    status = cpu.read(where + 2, 2)
    cpu.fcw, cpu.fsw, cpu.top = cpu.read(where, 2), status & ~0x3800, status >> 11 & 7
    cpu.ftw = ~cpu.read(where + 4, 1) & 0xFF
    cpu.fop = cpu.read(where + 6, 2) & 0x7FF
    for name, segment, at in ("fip", "fcs", 8), ("fdp", "fds", 16):
        v = cpu.read(where + at, 8)
        setattr(cpu, name, v if wide else v & 0xFFFFFFFF)
        setattr(cpu, segment, 0 if wide else v >> 32 & 0xFFFF)
    for i in range(8):
        cpu.st[cpu.top + i & 7] = cpu.read(where + 32 + 16 * i, 8) | cpu.read(where + 40 + 16 * i, 2) << 64


def load_mxcsr(cpu: Processor, where: int) -> None:
    """MXCSR; reserved bits are #GP(0)."""
    v = cpu.read(where + 24, 4)
    if v & ~MXCSR_MASK:
        raise Fault(GP, 0)
    cpu.mxcsr = v


def load_sse(cpu: Processor, where: int) -> None:
    """xmm registers."""
    for i in range(16 if cpu.long64 else 8):
        cpu.x[i] = cpu.read(where + 160 + 16 * i, 8) | cpu.read(where + 168 + 16 * i, 8) << 64


def wanted(cpu: Processor) -> int:
    """EDX:EAX and XCR0: the parts that the instruction is about."""
    return (cpu.gpr[0] & 0xFFFFFFFF | (cpu.gpr[2] & 0xFFFFFFFF) << 32) & cpu.xcr0


@rare
def xsave(cpu: Processor, where: int, wide: int) -> None:
    """XSAVE and XSAVEOPT at linear address `where`, which is 64-byte aligned."""
    parts = wanted(cpu)
    header = cpu.read(where + 512, 8)
    save_legacy(cpu, where, parts, bool(wide))
    cpu.write(where + 512, 8, header & ~parts | parts)


@rare
def xrstor(cpu: Processor, where: int, wide: int) -> None:
    """XRSTOR; parts that the header lacks get their initial values."""
    parts = wanted(cpu)
    header = cpu.read(where + 512, 8)
    if header & ~cpu.xcr0 or cpu.read(where + 520, 8) or cpu.read(where + 528, 8):
        raise Fault(GP, 0)
    if parts & SSE:
        load_mxcsr(cpu, where)
    if parts & header & X87:
        load_x87(cpu, where, bool(wide))
    elif parts & X87:
        cpu.fcw, cpu.fsw, cpu.ftw, cpu.top = 0x37F, 0, 0xFF, 0
        cpu.fop = cpu.fip = cpu.fdp = cpu.fcs = cpu.fds = 0
        for i in range(8):
            cpu.st[i] = 0
    if parts & header & SSE:
        load_sse(cpu, where)
    elif parts & SSE:
        for i in range(16 if cpu.long64 else 8):
            cpu.x[i] = 0
