"""Advanced SIMD three different, and vectors by one element: integers (Arm ARM, C4.1.96.26, C4.1.96.20 and the scalar forms)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.ciphers import multiply_without_carry
from exuvia.dsl.lanes import every
from exuvia.dsl.values import Value
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.simd_same import (
    HALF_WORD,
    NO_64,
    difference,
    dot_product,
    doubled_high,
    product,
    sized,
    with_accumulator,
)
from exuvia.isa.aarch64.vectors import (
    Lanewise,
    bits_of,
    half,
    note,
    set_half,
    simd,
    upper,
    widened,
)

Long = Callable[..., Value]
"""Processor, operands of 128 bits in lanes of as many bits as are given."""


def different(u: int, opcode: str, name: str, f: Long, wide: bool = False, sizes: str = NO_64) -> None:
    """Long: halves of both operands are widened; `wide`: only the second's."""

    def run(cpu: Cpu) -> None:
        w, s = 8 << cpu.size, u == 0
        b = widened(half(cpu, "Vm"), w, s)
        cpu.set_V("Vd", f(cpu, cpu.V("Vn") if wide else widened(half(cpu, "Vn"), w, s), b, 2 * w))

    simd(f"0 Q {u} 01110 size 1 Vm {opcode} 00 Vn Vd", name, run, where=sized(sizes), second=True,
         asm="{Vd.L}, {Vn.L}, {Vm.T}" if wide else "{Vd.L}, {Vn.T}, {Vm.T}")  # fmt: skip


def narrow(u: int, opcode: str, name: str, op: str) -> None:
    """The high halves of sums or differences; U rounds."""

    def run(cpu: Cpu) -> None:
        w = 16 << cpu.size
        r = cpu.V("Vn").lanes(op, cpu.V("Vm"), w)
        set_half(cpu, upper(r.lanes("add", every(1 << w // 2 - 1, w, 128), w) if u else r, w))

    simd(f"0 Q {u} 01110 size 1 Vm {opcode} 00 Vn Vd", name, run, where=sized(NO_64), second=True, asm="{Vd.T}, {Vn.L}, {Vm.L}")


def lanes(op: str) -> Long:
    return lambda cpu, a, b, w: a.lanes(op, b, w)


def accumulated(op: str, f: Lanewise = product) -> Long:
    return lambda cpu, a, b, w: cpu.V("Vd").lanes(op, f(a, b, w), w)


def doubled(op: str) -> Long:
    """SQDMULL, and with `op` what it is added to or taken from."""

    def text(cpu: Cpu, a: Value, b: Value, w: int) -> Value:
        r, over = twice(cpu, a, b, w, op)
        note(cpu, over != 0)
        return r

    return text


def twice(cpu: Cpu, a: Value, b: Value, w: int, op: str) -> tuple[Value, Value]:
    """Saturated, and what is not zero where it had to be."""
    p = a.lanes("mul", b, w)
    r = p.lanes("sadd.sat", p, w)
    over = r ^ p.lanes("add", p, w)
    if op:
        d = cpu.V("Vd").low(r.w)
        sum_ = d.lanes(f"s{op}.sat", r, w)
        over, r = over | sum_ ^ d.lanes(op, r, w), sum_
    return r, over


# fmt: off
for _u, _s in ((0, "s"), (1, "u")):
    different(_u, "0000", _s + "addl",  lanes("add"))
    different(_u, "0001", _s + "addw",  lanes("add"), wide=True)
    different(_u, "0010", _s + "subl",  lanes("sub"))
    different(_u, "0011", _s + "subw",  lanes("sub"), wide=True)
    different(_u, "0101", _s + "abal",  accumulated("add", lambda a, b, w: difference(a, b, w, True)))
    different(_u, "0111", _s + "abdl",  lambda cpu, a, b, w: difference(a, b, w, True))
    different(_u, "1000", _s + "mlal",  accumulated("add"))
    different(_u, "1010", _s + "mlsl",  accumulated("sub"))
    different(_u, "1100", _s + "mull",  lanes("mul"))
    narrow(_u, "0100", "raddhn" if _u else "addhn", "add")
    narrow(_u, "0110", "rsubhn" if _u else "subhn", "sub")
# fmt: on
DOUBLED = (("1001", "0011", "sqdmlal", "add"), ("1011", "0111", "sqdmlsl", "sub"), ("1101", "1011", "sqdmull", ""))
"""Opcodes of three different and by element, name, what is done with the accumulator."""


def one_lane(cpu: Cpu, b: Value, op: str) -> None:
    """The scalar forms, by the lane b."""
    w = 16 << cpu.size
    r, over = twice(cpu, cpu.V("Vn").low(w // 2).sext(w), b.sext(w), w, op)
    note(cpu, over != 0)
    cpu.set_V("Vd", r)


def long_by(cpu: Cpu, f: Long, signed: bool) -> None:
    """By an element, which is as wide as the halves' lanes."""
    w = 8 << cpu.size
    cpu.set_V("Vd", f(cpu, widened(half(cpu, "Vn"), w, signed), widened(repeated(cpu, w, 64), w, signed), 2 * w))


def repeated(cpu: Cpu, w: int, total: int) -> Value:
    """The element of Vm that H, L and M name, in each lane; where M is part of it the register is one of V0 to V15 (the fact `lower`)."""
    index = cpu.H << 2 | cpu.L << 1 | cpu.M if w == 16 else cpu.H << 1 | cpu.L if w == 32 else cpu.H
    x = cpu.V("Vm")
    return x.shuffle(x, w, *[index] * (total // w)) if total > w else x.lane(index, w)


def by_element(row: str, name: str, run: Callable[..., None], asm: str, feature: str = "") -> None:
    """Encodings of `row` for elements of 16 and of 32 bits."""
    facts: dict[str, Any] = {"asm": asm, "second": "{Vd.L}" in asm, **({"feature": feature} if feature else {})}
    simd(row.replace("size M Vm", "01 L:1 M:1 xxxx"), name, at_size(1, run), lower=True, lane=16, **facts)
    simd(row.replace("size M Vm", "10 L:1 Vm"), name, at_size(2, run), lane=32, **facts)


def at_size(size: int, run: Callable[..., None]) -> Callable[..., None]:
    def text(cpu: Cpu) -> None:
        cpu.size = size
        run(cpu)

    return text


def each_by(u: int, opcode: str, name: str, f: Callable[..., Value], scalar: bool, feature: str = "") -> None:
    """Lane by lane."""

    def run(cpu: Cpu, bits: int) -> None:
        w = 8 << cpu.size
        cpu.set_V("Vd", f(cpu, cpu.V("Vn"), repeated(cpu, w, 128), w, bits).low(bits))

    by_element(f"0 Q {u} 01111 size M Vm {opcode} H:1 0 Vn Vd", name, lambda cpu: run(cpu, bits_of(cpu)),
               "{Vd.T}, {Vn.T}, {Vm.e}", feature)  # fmt: skip
    if scalar:
        by_element(f"01 {u} 11111 size M Vm {opcode} H:1 0 Vn Vd", name, lambda cpu: run(cpu, 8 << cpu.size),
                   "{Vd.E}, {Vn.E}, {Vm.e}", feature)  # fmt: skip


# fmt: off
each_by(0, "1000", "mul", lambda cpu, a, b, w, bits: a.lanes("mul", b, w), False)
each_by(1, "0000", "mla", lambda cpu, a, b, w, bits: cpu.V("Vd").lanes("add", a.lanes("mul", b, w), w), False)
each_by(1, "0100", "mls", lambda cpu, a, b, w, bits: cpu.V("Vd").lanes("sub", a.lanes("mul", b, w), w), False)
each_by(0, "1100", "sqdmulh",  lambda cpu, a, b, w, bits: doubled_high(cpu, a, b, w, bits, False), True)
each_by(0, "1101", "sqrdmulh", lambda cpu, a, b, w, bits: doubled_high(cpu, a, b, w, bits, True), True)
each_by(1, "1101", "sqrdmlah", lambda cpu, a, b, w, bits: with_accumulator(cpu, a, b, w, bits, False), True, "asimdrdm")
each_by(1, "1111", "sqrdmlsh", lambda cpu, a, b, w, bits: with_accumulator(cpu, a, b, w, bits, True), True, "asimdrdm")
LONG = (("0010", "mlal", accumulated("add")), ("0110", "mlsl", accumulated("sub")), ("1010", "mull", lanes("mul")))
for _u, _s in ((0, "s"), (1, "u")):
    for _opcode, _name, _long in LONG:
        by_element(f"0 Q {_u} 01111 size M Vm {_opcode} H:1 0 Vn Vd", _s + _name,
                   lambda cpu, f=_long, s=_u == 0: long_by(cpu, f, s), "{Vd.L}, {Vn.T}, {Vm.e}")
for _three, _opcode, _name, _op in DOUBLED:
    different(0, _three, _name, doubled(_op), sizes=HALF_WORD)
    by_element(f"0 Q 0 01111 size M Vm {_opcode} H:1 0 Vn Vd", _name, lambda cpu, op=_op: long_by(cpu, doubled(op), True),
               "{Vd.L}, {Vn.T}, {Vm.e}")
    simd(f"01 0 11110 size 1 Vm {_three} 00 Vn Vd", _name, lambda cpu, op=_op: one_lane(cpu, cpu.V("Vm").low(8 << cpu.size), op),
         where=sized(HALF_WORD), asm="{Vd.W}, {Vn.E}, {Vm.E}")
    by_element(f"01 0 11111 size M Vm {_opcode} H:1 0 Vn Vd", _name,
               lambda cpu, op=_op: one_lane(cpu, repeated(cpu, 8 << cpu.size, 8 << cpu.size), op), "{Vd.W}, {Vn.E}, {Vm.e}")
# fmt: on


def dot_by(cpu: Cpu, signed: bool) -> None:
    """Four bytes of Vm with each four of Vn."""
    r = cpu.V("Vd").lanes("add", dot_product(cpu.V("Vn"), repeated(cpu, 32, 128), signed), 32)
    cpu.set_V("Vd", r.low(bits_of(cpu)))


simd("0 Q 0 01111 10 L:1 Vm 1110 H:1 0 Vn Vd", "sdot", lambda cpu: dot_by(cpu, True), feature="asimddp", lane=32,
     asm="{Vd.T}, {Vn.Q}, {Vm.g}")  # fmt: skip
simd("0 Q 1 01111 10 L:1 Vm 1110 H:1 0 Vn Vd", "udot", lambda cpu: dot_by(cpu, False), feature="asimddp", lane=32,
     asm="{Vd.T}, {Vn.Q}, {Vm.g}")  # fmt: skip


LONG_OF = "{Vd.L}, {Vn.T}, {Vm.T}"


def pmull_bytes(cpu: Cpu) -> None:
    a, b = (widened(half(cpu, x), 8, False) for x in ("Vn", "Vm"))
    r = a ^ a
    for i in range(8):
        bit = b.lanes("shl", every(15 - i, 16, 128), 16).lanes("ashr", every(15, 16, 128), 16)
        r = r ^ (a.lanes("shl", every(i, 16, 128), 16) & bit)
    cpu.set_V("Vd", r)


simd("0 Q 0 01110 00 1 Vm 1110 00 Vn Vd", "pmull", pmull_bytes, second=True, lane=8, asm=LONG_OF)
simd("0 Q 0 01110 11 1 Vm 1110 00 Vn Vd", "pmull", lambda cpu: cpu.set_V(
    "Vd", multiply_without_carry(*(half(cpu, x).zext(128) for x in ("Vn", "Vm")))),
    feature="pmull", second=True, lane=64, asm=LONG_OF)  # fmt: skip
