"""Floating point of one number: data processing, comparison, moves, conversions (Arm ARM, C4.1.96.28 to C4.1.96.37)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.hostfloats import host_floats, on_host
from exuvia.dsl.trace import Var, seldom, when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.flags import condition
from exuvia.isa.aarch64.fp_convert import converted, from_integer, to_integer
from exuvia.isa.aarch64.fp_functions import FORMATS
from exuvia.isa.aarch64.fp_lanes import (
    AWAY,
    CURRENT,
    SCALAR,
    absolute,
    arithmetic,
    by_function,
    extreme,
    flushes,
    fused,
    negated,
    rounded,
    set_scalar,
    square_root,
)
from exuvia.isa.aarch64.vectors import simd

TYPES = {32: "00", 64: "01", 16: "11"}
LETTERS = {16: "h", 32: "s", 64: "d"}
TWO, THREE = "{Vd.E}, {Vn.E}", "{Vd.E}, {Vn.E}, {Vm.E}"
HALF = "fphp"
"""The feature that brings arithmetic in half precision; conversions from and to it are older."""


def each(row: str, name: str, f: Callable[..., None], halves: bool = True, **facts: object) -> None:
    """Encodings for the three formats, in place of `type`."""
    for w, bits in TYPES.items():
        if halves or w > 16:
            simd(row.replace("type", bits), name, lambda cpu, w=w: f(cpu, w), lane=w, **({"feature": HALF} if w == 16 else {}), **facts)


def two(opcode: str, name: str, f: Callable[..., Value]) -> None:
    def run(cpu: Cpu, w: int) -> None:
        set_scalar(cpu, f(cpu, cpu.V("Vn").low(w), cpu.V("Vm").low(w), w))

    each(f"00011110 type 1 Vm {opcode} 10 Vn Vd", name, run, asm=THREE)


def one(opcode: str, name: str, f: Callable[..., Value]) -> None:
    each(f"00011110 type 1 {opcode} 10000 Vn Vd", name, lambda cpu, w: set_scalar(cpu, f(cpu, cpu.V("Vn").low(w), w)),
         asm=TWO)  # fmt: skip


def three(o1: int, o0: int, name: str, minus_product: bool, minus_addend: bool) -> None:
    def run(cpu: Cpu, w: int) -> None:
        d, a, b = (cpu.V(x).low(w) for x in ("Va", "Vn", "Vm"))
        set_scalar(cpu, fused(cpu, d, a, b, w, minus_product, minus_addend))

    each(f"00011111 type {o1} Vm {o0} Va Vn Vd", name, run, asm=THREE + ", {Va.E}")


for _i, _name in enumerate(("mul", "div", "add", "sub")):
    two(f"{_i:04b}", "f" + _name, lambda cpu, a, b, w, name=_name: arithmetic(cpu, name, a, b, w))
for _i, _name in enumerate(("max", "min", "maxnm", "minnm")):
    two(f"{_i + 4:04b}", "f" + _name, lambda cpu, a, b, w, name=_name: extreme(cpu, name, a, b, w))
two("1000", "fnmul", lambda cpu, a, b, w: negated(arithmetic(cpu, "mul", a, b, w), w))
three(0, 0, "fmadd", False, False)
three(0, 1, "fmsub", True, False)
three(1, 0, "fnmadd", True, True)
three(1, 1, "fnmsub", False, True)
one("000000", "fmov", lambda cpu, a, w: a)
one("000001", "fabs", lambda cpu, a, w: absolute(a, w))
one("000010", "fneg", lambda cpu, a, w: negated(a, w))
one("000011", "fsqrt", square_root)
ROUNDINGS = {"n": (0, False), "m": (1, False), "p": (2, False), "z": (3, False), "a": (AWAY, False)}
ROUNDINGS |= {"x": (CURRENT, True), "i": (CURRENT, False)}
"""Modes as `floating` numbers them, and whether inexactness is noticed."""
for _letter, _opcode in zip("npmzaxi", ("001000", "001001", "001010", "001011", "001100", "001110", "001111")):
    one(_opcode, "frint" + _letter, lambda cpu, a, w, m=ROUNDINGS[_letter]: rounded(cpu, a, w, *m))
for _from, _bits in TYPES.items():
    for _to, _opc in TYPES.items():
        if _from != _to:
            simd(f"00011110 {_bits} 1 0001 {_opc} 10000 Vn Vd", "fcvt",
                 lambda cpu, a=_from, b=_to: set_scalar(cpu, converted(cpu, cpu.V("Vn").low(a), b)),
                 asm=f"{{Vd.{LETTERS[_to]}}}, {{Vn.{LETTERS[_from]}}}")  # fmt: skip


# -- comparison
def relation(cpu: Cpu, a: Value, b: Value, w: int, signalling: bool) -> Value:
    """Bit 0 equal or unordered, bit 1 unordered, bit 2 less or unordered."""

    def otherwise() -> Value:
        r = by_function(cpu, f"arm{w}_compare" + "_signalling" * signalling, w, [a, b])
        return r.bit(1).zext(8) | (r.low(2) == 3).zext(8) << 1 | r.bit(0).zext(8) << 2

    if w == 16:
        return otherwise()
    r = Var(lift(0, 8), 8)
    own = host_floats() & ~flushes(cpu, w)
    with seldom(~own):
        r.set(otherwise())
    with when(own):
        r.set(on_host(("comi" if signalling else "ucomi") + SCALAR[w], 8, a, b))
    return r.read()


def fcmp(zero: bool, signalling: bool) -> Callable[..., None]:
    def run(cpu: Cpu, w: int) -> None:
        b = lift(0, w) if zero else cpu.V("Vm").low(w)
        cpu.set_flags("compared", relation(cpu, cpu.V("Vn").low(w), b, w, signalling))

    return run


def fccmp(signalling: bool) -> Callable[..., None]:
    def run(cpu: Cpu, w: int) -> None:
        holds = cpu.condition_holds
        cpu.set_flags("nzcv", cpu.bits("nzcv").low(4))
        with when(holds):
            cpu.set_flags("compared", relation(cpu, cpu.V("Vn").low(w), cpu.V("Vm").low(w), w, signalling))

    return run


for _signalling, _name in enumerate(("fcmp", "fcmpe")):
    each(f"00011110 type 1 Vm 00 1000 Vn {_signalling}0 000", _name, fcmp(False, bool(_signalling)), asm="{Vn.E}, {Vm.E}")
    each(f"00011110 type 1 xxxxx 00 1000 Vn {_signalling}1 000", _name, fcmp(True, bool(_signalling)), asm="{Vn.E}, #0.0")
    each(f"00011110 type 1 Vm cond 01 Vn {_signalling} nzcv=4", _name.replace("f", "fc", 1), fccmp(bool(_signalling)),
         asm="{Vn.E}, {Vm.E}, {nzcv}, {cond}")  # fmt: skip


def fcsel(cpu: Cpu, w: int) -> None:
    set_scalar(cpu, condition(cpu, cpu.cond).choose(cpu.V("Vn").low(w), cpu.V("Vm").low(w)))


each("00011110 type 1 Vm cond 11 Vn Vd", "fcsel", fcsel, asm=THREE + ", {cond}")


# -- moves
def expanded(imm: Value, w: int) -> Value:
    """VFPExpandImm(): sign, three bits of exponent, four of fraction."""
    f = FORMATS[w]
    imm, top = imm.low(8), imm.bit(6)
    exponent = (~top).zext(w) << f.exponent - 1 | (top.sext(w) & (1 << f.exponent - 3) - 1) << 2 | imm.bits(5, 4).zext(w)
    return imm.bit(7).zext(w) << w - 1 | exponent << f.precision - 1 | imm.low(4).zext(w) << f.precision - 5


each("00011110 type 1 imm8 100 00000 Vd", "fmov", lambda cpu, w: set_scalar(cpu, expanded(cpu.imm, w)),
     asm="{Vd.E}, {imm8}")  # fmt: skip


def from_general(row: str, w: int, **facts: str) -> None:
    simd(f"{row} 111 000000 Rn Vd", "fmov", lambda cpu: set_scalar(cpu, cpu.X("Rn", max(w, 32)).low(w)),
         lane=w, asm="{Vd.E}, {Rn}", **facts)  # fmt: skip


def to_general(row: str, w: int, **facts: str) -> None:
    simd(f"{row} 110 000000 Vn Rd", "fmov", lambda cpu: cpu.set_X("Rd", cpu.V("Vn").low(w)),
         lane=w, asm="{Rd}, {Vn.E}", **facts)  # fmt: skip


for _move in (from_general, to_general):
    _move("0 0011110 00 1 00", 32)
    _move("1 0011110 01 1 00", 64)
    _move("x 0011110 11 1 00", 16, feature=HALF)
simd("1 0011110 10 1 01 111 000000 Rn Vd", "fmov", lambda cpu: cpu.set_V("Vd", concat(cpu.V("Vd").low(64), cpu.X("Rn"))),
     asm="{Vd.v}.d[1], {Rn}")  # fmt: skip
simd("1 0011110 10 1 01 110 000000 Vn Rd", "fmov", lambda cpu: cpu.set_X("Rd", cpu.V("Vn").lane(1, 64)),
     asm="{Rd}, {Vn.v}.d[1]")  # fmt: skip


# -- conversions from and to general registers; of fixed point, `scale` is 64 minus the bits of the fraction
def fixed(cpu: Cpu) -> Value:
    return 64 - cpu.amount.low(8)


def integer(opcode: str, name: str, mode: int, unsigned: bool) -> None:
    each(f"sf 0011110 type 1 {opcode} 000000 Vn Rd", name,
         lambda cpu, w: cpu.set_X("Rd", to_integer(cpu, cpu.V("Vn").low(w), cpu.w, unsigned, mode)), asm="{Rd}, {Vn.E}")  # fmt: skip


for _unsigned, _u in enumerate("su"):
    for _rmode, _letter in enumerate("npmz"):
        integer(f"{_rmode:02b} 00{_unsigned}", f"fcvt{_letter}{_u}", ROUNDINGS[_letter][0], bool(_unsigned))
    integer(f"00 10{_unsigned}", f"fcvta{_u}", AWAY, bool(_unsigned))
    each(f"sf 0011110 type 1 00 01{_unsigned} 000000 Rn Vd", f"{_u}cvtf",
         lambda cpu, w, u=_unsigned: set_scalar(cpu, from_integer(cpu, cpu.Rn, w, bool(u))), asm="{Vd.E}, {Rn}")  # fmt: skip
    for _w, _row in ((32, "0 0011110 type 0 {} 1 xxxxx {}"), (64, "1 0011110 type 0 {} xxxxxx {}")):
        each(_row.format(f"00 01{_unsigned}", "Rn Vd"), f"{_u}cvtf", lambda cpu, w, u=_unsigned: set_scalar(
            cpu, from_integer(cpu, cpu.Rn, w, bool(u), fixed(cpu))), asm="{Vd.E}, {Rn}, {fraction}", w=_w)  # fmt: skip
        each(_row.format(f"11 00{_unsigned}", "Vn Rd"), f"fcvtz{_u}", lambda cpu, w, u=_unsigned: cpu.set_X(
            "Rd", to_integer(cpu, cpu.V("Vn").low(w), cpu.w, bool(u), 3, fixed(cpu))), asm="{Rd}, {Vn.E}, {fraction}", w=_w)  # fmt: skip
