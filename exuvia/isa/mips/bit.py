"""Counting, extracting, inserting and rearranging bits (vol. I, tables 3.1, 3.4; vol. II)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.values import Value
from exuvia.isa.mips.cpu import Cpu
from exuvia.isa.mips.forms import op


def count(text: str, name: str, ones: bool) -> None:
    """rd = leading zeros or ones of rs; the encoding has rd again in place of rt."""
    op(text, name, writes="rd")(lambda cpu: cpu.result((~cpu.rs if ones else cpu.rs).leading))


count("011100 rs again:5 rd 00000 100000", "clz", False)
count("011100 rs again:5 rd 00000 100001", "clo", True)


def mask(high: Value) -> Value:
    """The bits from `high` down."""
    return ((high ^ high) + 2 << high) - 1


@op("011111 rs rt rd sa 000000", writes="rt", feature="r2")
def ext(cpu: Cpu) -> None:
    """`sa` is the lowest bit, `rd` the size less one."""
    cpu.result((cpu.rs.u >> (cpu.number("scale") & 31)) & mask(cpu.number("extra") & 31))


@op("011111 rs rt rd sa 000100", writes="rt", feature="r2")
def ins(cpu: Cpu) -> None:
    """`sa` is the lowest bit, `rd` the highest; where they are the wrong way round, the result is unpredictable: rt as it was."""
    low, high = cpu.number("scale") & 31, cpu.number("extra") & 31
    field = mask((high - low) & 31) << low
    r = (cpu.rt & ~field) | (cpu.rs << low & field)
    cpu.result((high.u < low).choose(cpu.rt, r))


def shuffle(text: str, name: str, f: Any) -> None:
    """rd = f(rt)"""
    op(text, name, writes="rd", feature="r2")(lambda cpu: cpu.result(f(cpu.rt)))


shuffle("011111 00000 rt rd 00010 100000", "wsbh", lambda a: (a & 0x00FF00FF) << 8 | (a.u >> 8) & 0x00FF00FF)
shuffle("011111 00000 rt rd 10000 100000", "seb",  lambda a: a.low(8).sext(32))
shuffle("011111 00000 rt rd 11000 100000", "seh",  lambda a: a.low(16).sext(32))
