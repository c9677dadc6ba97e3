"""The evaluator's operations against what LLVM makes of the same nodes, on edges and random bits."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from random import Random

import pytest

from exuvia.dsl.trace import Function, Var, loop, rarely, when
from exuvia.dsl.values import BINARY, COMPARE, COUNT, Node, Value, concat, lift
from exuvia.vcpu.evaluate import LANES, call, convert, float_compare, float_operation, is_nan, rounded
from tests.dsl.compiled import compiled
from tests.oracle.values import DOUBLE_EDGES, SINGLE_EDGES

EDGES = (0, 1, 2, 7, 8, 31, 32, 63, 64, 65, 127, 128, -1, -2, 1 << 7, 1 << 15, 1 << 31, 1 << 63, (1 << 63) - 1, 1 << 127)


def text_of(op: str, w: int) -> Callable[[Value, Value], Value]:
    """A function of two values."""
    if op in COUNT:
        return lambda a, b: a.count(op)
    return lambda a, b: a.two(op, b, 1 if op in COMPARE else w)


def numbers(random: Random, w: int) -> int:
    """Edges and random bits."""
    return (random.choice(EDGES) if random.random() < 0.5 else random.getrandbits(random.choice((3, 8, w)))) & (1 << w) - 1


def floats(random: Random, w: int) -> int:
    """Bits of floats."""
    if random.random() < 0.5:
        return random.choice(SINGLE_EDGES if w == 32 else DOUBLE_EDGES)
    if random.random() < 0.3:
        return random.getrandbits(w)
    x = math.ldexp(random.uniform(-1, 1), random.randrange(-40, 60))
    return int.from_bytes(struct.pack("<f" if w == 32 else "<d", x), "little")


def agree(functions: list[Function], draw: Callable[[Random, int], int], rounds: int, fine: Callable[..., bool] = lambda *a: True) -> None:
    """Both engines give the same results."""
    native, random = compiled(functions), Random(1)
    for f in functions:
        for _ in range(rounds):
            args = [draw(random, w) for w in f.widths]
            if fine(*args):
                mine = call(f.trace, None, args)  # type: ignore[arg-type]
                assert mine == native[f.name](*args), (f.name, [hex(a) for a in args], hex(mine))


def test_integers() -> None:
    functions = [
        Function(f"{op}_{w}", text_of(op, w), (w, w), 1 if op in COMPARE else w)
        for w in (8, 16, 32, 64, 128)
        for op in (*BINARY, *COMPARE, *COUNT)
        if (w, op) != (8, "bswap") and (w < 128 or op not in ("udiv", "urem", "sdiv", "srem"))
    ]
    agree(functions, numbers, 60)


def test_widths() -> None:
    def wider(a: Value) -> Value:
        return a.low(20).sext(64) + a.bits(40, 9).zext(64) + a.high(7).sext(64)

    agree([Function("wider", wider, (64,), 64)], numbers, 200)


SHIFTS = ("shl", "lshr", "ashr")


def lanes(op: str, w: int) -> Function:
    """Shift counts stay below the lane's width."""
    counts = sum((w - 1) << i for i in range(0, 128, w)) if op in SHIFTS else (1 << 128) - 1
    return Function(f"l_{op}_{w}", lambda a, b: a.lanes(op, b & counts, w), (128, 128), 128)


def test_lanes() -> None:
    functions = [lanes(op, w) for op in LANES if op[0] != "f" for w in (8, 16, 32, 64)]
    for w in (8, 16, 32, 64):
        functions.append(Function(f"signs_{w}", lambda a, b, w=w: a.signs(w), (128, 128), 128 // w))
        functions.append(Function(f"lane_{w}", lambda a, b, w=w: a.lane(128 // w - 1, w), (128, 128), w))
        last = 128 // w - 1
        functions.append(Function(f"lane_at_{w}", lambda a, b, w=w, last=last: a.lane_at(b.low(64) & last, w), (128, 128), w))
        functions.append(Function(f"insert_{w}", lambda a, b, w=w: a.insert(1, b.low(w)), (128, 128), 128))
        swap = tuple(range(2 * last + 1, -1, -2))
        functions.append(Function(f"shuffle_{w}", lambda a, b, w=w, swap=swap: a.shuffle(b, w, *swap), (128, 128), w * len(swap)))
        functions.append(Function(f"concat_{w}", lambda a, b, w=w: concat(a.low(w), b.low(w)), (128, 128), 2 * w))
    agree(functions, numbers, 40)


@pytest.mark.parametrize("w", [32, 64])
def test_floats(w: int) -> None:
    def two(op: str) -> Callable[[Value, Value, Value], Value]:
        return lambda a, b, c: Value(Node("float", w, (a.n, b.n), op))

    def one(op: str) -> Callable[[Value, Value, Value], Value]:
        return lambda a, b, c: Value(Node("float", w, (a.n,), op))

    def compare(predicate: str) -> Callable[[Value, Value, Value], Value]:
        return lambda a, b, c: Value(Node("fcmp", 1, (a.n, b.n), predicate))

    three = (w, w, w)
    functions = [Function(f"{op}_{w}", two(op), three, w) for op in ("fadd", "fsub", "fmul", "fdiv")]
    functions += [Function(f"{op}_{w}", one(op), three, w) for op in ("sqrt", "floor", "ceil", "trunc", "roundeven")]
    functions.append(Function(f"fma_{w}", lambda a, b, c: Value(Node("float", w, (a.n, b.n, c.n), "fma")), three, w))
    for predicate in "oeq one olt ole ogt oge ord ueq une ult ule ugt uge uno".split():
        functions.append(Function(f"{predicate}_{w}", compare(predicate), three, 1))
    agree(functions, floats, 300, lambda *args: sum(is_nan(x, w) for x in args) <= 1)


def test_conversions() -> None:
    def to(kind: str, w: int) -> Callable[[Value], Value]:
        return lambda a: Value(Node("convert", w, (a.n,), kind))

    integers = [Function(f"{k}_{v}_{w}", to(k, w), (v,), w) for k in ("sitofp", "uitofp") for v in (32, 64) for w in (32, 64)]
    agree(integers, numbers, 200)
    others = [Function(f"fptosi_{v}_{w}", to("fptosi", w), (v,), w) for v in (32, 64) for w in (32, 64)]
    others += [Function("fpext_32_64", to("fpext", 64), (32,), 64), Function("fptrunc_64_32", to("fptrunc", 32), (64,), 32)]
    agree(others, floats, 400)


def test_branches_and_loops() -> None:
    def text(a: Value, b: Value) -> Value:
        x, y = Var(a), Var(lift(0, 64))
        with loop(b & 15, x, y):
            with rarely(x.bit(0)):
                y.set(y + x)
            x.set(x.u >> 1)
        with when(y == 0):
            y.set(b)
        return y ^ x

    agree([Function("branchy", text, (64, 64), 64)], numbers, 300)


def test_rounding_once() -> None:
    """Where rounding to binary64 first would be wrong."""
    half_way = Fraction(1) + Fraction(1, 1 << 24) + Fraction(1, 1 << 60)
    assert rounded(half_way, 32) == 0x3F800001
    assert rounded(Fraction(1, 1 << 150) + Fraction(1, 1 << 300), 32) == 1 and rounded(Fraction(1, 1 << 150), 32) == 0
    assert rounded(-(Fraction(2) ** 128), 32) == 0xFF800000 and rounded(Fraction(2) ** 1024, 64) == 0x7FF << 52
    assert float_operation("fma", 32, 0x3F800001, 0x3F800001, 0x0DA24260) == 0x3F800002
    assert convert("sitofp", 32, 0x40000041_00000001 >> 2, 64) == rounded(Fraction(0x40000041_00000001 >> 2), 32)


def test_nans() -> None:
    assert float_operation("fadd", 32, 0x7F800001, 0x3F800000) == 0x7FC00001
    assert float_operation("fsub", 64, 0x7FF << 52, 0x7FF << 52) == 0xFFF8 << 48
    assert not float_compare("oeq", 32, 0x7FC00000, 0x7FC00000) and float_compare("une", 32, 0x7FC00000, 0x7FC00000)
