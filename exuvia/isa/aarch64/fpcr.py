"""FPCR and FPSR (Arm ARM, C5.2.7, C5.2.8): on hosts that compute as the guest does, the host's own word rounds, and has part of the flags.

The state's word `fp_host` is laid out like x86's MXCSR (`Layout.vector_control`): rounding as FPCR says, and the flags that were the host's
when guest code was left last.
"""

from __future__ import annotations

from typing import Any

from exuvia.dsl.hostfloats import set_vector_control, vector_control
from exuvia.dsl.values import Value, lift

FZ16, RMODE, FZ, DN, AHP = 19, 22, 24, 25, 26
"""Bits of FPCR; RMode has two."""
CONTROLS = 1 << FZ16 | 3 << RMODE | 1 << FZ | 1 << DN | 1 << AHP
IOC, DZC, OFC, UFC, IXC, IDC, QC = (1 << i for i in (0, 1, 2, 3, 4, 7, 27))
"""Flags of FPSR."""
FLAGS = IOC | DZC | OFC | UFC | IXC | IDC | QC
MASKED = 0x1F80  # of MXCSR
HOST_ROUNDING = 13


def rounding(fpcr: Value) -> Value:
    """RMode as the language numbers modes: RP and RM are the other way round."""
    return fpcr.bit(RMODE + 1).zext(2) | fpcr.bit(RMODE).zext(2) << 1


def host_control(fpcr: Any) -> Any:
    """MXCSR, 64 bits: rounding as FPCR says, everything masked, no flags."""
    mode = rounding(fpcr).zext(64) if isinstance(fpcr, Value) else fpcr >> RMODE + 1 & 1 | (fpcr >> RMODE & 1) << 1
    return mode << HOST_ROUNDING | MASKED


def from_host(word: Any) -> Any:
    """MXCSR's flags as FPSR's. x86's denormal operands are nothing that Arm tells of: IDC is one that was flushed."""
    return word & 1 | (word >> 1 if isinstance(word, int) else word.u >> 1) & 0x1E


def fpsr(cpu: Any) -> Value:
    """FPSR with the flags that only the host knows of yet (64 bits). The word is only peeked and poked, as texts set flags in branches."""
    zero = lift(0, 64)
    own, host = (cpu.get_at(name, zero, 64) for name in ("fpsr", "fp_host"))
    word: Value = own | from_host(host | vector_control().zext(64))
    return word


def load(cpu: Any, fpcr: Value, flags: Value) -> None:
    """Make the host's word follow FPCR, and `flags` FPSR; nothing may fault afterwards."""
    zero, host = lift(0, 64), host_control(fpcr.low(32))
    cpu.put_at("fpsr", zero, flags & FLAGS)
    cpu.put_at("fp_host", zero, host)
    set_vector_control(host.low(32))


def load_fpsr(cpu: Any, word: Value) -> None:
    """MSR FPSR."""
    load(cpu, cpu.fpcr, word)


def load_fpcr(cpu: Any, word: Value) -> None:
    """MSR FPCR; the flags that the host has are taken over."""
    load(cpu, word, fpsr(cpu))
    cpu.fpcr = word & CONTROLS
