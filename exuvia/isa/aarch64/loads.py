"""Loads and stores of general registers in every addressing mode, pairs, unprivileged, prefetch (DDI 0487, C3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from exuvia.dsl.values import Value, concat
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.forms import op

Variant = dict[str, int]


class Kind(NamedTuple):
    """A load or store by its fields `size` and `opc`: log2 of its bytes, the register's width, whether the value's sign is extended."""

    name: str
    size: int
    w: int
    signed: bool = False

    @property
    def loads(self) -> bool:
        return self.name[0] == "l"


KINDS = {
    (0, 0): Kind("strb", 0, 32), (0, 1): Kind("ldrb", 0, 32), (0, 2): Kind("ldrsb", 0, 64, True), (0, 3): Kind("ldrsb", 0, 32, True),
    (1, 0): Kind("strh", 1, 32), (1, 1): Kind("ldrh", 1, 32), (1, 2): Kind("ldrsh", 1, 64, True), (1, 3): Kind("ldrsh", 1, 32, True),
    (2, 0): Kind("str", 2, 32), (2, 1): Kind("ldr", 2, 32), (2, 2): Kind("ldrsw", 2, 64, True),
    (3, 0): Kind("str", 3, 64), (3, 1): Kind("ldr", 3, 64),
}  # fmt: skip


def transfer(cpu: Cpu, kind: Kind, address: Value, user: bool = False) -> None:
    """Rt from memory, or memory from Rt."""
    w = 8 << kind.size
    memory = cpu.memory(address, w, user=user)
    if not kind.loads:
        memory.set(cpu.X("Rt", w))
        return
    v = memory.read()
    cpu.set_X("Rt", v.sext(kind.w) if kind.signed else v)


def extended_offset(cpu: Cpu, shift: int) -> Value:
    """Rm as an offset: UXTW, LSL, SXTW or SXTX, times the access's bytes where S is set."""
    offset = cpu.X("Rm") if cpu.option & 1 else cpu.X("Rm", 32).sext(64) if cpu.option & 4 else cpu.X("Rm", 32).zext(64)
    return offset << (shift if cpu.S else 0)


def single(size: int, opc: int, kind: Kind) -> None:
    """All addressing modes of one load or store."""
    facts = {} if kind.loads else {"reads": "Rt"}
    head, name = f"{size:02b} 111 0", kind.name
    w = kind.w

    @op(f"{head} 01 {opc:02b} imm12 Rn|SP Rt", name, scale=size, w=w, asm="{Rt}, [{Xn}{imm}]", **facts)
    def unsigned(cpu: Cpu) -> None:
        transfer(cpu, kind, cpu.X("Rn") + cpu.imm)

    short = name.replace("str", "stur").replace("ldr", "ldur")

    @op(f"{head} 00 {opc:02b} 0 simm9 00 Rn|SP Rt", short, w=w, asm="{Rt}, [{Xn}{imm}]", **facts)
    def unscaled(cpu: Cpu) -> None:
        transfer(cpu, kind, cpu.X("Rn") + cpu.imm)

    @op(f"{head} 00 {opc:02b} 0 simm9 10 Rn|SP Rt", short.replace("ur", "tr"), w=w, asm="{Rt}, [{Xn}{imm}]", **facts)
    def unprivileged(cpu: Cpu) -> None:
        transfer(cpu, kind, cpu.X("Rn") + cpu.imm, not cpu.el0)

    @op(f"{head} 00 {opc:02b} 0 simm9 01 Rn|SP Rt", name, w=w, asm="{Rt}, [{Xn}], {imm}", **facts)
    def post(cpu: Cpu) -> None:
        base, offset = cpu.X("Rn"), cpu.imm
        write_back_around(cpu, base + offset, lambda: transfer(cpu, kind, base))

    @op(f"{head} 00 {opc:02b} 0 simm9 11 Rn|SP Rt", name, w=w, asm="{Rt}, [{Xn}{imm}]!", **facts)
    def pre(cpu: Cpu) -> None:
        address = cpu.X("Rn") + cpu.imm
        write_back_around(cpu, address, lambda: transfer(cpu, kind, address))

    @op(f"{head} 00 {opc:02b} 1 Rm option S 10 Rn|SP Rt", name, w=w, where=lambda v: v["option"] & 2, asm="{Rt}, [{Xn}, {offset}]", **facts)
    def register(cpu: Cpu) -> None:
        transfer(cpu, kind, cpu.X("Rn") + extended_offset(cpu, size))


def write_back_around(cpu: Cpu, base: Value, transfer: Callable[[], None]) -> None:
    """The base register changes too. Where it is loaded, it is what was loaded."""
    if cpu.row.facts.get("reads"):
        transfer()
        cpu.set_X("Rn", base)
    else:
        cpu.set_X("Rn", base)
        transfer()


for (_size, _opc), _kind in KINDS.items():
    single(_size, _opc, _kind)


# pairs
def pair(cpu: Cpu, address: Value, size: int, loads: bool, signed: bool = False) -> None:
    """Rt and Rt2 side by side: one access."""
    w = 8 << size
    memory = cpu.memory(address, 2 * w, unit=w)
    if not loads:
        memory.set(concat(cpu.X("Rt", w), cpu.X("Rt2", w)))
        return
    both = memory.read()
    first, second = both.lane(0, w), both.lane(1, w)
    cpu.set_X("Rt", first.sext(64) if signed else first)
    cpu.set_X("Rt2", second.sext(64) if signed else second)


def pairs(opc: str, size: int, loads: bool, signed: bool) -> None:
    """The modes of a pair's load or store."""
    name = ("ldp" if loads else "stp") + ("sw" if signed else "")
    facts: dict[str, object] = dict(scale=size, w=64 if signed or size == 3 else 32) | ({} if loads else {"reads": "Rt Rt2"})
    tail = f"{int(loads)} simm7 Rt2 Rn|SP Rt"

    @op(f"{opc} 101 0 010 {tail}", name, asm="{Rt}, {Rt2}, [{Xn}{imm}]", **facts)
    def offset(cpu: Cpu) -> None:
        pair(cpu, cpu.X("Rn") + cpu.imm, size, loads, signed)

    if not signed:
        op(f"{opc} 101 0 000 {tail}", name[:2] + "np", asm="{Rt}, {Rt2}, [{Xn}{imm}]", **facts)(offset)

    @op(f"{opc} 101 0 001 {tail}", name, asm="{Rt}, {Rt2}, [{Xn}], {imm}", **facts)
    def post(cpu: Cpu) -> None:
        base, distance = cpu.X("Rn"), cpu.imm
        write_back_around(cpu, base + distance, lambda: pair(cpu, base, size, loads, signed))

    @op(f"{opc} 101 0 011 {tail}", name, asm="{Rt}, {Rt2}, [{Xn}{imm}]!", **facts)
    def pre(cpu: Cpu) -> None:
        address = cpu.X("Rn") + cpu.imm
        write_back_around(cpu, address, lambda: pair(cpu, address, size, loads, signed))


pairs("00", 2, False, False)
pairs("00", 2, True, False)
pairs("10", 3, False, False)
pairs("10", 3, True, False)
pairs("01", 2, True, True)


# literals
def literal(opc: str, kind: Kind) -> None:
    @op(f"{opc} 011 0 00 simm19 Rt", kind.name, scale=2, w=kind.w, asm="{Rt}, {literal}")
    def run(cpu: Cpu) -> None:
        transfer(cpu, kind, cpu.this_pc + cpu.imm)


literal("00", Kind("ldr", 2, 32))
literal("01", Kind("ldr", 3, 64))
literal("10", Kind("ldrsw", 2, 64, True))


@op("11 011 0 00 simm19 prfop=5", "prfm", scale=2, asm="{prfop}, {literal}")
@op("11 111 0 01 10 imm12 Rn|SP prfop=5", "prfm", scale=3, asm="{prfop}, [{Xn}{imm}]")
@op("11 111 0 00 10 0 simm9 00 Rn|SP prfop=5", "prfum", asm="{prfop}, [{Xn}{imm}]")
@op("11 111 0 00 10 1 Rm option S 10 Rn|SP prfop=5", "prfm", where=lambda v: v["option"] & 2, asm="{prfop}, [{Xn}, {offset}]")
def prefetch(cpu: Cpu) -> None:
    """A hint."""
