"""Exclusive loads and stores, acquire and release, compare and swap, atomic memory operations (DDI 0487, C3.2.6, C3.2.12; B2.9).

The host is an x86: its loads acquire, its stores release. What has to be said is that a store with release is over before a later load with
acquire, and that an exclusive store succeeds only on what was read: it is a `cas` against that value.
"""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import Var, when
from exuvia.dsl.values import Value, concat
from exuvia.isa.aarch64.cpu import STORES, Cpu, Memory
from exuvia.isa.aarch64.forms import op

NONE = (1 << 64) - 1  # the local monitor holds nothing
SUFFIXES = "b", "h", "", ""


def width(size: int) -> int:
    """Of a register that an access of this size uses."""
    return 64 if size == 3 else 32


def fence(cpu: Cpu) -> None:
    """What was stored is seen by the others before anything is read."""
    with when(cpu.others != 0):
        cpu.effect("fence", 0)


# exclusives
def remember(cpu: Cpu, memory: Memory, low: Value, high: Value | int = 0) -> None:
    """Set the local monitor."""
    cpu.exclusive, cpu.exclusive_size = memory.address, memory.w
    cpu.exclusive_low, cpu.exclusive_high = low.zext(64), high


def store_if_exclusive(cpu: Cpu, memory: Memory, old: Value, new: Value) -> None:
    """Rs is 0 where it was stored."""
    failed = Var(1, 32)
    with when((cpu.exclusive == memory.address) & (cpu.exclusive_size == memory.w)):
        failed.set((memory.exchange(old, new) != old).zext(32))
    cpu.exclusive = NONE
    cpu.set_X("Rsd", failed.read())


def aligned(cpu: Cpu, w: int, writes: bool = False, what: int = 0) -> Memory:
    """The operand at Rn."""
    return cpu.memory(cpu.X("Rn"), w, what=what).aligned(writes)


for _size in range(4):
    for _o0 in (0, 1):

        @op(f"{_size:02b} 001000 0 1 0 xxxxx {_o0} xxxxx Rn|SP Rt", f"ld{'a' * _o0}xr{SUFFIXES[_size]}", w=width(_size), asm="{Rt}, [{Xn}]")
        def load_exclusive(cpu: Cpu, size: int = _size) -> None:
            memory = aligned(cpu, 8 << size)
            v = memory.read()
            remember(cpu, memory, v)
            cpu.set_X("Rt", v)

        @op(
            f"{_size:02b} 001000 0 0 0 Rs {_o0} xxxxx Rn|SP Rt", f"st{'l' * _o0}xr{SUFFIXES[_size]}", w=width(_size), reads="Rt",
            asm="{Ws}, {Rt}, [{Xn}]",
        )  # fmt: skip
        def store_exclusive(cpu: Cpu, size: int = _size) -> None:
            w = 8 << size
            store_if_exclusive(cpu, aligned(cpu, w, True, STORES), cpu.exclusive_low.low(w), cpu.X("Rt", w))

        if _size < 2:
            continue

        @op(f"1 {_size & 1} 001000 0 1 1 xxxxx {_o0} Rt2 Rn|SP Rt", f"ld{'a' * _o0}xp", w=width(_size), asm="{Rt}, {Rt2}, [{Xn}]")
        def load_exclusive_pair(cpu: Cpu, size: int = _size) -> None:
            w = 8 << size
            memory = aligned(cpu, 2 * w)
            both = memory.read()
            low, high = both.lane(0, w), both.lane(1, w)
            remember(cpu, memory, low, high.zext(64))
            cpu.set_X("Rt", low)
            cpu.set_X("Rt2", high)

        @op(
            f"1 {_size & 1} 001000 0 0 1 Rs {_o0} Rt2 Rn|SP Rt", f"st{'l' * _o0}xp", w=width(_size), reads="Rt Rt2",
            asm="{Ws}, {Rt}, {Rt2}, [{Xn}]",
        )  # fmt: skip
        def store_exclusive_pair(cpu: Cpu, size: int = _size) -> None:
            w = 8 << size
            old = concat(cpu.exclusive_low.low(w), cpu.exclusive_high.low(w))
            store_if_exclusive(cpu, aligned(cpu, 2 * w, True, STORES), old, concat(cpu.X("Rt", w), cpu.X("Rt2", w)))


# acquire and release
for _size in range(4):
    for _o0, _feature in ((1, ""), (0, "lor")):

        @op(
            f"{_size:02b} 001000 1 1 0 xxxxx {_o0} xxxxx Rn|SP Rt", ("ldar" if _o0 else "ldlar") + SUFFIXES[_size], w=width(_size),
            feature=_feature, asm="{Rt}, [{Xn}]",
        )  # fmt: skip
        def load_acquire(cpu: Cpu, size: int = _size) -> None:
            cpu.set_X("Rt", aligned(cpu, 8 << size).read())

        @op(
            f"{_size:02b} 001000 1 0 0 xxxxx {_o0} xxxxx Rn|SP Rt", ("stlr" if _o0 else "stllr") + SUFFIXES[_size], w=width(_size),
            reads="Rt", feature=_feature, asm="{Rt}, [{Xn}]",
        )  # fmt: skip
        def store_release(cpu: Cpu, size: int = _size) -> None:
            aligned(cpu, 8 << size, True).set(cpu.X("Rt", 8 << size))
            fence(cpu)

    @op(
        f"{_size:02b} 111 0 00 1 0 1 11111 1 100 00 Rn|SP Rt", "ldapr" + SUFFIXES[_size], w=width(_size), feature="lrcpc",
        asm="{Rt}, [{Xn}]",
    )  # fmt: skip
    def load_acquire_pc(cpu: Cpu, size: int = _size) -> None:
        cpu.set_X("Rt", aligned(cpu, 8 << size).read())


# compare and swap
def compare_and_swap(cpu: Cpu, memory: Memory, expected: Value, new: Value) -> Value:
    """What the memory held; checked for writing whatever it holds."""
    memory.writable()
    return memory.exchange(expected, new)


def order(a: int, r: int) -> str:
    """The letters of acquire and release."""
    return "a" * a + "l" * r


for _size in range(4):
    for _a in (0, 1):
        for _r in (0, 1):

            @op(
                f"{_size:02b} 001000 1 {_a} 1 Rs {_r} 11111 Rn|SP Rt", f"cas{order(_a, _r)}{SUFFIXES[_size]}", w=width(_size), reads="Rt",
                feature="atomics", asm="{Rs}, {Rt}, [{Xn}]",
            )  # fmt: skip
            def cas(cpu: Cpu, size: int = _size) -> None:
                w = 8 << size
                cpu.set_X("Rsd", compare_and_swap(cpu, aligned(cpu, w), cpu.X("Rs", w), cpu.X("Rt", w)))

            if _size > 1:
                continue

            @op(
                f"0 {_size} 001000 0 {_a} 1 Rs {_r} 11111 Rn|SP Rt", f"casp{order(_a, _r)}", w=64 if _size else 32, reads="Rt", imm="pair",
                feature="atomics", asm="{Rs}, {Rs+1}, {Rt}, {Rt+1}, [{Xn}]",
            )  # fmt: skip
            def casp(cpu: Cpu, size: int = _size) -> None:
                w = 64 if size else 32
                expected = concat(cpu.X("Rs", w), cpu.second_expected.low(w))
                seen = compare_and_swap(cpu, aligned(cpu, 2 * w), expected, concat(cpu.X("Rt", w), cpu.X("Rt2", w)))
                cpu.set_X("Rsd", seen.lane(0, w))
                cpu.set_X("index", seen.lane(1, w))


# operations on memory
OPERATIONS: dict[str, tuple[str, Callable[[Value, Value], Value]]] = {
    "ldadd": ("0 000", lambda a, b: a + b),
    "ldclr": ("0 001", lambda a, b: a & ~b),
    "ldeor": ("0 010", lambda a, b: a ^ b),
    "ldset": ("0 011", lambda a, b: a | b),
    "ldsmax": ("0 100", lambda a, b: (a.s > b).choose(a, b)),
    "ldsmin": ("0 101", lambda a, b: (a.s < b).choose(a, b)),
    "ldumax": ("0 110", lambda a, b: (a.u > b).choose(a, b)),
    "ldumin": ("0 111", lambda a, b: (a.u < b).choose(a, b)),
    "swp": ("1 000", lambda a, b: b),
}


def operation(name: str, code: str, f: Callable[[Value, Value], Value], size: int, a: int, r: int) -> None:
    """Rt is what was there, memory is what `f` makes of that and Rs."""
    w = 8 << size

    @op(
        f"{size:02b} 111 0 00 {a} {r} 1 Rs {code} 00 Rn|SP Rt", name + order(a, r) + SUFFIXES[size], w=width(size), feature="atomics",
        asm="{Rs}, {Rt}, [{Xn}]",
    )  # fmt: skip
    def run(cpu: Cpu) -> None:
        memory, source = aligned(cpu, w), cpu.X("Rs", w)
        memory.writable()
        old = memory.read()
        memory.update(f(old, source))
        cpu.set_X("Rt", old)


for _name, (_code, _f) in OPERATIONS.items():
    for _size in range(4):
        for _a in (0, 1):
            for _r in (0, 1):
                operation(_name, _code, _f, _size, _a, _r)


# barriers
@op("11010101000000110011 CRm=4 010 11111", asm="{CRm}")
def clrex(cpu: Cpu) -> None:
    cpu.exclusive = NONE


@op("11010101000000110011 CRm=4 100 11111", asm="{barrier}")
def dsb(cpu: Cpu) -> None:
    fence(cpu)


@op("11010101000000110011 CRm=4 101 11111", asm="{barrier}")
def dmb(cpu: Cpu) -> None:
    """One that is for loads, or for stores only, is what the host does anyway (CRm 1:0 is 1 or 2)."""
    with when((cpu.bits("CRm") & 3) == 3):
        fence(cpu)


@op("11010101000000110011 CRm=4 110 11111", asm="{isb}", ends=True)
def isb(cpu: Cpu) -> None:
    """What was decoded is looked at again behind this."""


@op("11010101000000110011 0000 111 11111", feature="sb")
def sb(cpu: Cpu) -> None:
    """A barrier of speculation."""

