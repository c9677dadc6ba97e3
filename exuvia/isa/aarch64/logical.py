"""Logical instructions, moves, bitfields, shifts, counts and reversals (DDI 0487, C3.4, C3.5)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.arithmetic import shifted
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.forms import op

Two = Callable[[Value, Value], Value]


def set_logic(cpu: Cpu, r: Value) -> Value:
    """ANDS and BICS."""
    cpu.set_flags("logic", r)
    return r


OPERATIONS: tuple[tuple[str, str, Two], ...] = (
    ("and", "bic", lambda a, b: a & b),
    ("orr", "orn", lambda a, b: a | b),
    ("eor", "eon", lambda a, b: a ^ b),
    ("ands", "bics", lambda a, b: a & b),
)


def logical(number: int, name: str, inverse: str, f: Two) -> None:
    """An operation with an immediate, with a shifted register, and with the inverse of one."""
    sets = number == 3

    @op(
        f"1 {number:02b} 100100 N=1 immr=6 imms=6 Rn {'Rd' if sets else 'Rd|SP'};"
        f"0 {number:02b} 100100 0   immr=6 imms=6 Rn {'Rd' if sets else 'Rd|SP'}", name, imm="logical", asm="{Rd}, {Rn}, {imm}",
    )  # fmt: skip
    def immediate(cpu: Cpu) -> None:
        r = f(cpu.Rn, cpu.imm.low(cpu.w))
        cpu.Rd = set_logic(cpu, r) if sets else r

    for n, own in enumerate((name, inverse)):

        @op(f"1 {number:02b} 01010 shift {n} Rm imm6   Rn Rd", own, asm="{Rd}, {Rn}, {Rm}{shift}")
        @op(f"0 {number:02b} 01010 shift {n} Rm 0 imm5 Rn Rd", own, asm="{Rd}, {Rn}, {Rm}{shift}")
        def register(cpu: Cpu, n: int = n) -> None:
            b = shifted(cpu, cpu.Rm)
            r = f(cpu.Rn, ~b if n else b)
            cpu.Rd = set_logic(cpu, r) if sets else r


for _number, _row in enumerate(OPERATIONS):
    logical(_number, *_row)


# moves of 16 bits
@op("1 00 100101 hw imm16 Rd; 0 00 100101 0 hw:1 imm16 Rd", imm="move", asm="{Rd}, {imm16}")
def movn(cpu: Cpu) -> None:
    cpu.Rd = ~cpu.imm.low(cpu.w)


@op("1 10 100101 hw imm16 Rd; 0 10 100101 0 hw:1 imm16 Rd", imm="move", asm="{Rd}, {imm16}")
def movz(cpu: Cpu) -> None:
    cpu.Rd = cpu.imm.low(cpu.w)


@op("1 11 100101 hw imm16 Rd; 0 11 100101 0 hw:1 imm16 Rd", imm="move", asm="{Rd}, {imm16}")
def movk(cpu: Cpu) -> None:
    cpu.Rd = cpu.Rd & (~(0xFFFF << 16 * cpu.hw) & (1 << cpu.w) - 1) | cpu.imm.low(cpu.w)


# bitfields: up against the top, then down to their place; the decoder makes both counts of immr and imms
BITFIELD = "1 oo 100110 1 immr=6 imms=6 Rn Rd; 0 oo 100110 0 0 immr=5 0 imms=5 Rn Rd"


def counts(cpu: Cpu) -> tuple[Value, Value]:
    """How far up, and then down."""
    return (cpu.amount & (cpu.w - 1)).low(cpu.w), (cpu.imm & (cpu.w - 1)).low(cpu.w)


@op(BITFIELD.replace("oo", "00"), imm="bitfield", asm="{Rd}, {Rn}, {immr}, {imms}")
def sbfm(cpu: Cpu) -> None:
    up, down = counts(cpu)
    cpu.Rd = (cpu.Rn << up).s >> down


@op(BITFIELD.replace("oo", "10"), imm="bitfield", asm="{Rd}, {Rn}, {immr}, {imms}")
def ubfm(cpu: Cpu) -> None:
    up, down = counts(cpu)
    cpu.Rd = (cpu.Rn << up).u >> down


@op(BITFIELD.replace("oo", "01"), imm="bitfield", asm="{Rd}, {Rn}, {immr}, {imms}")
def bfm(cpu: Cpu) -> None:
    up, down = counts(cpu)
    mask = (lift(-1, cpu.w) << up).u >> down
    cpu.Rd = cpu.Rd & ~mask | (cpu.Rn << up).u >> down


@op("1 00 100111 1 0 Rm imms=6 Rn Rd; 0 00 100111 0 0 Rm 0 imms=5 Rn Rd", asm="{Rd}, {Rn}, {Rm}, {imms}")
def extr(cpu: Cpu) -> None:
    """Down by less than the width, and the lower register's bits fall out; in two steps, as a shift by the width gives nothing."""
    count = (cpu.amount & (cpu.w - 1)).low(cpu.w)
    cpu.Rd = (cpu.Rm.u >> count) | ((cpu.Rn << 1) << (count ^ (cpu.w - 1)))


def variable(code: str, name: str, f: Two) -> None:
    """A shift by a register, modulo the width."""

    @op(f"sf 0 0 11010110 Rm 0010 {code} Rn Rd", name, asm="{Rd}, {Rn}, {Rm}")
    def run(cpu: Cpu) -> None:
        cpu.Rd = f(cpu.Rn, cpu.Rm & (cpu.w - 1))


variable("00", "lslv", lambda a, n: a << n)
variable("01", "lsrv", lambda a, n: a.u >> n)
variable("10", "asrv", lambda a, n: a.s >> n)
variable("11", "rorv", lambda a, n: (a.u >> n) | (a << ((lift(a.w, a.w) - n) & (a.w - 1))))


# one source
def swapped(v: Value, w: int) -> Value:
    """The bytes of each w bits in reverse."""
    r: Value = v.swapped
    if w == 16:
        low = int("00FF" * (v.w // 16), 16)
        return ((v.u >> 8) & low) | (v & low) << 8
    return (r.u >> 32) | (r << 32) if w < v.w else r


def reversed_bits(v: Value) -> Value:
    """All bits in reverse."""
    for width, mask in ((1, "55"), (2, "33"), (4, "0F")):
        m = int(mask * (v.w // 8), 16)
        v = (v.u >> width) & m | (v & m) << width
    r: Value = v.swapped
    return r


@op("sf 1 0 11010110 00000 000000 Rn Rd", asm="{Rd}, {Rn}")
def rbit(cpu: Cpu) -> None:
    cpu.Rd = reversed_bits(cpu.Rn)


@op("sf 1 0 11010110 00000 000001 Rn Rd", asm="{Rd}, {Rn}")
def rev16(cpu: Cpu) -> None:
    cpu.Rd = swapped(cpu.Rn, 16)


@op("0 1 0 11010110 00000 000010 Rn Rd", "rev", asm="{Rd}, {Rn}")
@op("1 1 0 11010110 00000 000010 Rn Rd", asm="{Rd}, {Rn}")
def rev32(cpu: Cpu) -> None:
    cpu.Rd = swapped(cpu.Rn, 32)


@op("1 1 0 11010110 00000 000011 Rn Rd", asm="{Rd}, {Rn}")
def rev(cpu: Cpu) -> None:
    cpu.Rd = swapped(cpu.Rn, 64)


@op("sf 1 0 11010110 00000 000100 Rn Rd", asm="{Rd}, {Rn}")
def clz(cpu: Cpu) -> None:
    cpu.Rd = cpu.Rn.leading


@op("sf 1 0 11010110 00000 000101 Rn Rd", asm="{Rd}, {Rn}")
def cls(cpu: Cpu) -> None:
    """Bits after the sign that are like it."""
    cpu.Rd = ((cpu.Rn ^ (cpu.Rn << 1)) | 1).leading
