"""MRS and MSR of FPCR and FPSR (Arm ARM, C5.2.7, C5.2.8)."""

from __future__ import annotations

from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fpcr import fpsr, load_fpcr, load_fpsr
from exuvia.isa.aarch64.system import read, write
from exuvia.isa.aarch64.vectors import enabled

FPCR, FPSR = "3_3_C4_C4_0", "3_3_C4_C4_1"


@read(FPCR, "fpcr", guard=enabled)
def read_fpcr(cpu: Cpu) -> None:
    cpu.set_X("Rt", cpu.fpcr)


@write(FPCR, "fpcr", guard=enabled)
def write_fpcr(cpu: Cpu) -> None:
    load_fpcr(cpu, cpu.X("Rt"))


@read(FPSR, "fpsr", guard=enabled)
def read_fpsr(cpu: Cpu) -> None:
    cpu.set_X("Rt", fpsr(cpu))


@write(FPSR, "fpsr", guard=enabled)
def write_fpsr(cpu: Cpu) -> None:
    load_fpsr(cpu, cpu.X("Rt"))
