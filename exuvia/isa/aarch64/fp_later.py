"""Floating point of Armv8.3 and later: complex numbers, FJCVTZS, rounding to integers of 32 and 64 bits (Arm ARM, A2.6, A2.8)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl import floating
from exuvia.dsl.floating import IE, PE, TRUNCATE, Format, Number, flag, jam, result
from exuvia.dsl.ieee754 import define
from exuvia.dsl.trace import Function, rarely
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fp_functions import FORMATS, FUNCTIONS, controlled, finish, first
from exuvia.isa.aarch64.fp_lanes import CURRENT, arithmetic, by_function, fused, mode_of, set_scalar
from exuvia.isa.aarch64.fp_scalar import TWO, each
from exuvia.isa.aarch64.fp_vector import HALF, arrangements, write
from exuvia.isa.aarch64.simd_same import ALIKE
from exuvia.isa.aarch64.vectors import bits_of, simd


# -- FJCVTZS (FPToFixedJS): modulo 2**32; Z says that the result is the number, which -0 is not
def to_javascript(a: Value, word: Value) -> Value:
    f = FORMATS[64]
    c = controlled(f, word)
    x = Number(f, a, c.daz)
    e = x.exponent - f.bias
    moved = jam(x.significand.zext(128) << 64, 63 - e)
    up = (e.s > 63) & (e.s < 63 + f.precision)
    low = up.choose(x.significand << ((e - 63) & 63).zext(64), moved.high(64)).low(32)
    low = (e.s >= 63 + f.precision).choose(lift(0, 32), low)
    magnitude = moved.high(64)
    fits = (e.s < 64) & ((magnitude.u < 1 << 31) | x.sign & (magnitude == 1 << 31))
    r = result(64, x.sign.choose(0 - low, low).zext(64), (~fits).choose(lift(IE, 16), flag(moved.low(64) != 0, PE)))
    with rarely(x.nan | x.infinite):
        r.set(0, IE)
    exact = (r.flags == 0) & ~(x.sign & (x.raw << 1 == 0)) & ~(x.zero & (x.raw << 1 != 0))
    r.value.set(r.value | exact.zext(64) << 32)
    return finish(r, x)


FUNCTIONS["arm64_to_javascript"] = define("arm64_to_javascript", (64, 32), 128, to_javascript)


def fjcvtzs(cpu: Cpu) -> None:
    r = by_function(cpu, "arm64_to_javascript", 64, [cpu.V("Vn").low(64)])
    cpu.set_flags("nzcv", r.bit(32).zext(4) << 2)
    cpu.set_X("Rd", r.low(32))


simd("0 0011110 01 1 11 110 000000 Vn Rd", "fjcvtzs", fjcvtzs, feature="jscvt", asm="{Rd}, {Vn.d}")


# -- FRINT32Z and so on (FPRoundIntN): what has no place in so many bits is the least number that has
def round_to(f: Format, w: int) -> Function:
    def text(a: Value, mode: Value, word: Value) -> Value:
        c = controlled(f, word)
        x = Number(f, a, c.daz)
        r = floating.to_integral(x, mode.low(3), first)
        y = Number(f, r.value.read())
        e = y.exponent - f.bias
        least = y.sign & (e == w - 1) & ((y.significand << 1) == 0)
        with rarely(x.most | (e.s >= w - 1) & ~least):
            r.set(floating.pack(f, lift(1, 1), lift(f.bias + w - 1, 32), lift(1 << f.work - 1, f.work)), IE)
        return finish(r, x)

    return define(f"arm{f.width}_round{w}", (f.width, 8, 32), 2 * f.width, text)


for _f in (FORMATS[32], FORMATS[64]):
    for _w in (32, 64):
        FUNCTIONS[f"arm{_f.width}_round{_w}"] = round_to(_f, _w)


def rounded_to(cpu: Cpu, a: Value, w: int, to: int, mode: int) -> Value:
    return by_function(cpu, f"arm{w}_round{to}", w, [a], mode_of(cpu, mode))


for _opcode, _to, _letter, _mode in ((0, 32, "z", TRUNCATE), (1, 32, "x", CURRENT), (2, 64, "z", TRUNCATE), (3, 64, "x", CURRENT)):
    _name = f"frint{_to}{_letter}"
    each(f"00011110 type 1 0100{_opcode:02b} 10000 Vn Vd", _name, halves=False, feature="frint", asm=TWO,
         f=lambda cpu, w, to=_to, m=_mode: set_scalar(cpu, rounded_to(cpu, cpu.V("Vn").low(w), w, to, m)))  # fmt: skip
    arrangements(_opcode & 1, f"0sz 10000 1111{_opcode >> 1} 10 Vn Vd", "", _name, halves=False, feature="frint", asm="{Vd.T}, {Vn.T}",
                 run=lambda cpu, w, n, to=_to, m=_mode: write(cpu, rounded_to(cpu, cpu.V("Vn").low(n), w, to, m)))  # fmt: skip


# -- complex numbers: even lanes are real, odd ones imaginary parts
def turned(cpu: Cpu, a: Value, b: Value, w: int, rotation: int) -> Value:
    """FCADD: a + b times i, or times -i."""
    n = a.w // w
    swapped = b.shuffle(b, w, *(i ^ 1 for i in range(n)))
    signs = sum(1 << i * w + w - 1 for i in range(n) if i & 1 == rotation)
    return arithmetic(cpu, "add", a, swapped ^ signs, w)


def multiplied(cpu: Cpu, a: Value, b: Value, w: int, rotation: int) -> Value:
    """FCMLA: one of a's parts times b, turned by rotation * 90 degrees, added to the destination."""
    n = a.w // w
    part = a.shuffle(a, w, *(i & ~1 | rotation & 1 for i in range(n)))
    factor = b.shuffle(b, w, *(i ^ (rotation & 1) for i in range(n)))
    minus = {0: (), 1: (0,), 2: (0, 1), 3: (1,)}[rotation]
    signs = sum(1 << i * w + w - 1 for i in range(n) if i & 1 in minus)
    return fused(cpu, cpu.V("Vd").low(a.w), part, factor ^ signs, w)


def complex_rows(row: str, name: str, run: Callable[..., None]) -> None:
    for size, w in ((1, 16), (2, 32), (3, 64)):
        text = row.replace("size", f"{size:02b}")
        feature = f"fcma {HALF}" if w == 16 else "fcma"
        simd(text if w < 64 else text.replace("Q", "1", 1), name, lambda cpu, w=w: run(cpu, w),
             feature=feature, lane=w, asm=ALIKE + ", {turn}")  # fmt: skip


def whole(cpu: Cpu) -> int:
    return bits_of(cpu) if "Q" in cpu.__dict__ else 128


def by(f: Callable[..., Value]) -> Callable[..., None]:
    """The text of a function of both sources."""

    def run(cpu: Cpu, w: int) -> None:
        a, b = (cpu.V(x).low(whole(cpu)) for x in ("Vn", "Vm"))
        cpu.set_V("Vd", f(cpu, a, b, w, cpu.turn))

    return run


complex_rows("0 Q 1 01110 size 0 Vm 1 11 turn:1 0 1 Vn Vd", "fcadd", by(turned))
complex_rows("0 Q 1 01110 size 0 Vm 1 10 turn:2 1 Vn Vd", "fcmla", by(multiplied))


def multiplied_by(cpu: Cpu, w: int) -> None:
    """By one number of Vm."""
    index = cpu.H << 1 | cpu.L if w == 16 else cpu.H
    total, m = whole(cpu), cpu.V("Vm")
    b = m.shuffle(m, w, *(2 * index + i % 2 for i in range(total // w)))
    cpu.set_V("Vd", multiplied(cpu, cpu.V("Vn").low(total), b, w, cpu.turn))


simd("0 Q 1 01111 01 L:1 Vm 0 turn:2 1 H:1 0 Vn Vd", "fcmla", lambda cpu: multiplied_by(cpu, 16), feature=f"fcma {HALF}",
     where=lambda v: v["Q"] or not v["H"], lane=16, asm="{Vd.T}, {Vn.T}, {Vm.e}, {turn}")  # fmt: skip
simd("0 1 1 01111 10 0 Vm 0 turn:2 1 H:1 0 Vn Vd", "fcmla", lambda cpu: multiplied_by(cpu, 32), feature="fcma",
     lane=32, asm="{Vd.T}, {Vn.T}, {Vm.e}, {turn}")  # fmt: skip
