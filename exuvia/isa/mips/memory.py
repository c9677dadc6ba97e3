"""Loads and stores, LL and SC, prefetching, caches and ordering (vol. I, tables 3.2, 3.3, 3.10; vol. II)."""

from __future__ import annotations

from exuvia.dsl.trace import Var, retry, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.forms import op


def place(cpu: Cpu) -> Value:
    """base + offset"""
    return cpu.address(cpu.reg("rm", 64) + cpu.field("imm"))


def load(text: str, name: str, w: int, signed: bool) -> None:
    """rt = memory"""

    @op(text, name, writes="rt")
    def run(cpu: Cpu) -> None:
        v = cpu.memory(place(cpu), w).read()
        cpu.result(v.sext(32) if signed else v.zext(32))


def store(text: str, name: str, w: int) -> None:
    """memory = rt"""
    op(text, name)(lambda cpu: cpu.memory(place(cpu), w).set(cpu.rt.low(w)))


load("100000 base rt offset", "lb",  8,  True)
load("100001 base rt offset", "lh",  16, True)
load("100011 base rt offset", "lw",  32, True)
load("100100 base rt offset", "lbu", 8,  False)
load("100101 base rt offset", "lhu", 16, False)
store("101000 base rt offset", "sb", 8)
store("101001 base rt offset", "sh", 16)
store("101011 base rt offset", "sw", 32)


def aligned(cpu: Cpu) -> tuple[Value, Value, Value]:
    """The word that an address lies in, and how many bits of it lie before and behind: towards its most and its least significant end."""
    address = place(cpu)
    byte = (address.low(32) & 3) << 3
    left, right = (byte, 24 - byte) if cpu.big else (24 - byte, byte)
    return address & ~3, left, right


@op("100010 base rt offset", writes="rt")
def lwl(cpu: Cpu) -> None:
    address, left, _ = aligned(cpu)
    word = cpu.memory(address, 32).read()
    cpu.result((word << left) | (cpu.rt & ((lift(1, 32) << left) - 1)))


@op("100110 base rt offset", writes="rt")
def lwr(cpu: Cpu) -> None:
    address, _, right = aligned(cpu)
    word = cpu.memory(address, 32).read()
    cpu.result((word.u >> right) | (cpu.rt & ~(lift(0xFFFF_FFFF, 32).u >> right)))


@op("101010 base rt offset")
def swl(cpu: Cpu) -> None:
    """Byte by byte: what lies beside is not touched, which another processor may be writing."""
    partial(cpu, left=True)


@op("101110 base rt offset")
def swr(cpu: Cpu) -> None:
    """Likewise."""
    partial(cpu, left=False)


def partial(cpu: Cpu, left: bool) -> None:
    """rt's most (left) or least significant bytes, up to the end of the aligned word on that side, with one compare and exchange."""
    address, before, behind = aligned(cpu)
    m = cpu.memory(address, 32).writable()
    old = m.read()
    if left:
        new = (cpu.rt.u >> before) | (old & ~(lift(0xFFFF_FFFF, 32).u >> before))
    else:
        new = (cpu.rt << behind) | (old & ((lift(1, 32) << behind) - 1))
    with when(~m.swap_if(old, new)):
        retry()


@op("110000 base rt offset", writes="rt")
def ll(cpu: Cpu) -> None:
    """What was read is remembered: SC stores if it is still there."""
    address = place(cpu)
    v = cpu.memory(address, 32).read()
    cpu.ll_bit, cpu.ll_address, cpu.ll_value = 1, address, v
    cpu.result(v)


@op("111000 base rt offset", writes="rt")
def sc(cpu: Cpu) -> None:
    m = cpu.memory(place(cpu), 32).writable()
    done = Var(0, 1)
    with when((cpu.ll_bit != 0) & (cpu.ll_address == m.place)):
        done.set(m.swap_if(cpu.ll_value.low(32), cpu.rt))
    cpu.ll_bit = 0
    cpu.result(done.read().zext(32))


@op("110011 base hint offset", hint=True)
def pref(cpu: Cpu) -> None:
    """There is nothing to prefetch into."""


@op("000000 00000 00000 00000 stype:5 001111")
def sync(cpu: Cpu) -> None:
    """A fence: the host's loads and stores have an order already, but for a store and the loads behind it."""
    cpu.effect("fence", 0)


@op("000001 base 11111 offset", feature="r2")
def synci(cpu: Cpu) -> None:
    """Code that was written is noticed without."""
    cpu.memory(place(cpu) & ~3, 8).read()


@op("101111 base hint offset", kernel=True, hint=True)
def cache(cpu: Cpu) -> None:
    """Caches are not there to be seen, but for their tags: Index Load Tag finds nothing valid."""
    with when((cpu.number("reg") & 0x1C) == 4):
        cpu.taglo, cpu.datalo = 0, 0
