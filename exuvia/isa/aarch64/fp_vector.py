"""Floating point of vectors and its scalar forms in Advanced SIMD (Arm ARM, C4.1.96.27, .28, .22, .23, .20, .24 and the scalar groups)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.fp_convert import (
    from_integers,
    narrowed,
    to_integers,
    widened,
)
from exuvia.isa.aarch64.fp_lanes import (
    absolute,
    arithmetic,
    by_function,
    compared,
    extreme,
    fused,
    negated,
    pairs,
    rounded,
    set_scalar,
    square_root,
    tree,
)
from exuvia.isa.aarch64.fp_scalar import ROUNDINGS
from exuvia.isa.aarch64.simd_different import repeated
from exuvia.isa.aarch64.simd_same import ALIKE, ONE
from exuvia.isa.aarch64.simd_shift import lane
from exuvia.isa.aarch64.vectors import half, set_half, simd

Two = Callable[..., Value]
One = Callable[..., Value]
HALF = "asimdhp"


def arrangements(
    u: int, row: str, half_row: str, name: str, run: Callable[..., None], halves: bool = True, *, asm: str, **facts: Any
) -> None:
    """Encodings on vectors of singles, doubles and halves: `run` is told the bits of a lane and how many bits there are."""
    rest = f"0 Q {u} 01110 {row}"
    simd(rest.replace("sz", "0"), name, lambda cpu: run(cpu, 32, 128 if cpu.Q else 64), lane=32, asm=asm, **facts)
    simd(rest.replace("sz", "1").replace("Q", "1", 1), name, lambda cpu: run(cpu, 64, 128), lane=64, asm=asm, **facts)
    if halves:
        simd(f"0 Q {u} 01110 {half_row}", name, lambda cpu: run(cpu, 16, 128 if cpu.Q else 64), feature=HALF, lane=16, asm=asm)


def one_lane(u: int, row: str, half_row: str, name: str, run: Callable[..., None], asm: str) -> None:
    """Encodings on one number."""
    for w in (32, 64):
        simd(f"01 {u} 11110 {row}".replace("sz", str(w >> 6)), name, lambda cpu, w=w: run(cpu, w, w), lane=w, asm=asm)
    simd(f"01 {u} 11110 {half_row}", name, lambda cpu: run(cpu, 16, 16), feature=HALF, lane=16, asm=asm)


def write(cpu: Cpu, r: Value) -> None:
    if r.w == 128:
        cpu.set_V("Vd", r)
    else:
        set_scalar(cpu, r)


# -- three same
def same(u: int, a: int, opcode: str, name: str, f: Two, scalar: bool = False) -> None:
    """`opcode`: its low three bits, which half precision has too."""

    def run(cpu: Cpu, w: int, total: int) -> None:
        write(cpu, f(cpu, cpu.V("Vn").low(total), cpu.V("Vm").low(total), w))

    rows = f"{a}sz 1 Vm 11{opcode} 1 Vn Vd", f"{a}10 Vm 00{opcode} 1 Vn Vd"
    arrangements(u, *rows, name, run, asm=ALIKE)
    if scalar:
        one_lane(u, *rows, name, run, ONE)


def function(name: str) -> Two:
    return lambda cpu, a, b, w: by_function(cpu, f"arm{w}_{name}", w, [a, b])


def accumulated(minus: bool) -> Two:
    return lambda cpu, a, b, w: fused(cpu, cpu.V("Vd").low(a.w), a, b, w, minus_product=minus)


def pairwise(f: Two) -> Two:
    return lambda cpu, a, b, w: pairs(a, b, w, lambda x, y: f(cpu, x, y, w))


def plain(name: str) -> Two:
    return lambda cpu, a, b, w: arithmetic(cpu, name, a, b, w)


def most(name: str) -> Two:
    return lambda cpu, a, b, w: extreme(cpu, name, a, b, w)


def compare(relation: str, magnitudes: bool = False) -> Two:
    if magnitudes:
        return lambda cpu, a, b, w: compared(cpu, relation, absolute(a, w), absolute(b, w), w)
    return lambda cpu, a, b, w: compared(cpu, relation, a, b, w)


# fmt: off
same(0, 0, "000", "fmaxnm", most("maxnm"))
same(0, 1, "000", "fminnm", most("minnm"))
same(0, 0, "001", "fmla",   accumulated(False))
same(0, 1, "001", "fmls",   accumulated(True))
same(0, 0, "010", "fadd",   plain("add"))
same(0, 1, "010", "fsub",   plain("sub"))
same(0, 0, "011", "fmulx",  function("mulx"), True)
same(0, 0, "100", "fcmeq",  compare("eq"), True)
same(0, 0, "110", "fmax",   most("max"))
same(0, 1, "110", "fmin",   most("min"))
same(0, 0, "111", "frecps", function("recps"), True)
same(0, 1, "111", "frsqrts", function("rsqrts"), True)
same(1, 0, "000", "fmaxnmp", pairwise(most("maxnm")))
same(1, 1, "000", "fminnmp", pairwise(most("minnm")))
same(1, 0, "010", "faddp",  pairwise(plain("add")))
same(1, 1, "010", "fabd",   lambda cpu, a, b, w: absolute(arithmetic(cpu, "sub", a, b, w), w), True)
same(1, 0, "011", "fmul",   plain("mul"))
same(1, 0, "100", "fcmge",  compare("ge"), True)
same(1, 1, "100", "fcmgt",  compare("gt"), True)
same(1, 0, "101", "facge",  compare("ge", True), True)
same(1, 1, "101", "facgt",  compare("gt", True), True)
same(1, 0, "110", "fmaxp",  pairwise(most("max")))
same(1, 1, "110", "fminp",  pairwise(most("min")))
same(1, 0, "111", "fdiv",   plain("div"))
# fmt: on


# -- two registers
def misc(u: int, a: int, opcode: str, name: str, f: One, vector: bool = True, scalar: bool = False) -> None:
    def run(cpu: Cpu, w: int, total: int) -> None:
        write(cpu, f(cpu, cpu.V("Vn").low(total), w))

    zero = ", #0.0" if name.startswith("fcm") else ""
    rows = f"{a}sz 10000 {opcode} 10 Vn Vd", f"{a}1 11100 {opcode} 10 Vn Vd"
    if vector:
        arrangements(u, *rows, name, run, asm="{Vd.T}, {Vn.T}" + zero)
    if scalar:
        one_lane(u, *rows, name, run, "{Vd.E}, {Vn.E}" + zero)


def against_zero(relation: str, turned: bool = False) -> One:
    def text(cpu: Cpu, a: Value, w: int) -> Value:
        zero = lift(0, a.w)
        return compared(cpu, relation, zero, a, w) if turned else compared(cpu, relation, a, zero, w)

    return text


def of_one(name: str) -> One:
    return lambda cpu, a, w: by_function(cpu, f"arm{w}_{name}", w, [a])


# fmt: off
misc(0, 1, "01100", "fcmgt", against_zero("gt"), scalar=True)
misc(1, 1, "01100", "fcmge", against_zero("ge"), scalar=True)
misc(0, 1, "01101", "fcmeq", against_zero("eq"), scalar=True)
misc(1, 1, "01101", "fcmle", against_zero("ge", True), scalar=True)
misc(0, 1, "01110", "fcmlt", against_zero("gt", True), scalar=True)
misc(0, 1, "01111", "fabs",  lambda cpu, a, w: absolute(a, w))
misc(1, 1, "01111", "fneg",  lambda cpu, a, w: negated(a, w))
misc(1, 1, "11111", "fsqrt", square_root)
misc(0, 1, "11101", "frecpe",  of_one("recpe"),  scalar=True)
misc(1, 1, "11101", "frsqrte", of_one("rsqrte"), scalar=True)
misc(0, 1, "11111", "frecpx",  of_one("recpx"),  vector=False, scalar=True)
for _u, _a, _opcode, _letter in ((0, 0, "11000", "n"), (0, 1, "11000", "p"), (0, 0, "11001", "m"), (0, 1, "11001", "z"),
                                 (1, 0, "11000", "a"), (1, 0, "11001", "x"), (1, 1, "11001", "i")):
    misc(_u, _a, _opcode, "frint" + _letter, lambda cpu, a, w, m=ROUNDINGS[_letter]: rounded(cpu, a, w, *m))
for _u, _s in enumerate("su"):
    for _a, _opcode, _letter in ((0, "11010", "n"), (1, "11010", "p"), (0, "11011", "m"), (1, "11011", "z"), (0, "11100", "a")):
        misc(_u, _a, _opcode, f"fcvt{_letter}{_s}", scalar=True,
             f=lambda cpu, a, w, u=bool(_u), m=ROUNDINGS[_letter][0]: to_integers(cpu, a, w, u, m))
    misc(_u, 0, "11101", f"{_s}cvtf", lambda cpu, a, w, u=bool(_u): from_integers(cpu, a, w, u), scalar=True)
# fmt: on
def lanes(w: int, asm: str) -> dict[str, Any]:
    return {"lane": w, "asm": asm, "second": True}


L, N = "{Vd.L}, {Vn.T}", "{Vd.T}, {Vn.L}"
simd("0 Q 0 01110 00 10000 10111 10 Vn Vd", "fcvtl", lambda cpu: cpu.set_V("Vd", widened(cpu, half(cpu, "Vn"), 32)), **lanes(16, L))
simd("0 Q 0 01110 01 10000 10111 10 Vn Vd", "fcvtl", lambda cpu: cpu.set_V("Vd", widened(cpu, half(cpu, "Vn"), 64)), **lanes(32, L))
simd("0 Q 0 01110 00 10000 10110 10 Vn Vd", "fcvtn", lambda cpu: set_half(cpu, narrowed(cpu, cpu.V("Vn"), 32)), **lanes(16, N))
simd("0 Q 0 01110 01 10000 10110 10 Vn Vd", "fcvtn", lambda cpu: set_half(cpu, narrowed(cpu, cpu.V("Vn"), 64)), **lanes(32, N))


def to_odd(cpu: Cpu, x: Value) -> Value:
    return by_function(cpu, "arm64_to_arm32_odd", 64, [x], to=32)


simd("0 Q 1 01110 01 10000 10110 10 Vn Vd", "fcvtxn", lambda cpu: set_half(cpu, to_odd(cpu, cpu.V("Vn"))), **lanes(32, N))
simd("01 1 11110 01 10000 10110 10 Vn Vd", "fcvtxn", lambda cpu: set_scalar(cpu, to_odd(cpu, cpu.V("Vn").low(64))),
     lane=32, asm="{Vd.E}, {Vn.W}")  # fmt: skip


# -- fixed point
def fixed(u: int) -> None:
    def count(cpu: Cpu, w: int) -> Value:
        """Bits of the fraction: immh:immb counts down from twice the width."""
        return (2 * w - (lift(cpu.immh, 64) << 3 | cpu.bits("immb"))).low(8)

    def to(cpu: Cpu, w: int, total: int) -> None:
        write(cpu, to_integers(cpu, cpu.V("Vn").low(total), w, bool(u), 3, count(cpu, w)))

    def from_(cpu: Cpu, w: int, total: int) -> None:
        write(cpu, from_integers(cpu, cpu.V("Vn").low(total), w, bool(u), count(cpu, w)))

    for opcode, name, run in (("11100", "su"[u] + "cvtf", from_), ("11111", "fcvtz" + "su"[u], to)):
        for some, facts in (((16,), {"feature": HALF}), ((32, 64), {})):

            def among(v: dict[str, int], some: tuple[int, ...] = some) -> bool:
                return v["immh"] > 0 and lane(v["immh"]) in some and (lane(v["immh"]) < 64 or v.get("Q", 1) == 1)

            more: dict[str, Any] = {"where": among, **facts}
            simd(f"0 Q {u} 011110 immh:4 immb=3 {opcode} 1 Vn Vd", name,
                 lambda cpu, run=run: run(cpu, lane(cpu.immh), 128 if cpu.Q else 64), asm="{Vd.T}, {Vn.T}, {right}", **more)  # fmt: skip
            simd(f"01 {u} 111110 immh:4 immb=3 {opcode} 1 Vn Vd", name,
                 lambda cpu, run=run: run(cpu, lane(cpu.immh), lane(cpu.immh)), asm="{Vd.E}, {Vn.E}, {right}", **more)  # fmt: skip


fixed(0)
fixed(1)


# -- across lanes, and two lanes
def across(a: int, opcode: str, name: str, f: Two) -> None:
    def run(cpu: Cpu, w: int, total: int) -> None:
        set_scalar(cpu, tree(cpu.V("Vn").low(total), w, lambda x, y: f(cpu, x, y, w)))

    simd(f"0 1 1 01110 {a}0 11000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 32, 128), lane=32, asm="{Vd.E}, {Vn.T}")
    simd(f"0 Q 0 01110 {a}0 11000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 16, 128 if cpu.Q else 64),
         feature=HALF, lane=16, asm="{Vd.E}, {Vn.T}")  # fmt: skip


def two_lanes(a: int, opcode: str, name: str, f: Two) -> None:
    def run(cpu: Cpu, w: int) -> None:
        x = cpu.V("Vn")
        set_scalar(cpu, f(cpu, x.lane(0, w), x.lane(1, w), w))

    simd(f"01 1 11110 {a}0 11000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 32), lane=32, asm="{Vd.E}, {Vn.v}.2s")
    simd(f"01 1 11110 {a}1 11000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 64), lane=64, asm="{Vd.E}, {Vn.v}.2d")
    simd(f"01 0 11110 {a}0 11000 {opcode} 10 Vn Vd", name, lambda cpu: run(cpu, 16), feature=HALF, lane=16, asm="{Vd.E}, {Vn.v}.2h")


for _a, _name in enumerate(("max", "min")):
    across(_a, "01100", f"f{_name}nmv", most(_name + "nm"))
    across(_a, "01111", f"f{_name}v", most(_name))
    two_lanes(_a, "01100", f"f{_name}nmp", most(_name + "nm"))
    two_lanes(_a, "01111", f"f{_name}p", most(_name))
two_lanes(0, "01101", "faddp", plain("add"))


# -- by an element
def by_element(u: int, opcode: str, name: str, f: Two) -> None:
    def run(cpu: Cpu, w: int, total: int) -> None:
        write(cpu, f(cpu, cpu.V("Vn").low(total), repeated(cpu, w, total), w))

    for head, one in ((f"0 Q {u} 01111", False), (f"01 {u} 11111", True)):

        def text(w: int, one: bool = one) -> Callable[..., None]:
            return lambda cpu: run(cpu, w, w if one else 128 if cpu.__dict__.get("Q", 1) else 64)

        asm = "{Vd.E}, {Vn.E}, {Vm.e}" if one else "{Vd.T}, {Vn.T}, {Vm.e}"
        simd(f"{head} 10 L:1 Vm {opcode} H:1 0 Vn Vd", name, text(32), lane=32, asm=asm)
        simd(f"{head.replace('Q', '1')} 11 0 Vm {opcode} H:1 0 Vn Vd", name, text(64), lane=64, asm=asm)
        simd(f"{head} 00 L:1 M:1 xxxx {opcode} H:1 0 Vn Vd", name, text(16), lower=True, feature=HALF, lane=16, asm=asm)


by_element(0, "0001", "fmla", accumulated(False))
by_element(0, "0101", "fmls", accumulated(True))
by_element(0, "1001", "fmul", plain("mul"))
by_element(1, "1001", "fmulx", function("mulx"))
