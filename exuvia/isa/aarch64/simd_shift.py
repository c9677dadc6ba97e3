"""Advanced SIMD shift by immediate and its scalar form, integers (Arm ARM, C4.1.96.24, C4.1.96.9)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.lanes import choose, every, shift, spread
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.simd_same import lost, shifted_left, shifted_right
from exuvia.isa.aarch64.vectors import bits_of, half, narrowed, note, set_half, simd, widened

Text = Callable[..., Value]
"""Processor, operand of 128 bits, count in each lane, bits of a lane, bits that count."""
ALL = "bhsd"


def short(v: dict[str, int]) -> bool:
    """Lanes of less than 64 bits."""
    return 0 < v["immh"] < 8


def lane(immh: int) -> int:
    """Its highest bit says how wide lanes are."""
    return 8 << immh.bit_length() - 1


def sized(sizes: str) -> Callable[..., bool]:
    return lambda v: v["immh"] > 0 and ALL[v["immh"].bit_length() - 1] in sizes and (v["immh"] < 8 or v.get("Q", 1) == 1)


def right(cpu: Cpu, w: int) -> Value:
    """1 to w, in 64 bits: immh:immb counts down from twice the width."""
    return lift(2 * w, 64) - left(cpu, w) - w


def left(cpu: Cpu, w: int) -> Value:
    """0 to w - 1."""
    return cpu.bits("immb") | (lift(cpu.immh, 64) << 3 & (w - 1))


def shifts(u: int, opcode: str, name: str, f: Text, to_left: bool, sizes: str = ALL, scalar: str = "d") -> None:
    by = "{left}" if to_left else "{right}"

    def run(cpu: Cpu, bits: int) -> None:
        w = lane(cpu.immh)
        count = spread((left if to_left else right)(cpu, w).low(w), 128)
        cpu.set_V("Vd", f(cpu, cpu.V("Vn"), count, w, bits).low(bits))

    simd(f"0 Q {u} 011110 immh:4 immb=3 {opcode} 1 Vn Vd", name, lambda cpu: run(cpu, bits_of(cpu)),
         where=sized(sizes), asm="{Vd.T}, {Vn.T}, " + by)  # fmt: skip
    if scalar:
        simd(f"01 {u} 111110 immh:4 immb=3 {opcode} 1 Vn Vd", name, lambda cpu: run(cpu, lane(cpu.immh)),
             where=sized(scalar), asm="{Vd.E}, {Vn.E}, " + by)  # fmt: skip


def down(signed: bool, rounds: bool, accumulates: bool) -> Text:
    def text(cpu: Cpu, a: Value, n: Value, w: int, bits: int) -> Value:
        r = shifted_right(a, n, w, signed, rounds)
        return cpu.V("Vd").lanes("add", r, w) if accumulates else r

    return text


def inserted_right(cpu: Cpu, a: Value, n: Value, w: int, bits: int) -> Value:
    kept = shifted_right(lift(every(-1, w, 128), 128), n, w, False, False)
    return choose(kept, shifted_right(a, n, w, False, False), cpu.V("Vd"))


def inserted_left(cpu: Cpu, a: Value, n: Value, w: int, bits: int) -> Value:
    kept = shifted_left(lift(every(-1, w, 128), 128), n, w)
    return choose(kept, shifted_left(a, n, w), cpu.V("Vd"))


def saturating_left(signed: bool, to_unsigned: bool) -> Text:
    def text(cpu: Cpu, a: Value, n: Value, w: int, bits: int) -> Value:
        sign = shift(a, "ashr", w - 1, w)
        over = lost(a, n, w, signed and not to_unsigned)
        if to_unsigned:  # negative ones become zero
            over, limit = (over | sign) & ~a.lanes("eq", 0, w), ~sign
        else:
            limit = sign ^ every((1 << w - 1) - 1, w, 128) if signed else lift(every(-1, w, 128), 128)
        note(cpu, over.low(bits) != 0)
        return choose(over, limit, shifted_left(a, n, w))

    return text


# fmt: off
for _u, _s, _signed in ((0, "s", True), (1, "u", False)):
    shifts(_u, "00000", _s + "shr",   down(_signed, False, False), False)
    shifts(_u, "00010", _s + "sra",   down(_signed, False, True), False)
    shifts(_u, "00100", _s + "rshr",  down(_signed, True, False), False)
    shifts(_u, "00110", _s + "rsra",  down(_signed, True, True), False)
    shifts(_u, "01110", _s + "qshl",  saturating_left(_signed, False), True, ALL, ALL)
shifts(0, "01010", "shl",    lambda cpu, a, n, w, bits: shifted_left(a, n, w), True)
shifts(1, "01000", "sri",    inserted_right, False)
shifts(1, "01010", "sli",    inserted_left, True)
shifts(1, "01100", "sqshlu", saturating_left(True, True), True, ALL, ALL)
# fmt: on


LONG = "{Vd.L}, {Vn.T}, {left}"


def long(cpu: Cpu, signed: bool) -> None:
    """SSHLL, USHLL."""
    w = lane(cpu.immh)
    cpu.set_V("Vd", shifted_left(widened(half(cpu, "Vn"), w, signed), spread(left(cpu, w).low(2 * w), 128), 2 * w))


simd("0 Q 0 011110 immh:4 immb=3 10100 1 Vn Vd", "sshll", lambda cpu: long(cpu, True), where=short, second=True, asm=LONG)
simd("0 Q 1 011110 immh:4 immb=3 10100 1 Vn Vd", "ushll", lambda cpu: long(cpu, False), where=short, second=True, asm=LONG)


def saturated_narrow(x: Value, w: int, from_signed: bool, to_signed: bool) -> tuple[Value, Value]:
    """Lanes of w bits held in what half as many can say, and where that changed them."""
    most = (1 << w // 2 - (1 if to_signed else 0)) - 1
    if from_signed:
        r = x.lanes("smin", every(most, w, x.w), w).lanes("smax", every(~most if to_signed else 0, w, x.w), w)
    else:
        r = x.lanes("umin", every(most, w, x.w), w)
    return r, r ^ x


def narrows(u: int, opcode: str, name: str, rounds: bool, saturates: tuple[bool, bool] | None, scalar: bool) -> None:
    """Shifted right, then half as wide; `saturates`: from signed, to signed."""

    def value(cpu: Cpu) -> tuple[Value, Value | None]:
        w = 2 * lane(cpu.immh)
        count = spread(right(cpu, w // 2).low(w), 128)
        r = shifted_right(cpu.V("Vn"), count, w, saturates is not None and saturates[0], rounds)
        return saturated_narrow(r, w, *saturates) if saturates else (r, None)

    def run(cpu: Cpu) -> None:
        r, over = value(cpu)
        if over is not None:
            note(cpu, over != 0)
        set_half(cpu, narrowed(r, 2 * lane(cpu.immh)))

    def run_scalar(cpu: Cpu) -> None:
        w = lane(cpu.immh)
        r, over = value(cpu)
        if over is not None:
            note(cpu, over.low(2 * w) != 0)
        cpu.set_V("Vd", r.low(w))

    simd(f"0 Q {u} 011110 immh:4 immb=3 {opcode} 1 Vn Vd", name, run, where=short, second=True, asm="{Vd.T}, {Vn.L}, {right}")
    if scalar:
        simd(f"01 {u} 111110 immh:4 immb=3 {opcode} 1 Vn Vd", name, run_scalar, where=short, asm="{Vd.E}, {Vn.W}, {right}")


narrows(0, "10000", "shrn", False, None, False)
narrows(0, "10001", "rshrn", True, None, False)
for _opcode, _r, _rounds in (("10010", "", False), ("10011", "r", True)):
    narrows(0, _opcode, f"sq{_r}shrn", _rounds, (True, True), True)
    narrows(1, _opcode, f"uq{_r}shrn", _rounds, (False, False), True)
narrows(1, "10000", "sqshrun", False, (True, False), True)
narrows(1, "10001", "sqrshrun", True, (True, False), True)
