"""XSAVE and its kin: the x87's, SSE's and AVX's state in memory (SDM vol. 1, chapter 13).

The only component behind the legacy area and its header is AVX's, the upper halves of ymm registers; the compacted format is no other.
"""

from __future__ import annotations

from exuvia.dsl.trace import Var, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86 import mxcsr
from exuvia.isa.x86.cpu import Cpu, Memory, raise_
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.state import CR0_TS, CR4_OSXSAVE, GP, NM, UD
from exuvia.isa.x86.x87_control import RESET_CONTROL, Area, aligned, initialize, load_head, part, status, writable

X87, SSE, AVX = range(3)
"""The components, by their bits in XCR0."""
HEADER, UPPER = 512, 576
"""Where the header and AVX's component stand."""
COMPACTED = 63
"""The bit of the header's second word that says so."""


def components(cpu: Cpu, boundary: Memory) -> Value:
    """What an XSAVE or XRSTOR is about: EDX:EAX and XCR0. #UD, #NM and #GP(0) come first (13.7)."""
    with when((cpu.cr4 & CR4_OSXSAVE) == 0):
        raise_(UD)
    with when((cpu.cr0 & CR0_TS) != 0):
        raise_(NM)
    aligned(cpu, boundary, 64)
    wanted: Value = (cpu.reg(0, 32).zext(64) | (cpu.reg(16, 32).zext(64) << 32)) & cpu.xcr0
    return wanted


def count(cpu: Cpu) -> int:
    """How many vector registers there are."""
    return 16 if cpu.code == 64 else 8


def in_use(cpu: Cpu) -> Value:
    """XINUSE: which components are not as they begin (13.6). Outside of 64-bit mode eight vector registers count."""
    head = (cpu.fcw ^ RESET_CONTROL) | status(cpu).zext(64) | (cpu.ftw ^ 0xFF)
    for word in (cpu.fip, cpu.fdp, cpu.fcs, cpu.fds, cpu.fop):
        head = head | word
    st, low, high = lift(0, 80), lift(0, 128), lift(0, 128)
    for i in range(8):
        st = st | cpu.get(("st", i, 80))
    for i in range(count(cpu)):
        low, high = low | cpu.get(("x", i, 128)), high | cpu.get(("y", i, 128))
    used: Value = ((head != 0) | (st != 0)).zext(64) | ((low != 0).zext(64) << SSE) | ((high != 0).zext(64) << AVX)
    return used


def upper_parts(cpu: Cpu, m: Memory) -> list[Memory]:
    """AVX's component, which may not be touched unless it is wanted: programs that do not know it have no room for it."""
    return [part(cpu, m, UPPER + 16 * i, 128) for i in range(count(cpu))]


def save(code: str, name: str, skips: bool, compacts: bool = False) -> None:
    """What is asked for, and in the header which of it is in use; one that `skips` leaves out what is not (13.7, 13.9, 13.10)."""

    @op(code, name, osize=True, modifies=True, feature=name, unaligned=True)
    def run(cpu: Cpu, m: Memory) -> None:
        wanted, used = components(cpu, m), in_use(cpu)
        control = mxcsr.current(cpu)
        if compacts:
            used = used | ((control.low(32) != mxcsr.MASKED).zext(64) << SSE)
        area, header = Area(cpu, m), [part(cpu, m, HEADER + 8 * i, 64) for i in range(2 if compacts else 1)]
        writable([*area.every(), *header])
        stored = wanted & used if skips else wanted
        with when(stored.bit(AVX)):
            writable(upper_parts(cpu, m))
        values = [(p, stored.bit(X87).choose(v, p.read())) for p, v in area.x87()]
        (word, control), *xmm = area.sse()
        with_control = stored.bit(SSE) if compacts else wanted.bit(SSE) | wanted.bit(AVX)
        values.append((word, with_control.choose(control, word.read())))
        values += [(p, stored.bit(SSE).choose(v, p.read())) for p, v in xmm]
        if compacts:
            values += [(header[0], stored), (header[1], wanted | 1 << COMPACTED)]
        else:
            values.append((header[0], header[0].read() & ~wanted | wanted & used))
        for p, v in values:
            p.set(v)
        with when(stored.bit(AVX)):
            for i, p in enumerate(upper_parts(cpu, m)):
                p.set(cpu.get(("y", i, 128)))


save("NP 0F AE/4 M", "xsave", False)
save("NP 0F AE/6 M", "xsaveopt", True)
save("NP 0F C7/4 M", "xsavec", True, True)


@op("NP 0F AE/5 M", osize=True, feature="xsave", unaligned=True)
def xrstor(cpu: Cpu, m: Memory) -> None:
    """A component that the header lacks gets its initial state (13.8)."""
    wanted = components(cpu, m)
    area, header = Area(cpu, m), [part(cpu, m, HEADER + 8 * i, 64) for i in range(8)]
    present, format_, *reserved = (p.read() for p in header)
    compacted = format_.bit(COMPACTED)
    known = compacted.choose(format_ & ~(1 << COMPACTED), cpu.xcr0)
    rest = reserved[0]
    for word in reserved[1:]:
        rest = rest | compacted.choose(word, 0)
    with when(((present & ~known) | (known & ~cpu.xcr0) | compacted.choose(lift(0, 64), format_) | rest) != 0):
        raise_(GP, 0)
    loaded = area.mxcsr.read() & 0xFFFF_FFFF
    with_control = wanted.bit(SSE) | wanted.bit(AVX) & ~compacted
    loaded = (compacted & ~present.bit(SSE)).choose(lift(mxcsr.MASKED, 64), loaded)
    with when(with_control & ((loaded & ~mxcsr.MASK) != 0)):
        raise_(GP, 0)
    head, st, xmm = ([p.read() for p in parts] for parts in (area.head, area.st, area.xmm))
    upper = [Var(cpu.get(("y", i, 128))) for i in range(count(cpu))]
    with when(wanted.bit(AVX)):
        for half in upper:
            half.set(lift(0, 128))
        with when(present.bit(AVX)):
            for half, p in zip(upper, upper_parts(cpu, m), strict=True):
                half.set(p.read())
    with when(wanted.bit(X87)):
        initialize(cpu)
        with when(present.bit(X87)):
            load_head(cpu, *head)
        top = cpu.top
        for i, v in enumerate(st):
            cpu.put_at("st", (top + i) & 7, present.bit(X87).choose(v.low(80), 0))
    with when(with_control):
        mxcsr.load(cpu, loaded)
    with when(wanted.bit(SSE)):
        for i, v in enumerate(xmm):
            cpu.put(("x", i, 128), present.bit(SSE).choose(v, 0))
    for i, half in enumerate(upper):
        cpu.put(("y", i, 128), half.read())
