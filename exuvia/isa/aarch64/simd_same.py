"""Advanced SIMD three same and its scalar form, integers: one text for all arrangements (Arm ARM, C4.1.96.27, C4.1.96.11)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.lanes import absolute, choose, every, shift
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.vectors import Lanewise, bits_of, even, note, odd, saturated, simd, source, widened

Text = Callable[..., Value]
"""Processor, operands of 128 bits, bits of a lane, bits that count."""
ALL, NO_64, HALF_WORD = "bhsd", "bhs", "hs"
ALIKE, ONE = "{Vd.T}, {Vn.T}, {Vm.T}", "{Vd.E}, {Vn.E}, {Vm.E}"
"""What the disassembler prints of three operands (disassemble_vectors.py)."""


def sized(sizes: str) -> Callable[..., bool]:
    """Variants of these lanes; a single lane of 64 bits is no vector."""
    return lambda v: ALL[v["size"]] in sizes and (v["size"] < 3 or v.get("Q", 1) == 1)


def same(u: int, opcode: str, name: str, f: Text, sizes: str = ALL, scalar: str = "") -> None:
    """An instruction on vectors and, on lanes of `scalar`, on one lane."""

    def run(cpu: Cpu, bits: int) -> None:
        cpu.set_V("Vd", f(cpu, cpu.V("Vn"), cpu.V("Vm"), 8 << cpu.size, bits).low(bits))

    simd(f"0 Q {u} 01110 size 1 Vm {opcode} 1 Vn Vd", name, lambda cpu: run(cpu, bits_of(cpu)), where=sized(sizes), asm=ALIKE)
    if scalar:
        simd(f"01 {u} 11110 size 1 Vm {opcode} 1 Vn Vd", name, lambda cpu: run(cpu, 8 << cpu.size), where=sized(scalar), asm=ONE)


def lanewise(f: Lanewise) -> Text:
    return lambda cpu, a, b, w, bits: f(a, b, w)


def lanes(op: str) -> Text:
    return lambda cpu, a, b, w, bits: a.lanes(op, b, w)


def saturating(op: str) -> Text:
    """uadd.sat and so on; FPSR.QC tells."""

    def text(cpu: Cpu, a: Value, b: Value, w: int, bits: int) -> Value:
        r, exact = a.lanes(op, b, w), a.lanes(op[1:4], b, w)
        saturated(cpu, r.low(bits), exact.low(bits))
        return r

    return text


def halved(a: Value, b: Value, w: int, signed: bool, rounds: bool) -> Value:
    """(a + b) >> 1 without the bit that the sum would need."""
    down = shift(a ^ b, "ashr" if signed else "lshr", 1, w)
    return (a | b).lanes("sub", down, w) if rounds else (a & b).lanes("add", down, w)


def half_difference(a: Value, b: Value, w: int, signed: bool) -> Value:
    """(a - b) >> 1."""
    if signed:
        flip = every(1 << w - 1, w, 128)
        return half_difference(a ^ flip, b ^ flip, w, False)
    borrow = shift((~a & b) | ~(a ^ b) & a.lanes("sub", b, w), "lshr", w - 1, w)
    return shift(a.lanes("sub", b, w), "lshr", 1, w) | shift(borrow, "shl", w - 1, w)


def difference(a: Value, b: Value, w: int, signed: bool) -> Value:
    """Absolute."""
    s = "s" if signed else "u"
    return a.lanes(s + "max", b, w).lanes("sub", a.lanes(s + "min", b, w), w)


def compared(op: str, turned: bool, inverted: bool) -> Lanewise:
    def text(a: Value, b: Value, w: int) -> Value:
        r = b.lanes(op, a, w) if turned else a.lanes(op, b, w)
        return ~r if inverted else r

    return text


def shifted(signed: bool, rounds: bool, saturates: bool) -> Text:
    """By the signed low byte of the second operand's lanes, to the left where it is positive."""

    def text(cpu: Cpu, a: Value, b: Value, w: int, bits: int) -> Value:
        count = shift(shift(b, "shl", w - 8, w), "ashr", w - 8, w)
        right = lift(0, 128).lanes("sgt", count, w)
        n = absolute(count, w)
        r = choose(right, shifted_right(a, n, w, signed, rounds), shifted_left(a, n, w))
        if not saturates:
            return r
        top = every(1 << w - 1, w, 128)
        limit = shift(a, "ashr", w - 1, w) ^ ~top if signed else lift(every(-1, w, 128), 128)
        over = ~right & lost(a, n, w, signed)
        note(cpu, over.low(bits) != 0)
        return choose(over, limit, r)

    return text


def below(n: Value, w: int) -> Value:
    """Lanes where an unsigned count is less than the width."""
    return lift(every(w, w, 128), 128).lanes("ugt", n, w)


def shifted_left(a: Value, n: Value, w: int) -> Value:
    return a.lanes("shl", n & every(w - 1, w, 128), w) & below(n, w)


def shifted_right(a: Value, n: Value, w: int, signed: bool, rounds: bool) -> Value:
    """By n in each lane, up to 255 and, where it is not 0, with the last bit that goes added."""
    down, last = "ashr" if signed else "lshr", every(w - 1, w, 128)
    if rounds:
        n = n.lanes("sub", every(1, w, 128), w)
    r = a.lanes(down, n.lanes("umin", last, w), w)
    if not signed:
        r = r & below(n, w)
    return shift(r, down, 1, w).lanes("add", r & every(1, w, 128), w) if rounds else r


def lost(a: Value, n: Value, w: int, signed: bool) -> Value:
    """Lanes that n places to the left do not hold what they held."""
    back = shifted_left(a, n, w).lanes("ashr" if signed else "lshr", n & every(w - 1, w, 128), w)
    return ~(back & below(n, w)).lanes("eq", a, w)


def doubled_high(cpu: Cpu, a: Value, b: Value, w: int, bits: int, rounds: bool) -> Value:
    """SQDMULH, SQRDMULH: the high half of twice the product; only the least number's square does not fit."""
    least = every(1 << w - 1, w, 128)
    note(cpu, (a.lanes("eq", least, w) & b.lanes("eq", least, w)).low(bits) != 0)
    r = []
    for k in (0, 1):
        product = widened(a.lane(k, 64), w, True).lanes("mul", widened(b.lane(k, 64), w, True), 2 * w)
        twice = product.lanes("sadd.sat", product, 2 * w)
        r.append(twice.lanes("sadd.sat", every(1 << w - 1, 2 * w, 128), 2 * w) if rounds else twice)
    return odd(r[0], r[1], w)


def multiplied_without_carry(a: Value, b: Value, w: int) -> Value:
    """Bytes as polynomials."""
    r = lift(0, 128)
    for i in range(8):
        bit = shift(shift(b, "shl", 7 - i, 8), "ashr", 7, 8)
        r = r ^ (shift(a, "shl", i, 8) & bit)
    return r


def accumulated(f: Lanewise, op: str = "add") -> Text:
    return lambda cpu, a, b, w, bits: cpu.V("Vd").lanes(op, f(a, b, w), w)


def product(a: Value, b: Value, w: int) -> Value:
    return a.lanes("mul", b, w)


def dot_product(x: Value, y: Value, signed: bool) -> Value:
    """Sums of four products of bytes, in lanes of 32 bits."""
    parts = []
    for k in (0, 1):
        p = widened(x.lane(k, 64), 8, signed).lanes("mul", widened(y.lane(k, 64), 8, signed), 16)
        sums = shift(p, "ashr" if signed else "lshr", 16, 32)
        low = shift(shift(p, "shl", 16, 32), "ashr" if signed else "lshr", 16, 32)
        parts.append(sums.lanes("add", low, 32))
    return even(parts[0], parts[1], 32).lanes("add", odd(parts[0], parts[1], 32), 32)


# fmt: off
for _u, _s, _signed in ((0, "s", True), (1, "u", False)):
    same(_u, "00000", _s + "hadd",  lanewise(lambda a, b, w, s=_signed: halved(a, b, w, s, False)), NO_64)
    same(_u, "00001", f"{_s}qadd",  saturating(f"{_s}add.sat"), ALL, ALL)
    same(_u, "00010", _s + "rhadd", lanewise(lambda a, b, w, s=_signed: halved(a, b, w, s, True)), NO_64)
    same(_u, "00100", _s + "hsub",  lanewise(lambda a, b, w, s=_signed: half_difference(a, b, w, s)), NO_64)
    same(_u, "00101", f"{_s}qsub",  saturating(f"{_s}sub.sat"), ALL, ALL)
    same(_u, "01000", _s + "shl",   shifted(_signed, False, False), ALL, "d")
    same(_u, "01001", f"{_s}qshl",  shifted(_signed, False, True), ALL, ALL)
    same(_u, "01010", _s + "rshl",  shifted(_signed, True, False), ALL, "d")
    same(_u, "01011", f"{_s}qrshl", shifted(_signed, True, True), ALL, ALL)
    same(_u, "01100", _s + "max",   lanes(_s + "max"), NO_64)
    same(_u, "01101", _s + "min",   lanes(_s + "min"), NO_64)
    same(_u, "01110", _s + "abd",   lanewise(lambda a, b, w, s=_signed: difference(a, b, w, s)), NO_64)
    same(_u, "01111", _s + "aba",   accumulated(lambda a, b, w, s=_signed: difference(a, b, w, s)), NO_64)
same(0, "00110", "cmgt",  lanes("sgt"), ALL, "d")
same(0, "00111", "cmge",  lanewise(compared("sgt", True, True)), ALL, "d")
same(1, "00110", "cmhi",  lanes("ugt"), ALL, "d")
same(1, "00111", "cmhs",  lanewise(compared("ugt", True, True)), ALL, "d")
same(0, "10001", "cmtst", lanewise(lambda a, b, w: ~(a & b).lanes("eq", 0, w)), ALL, "d")
same(1, "10001", "cmeq",  lanes("eq"), ALL, "d")
same(0, "10000", "add",   lanes("add"), ALL, "d")
same(1, "10000", "sub",   lanes("sub"), ALL, "d")
same(0, "10010", "mla",   accumulated(product), NO_64)
same(1, "10010", "mls",   accumulated(product, "sub"), NO_64)
same(0, "10011", "mul",   lanes("mul"), NO_64)
same(1, "10011", "pmul",  lanewise(multiplied_without_carry), "b")
same(0, "10110", "sqdmulh",  lambda cpu, a, b, w, bits: doubled_high(cpu, a, b, w, bits, False), HALF_WORD, HALF_WORD)
same(1, "10110", "sqrdmulh", lambda cpu, a, b, w, bits: doubled_high(cpu, a, b, w, bits, True), HALF_WORD, HALF_WORD)


# -- pairwise: of both operands one behind the other
def pairwise(u: int, opcode: str, name: str, op: str, sizes: str) -> None:
    def run(cpu: Cpu) -> None:
        a, b, w = source(cpu, "Vn"), source(cpu, "Vm"), 8 << cpu.size
        cpu.set_V("Vd", even(a, b, w).lanes(op, odd(a, b, w), w))

    simd(f"0 Q {u} 01110 size 1 Vm {opcode} 1 Vn Vd", name, run, where=sized(sizes), asm=ALIKE)


pairwise(0, "10100", "smaxp", "smax", NO_64)
pairwise(1, "10100", "umaxp", "umax", NO_64)
pairwise(0, "10101", "sminp", "smin", NO_64)
pairwise(1, "10101", "uminp", "umin", NO_64)
pairwise(0, "10111", "addp",  "add", ALL)


# -- bit by bit: the size chooses which
def bitwise(u: int, size: str, name: str, f: Callable[..., Value]) -> None:
    def run(cpu: Cpu) -> None:
        cpu.set_V("Vd", f(cpu.V("Vd"), cpu.V("Vn"), cpu.V("Vm")).low(bits_of(cpu)))

    simd(f"0 Q {u} 01110 {size} 1 Vm 00011 1 Vn Vd", name, run, lane=8, asm=ALIKE)


bitwise(0, "00", "and", lambda d, n, m: n & m)
bitwise(0, "01", "bic", lambda d, n, m: n & ~m)
bitwise(0, "10", "orr", lambda d, n, m: n | m)
bitwise(0, "11", "orn", lambda d, n, m: n | ~m)
bitwise(1, "00", "eor", lambda d, n, m: n ^ m)
bitwise(1, "01", "bsl", lambda d, n, m: choose(d, n, m))
bitwise(1, "10", "bit", lambda d, n, m: choose(m, n, d))
bitwise(1, "11", "bif", lambda d, n, m: choose(m, d, n))
# fmt: on


# -- three same extra: RDM and the dot product
def with_accumulator(cpu: Cpu, a: Value, b: Value, w: int, bits: int, minus: bool) -> Value:
    """SQRDMLAH, SQRDMLSH: the destination in front of the point, twice the product behind it, the high half rounded and saturated."""
    d, double = cpu.V("Vd"), 2 * w + 8
    least, most = -1 << w - 1, (1 << w - 1) - 1
    values, over = [], lift(0, 1)
    for i in range(bits // w):
        x, y, z = (v.lane(i, w).sext(double) for v in (a, b, d))
        twice = x * y << 1
        whole = (z << w) + (1 << w - 1)
        whole = ((whole - twice if minus else whole + twice).s >> w).low(double)
        small, large = whole.s < least, whole.s > most
        over = over | small | large
        values.append(small.choose(lift(least, double), large.choose(lift(most, double), whole)).low(w))
    note(cpu, over)
    return joined(values).zext(128)


def joined(values: list[Value]) -> Value:
    """Lanes as one value."""
    return concat(*values) if len(values) > 1 else values[0]


for _opcode, _name, _minus in (("0000", "sqrdmlah", False), ("0001", "sqrdmlsh", True)):

    def _run(cpu: Cpu, bits: int, minus: bool) -> None:
        cpu.set_V("Vd", with_accumulator(cpu, cpu.V("Vn"), cpu.V("Vm"), 8 << cpu.size, bits, minus))

    simd(f"0 Q 1 01110 size 0 Vm 1 {_opcode} 1 Vn Vd", _name, lambda cpu, m=_minus: _run(cpu, bits_of(cpu), m),
         where=sized(HALF_WORD), feature="asimdrdm", asm=ALIKE)  # fmt: skip
    simd(f"01 1 11110 size 0 Vm 1 {_opcode} 1 Vn Vd", _name, lambda cpu, m=_minus: _run(cpu, 8 << cpu.size, m),
         where=sized(HALF_WORD), feature="asimdrdm", asm=ONE)  # fmt: skip


def dot(cpu: Cpu, signed: bool) -> None:
    r = cpu.V("Vd").lanes("add", dot_product(cpu.V("Vn"), cpu.V("Vm"), signed), 32)
    cpu.set_V("Vd", r.low(bits_of(cpu)))


simd("0 Q 0 01110 10 0 Vm 1 0010 1 Vn Vd", "sdot", lambda cpu: dot(cpu, True), feature="asimddp", lane=32, asm="{Vd.T}, {Vn.Q}, {Vm.Q}")
simd("0 Q 1 01110 10 0 Vm 1 0010 1 Vn Vd", "udot", lambda cpu: dot(cpu, False), feature="asimddp", lane=32, asm="{Vd.T}, {Vn.Q}, {Vm.Q}")
