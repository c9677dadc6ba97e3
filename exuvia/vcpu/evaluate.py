"""What every operation of the language means, on Python integers: the definition that the compiled engines are held against.

An `Evaluator` holds the values of one trace while it runs. What lies outside (registers, memory, ports) is the `Machine`'s.
"""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from exuvia.dsl.trace import ENDS, Flags, Place, Trace
from exuvia.dsl.values import BINARY, COMPARE, COUNT, MASK, Node, signed

sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))  # an expression's depth, three frames for each operation

QUIET = {32: 1 << 22, 64: 1 << 51}
EXPONENT = {32: 0xFF << 23, 64: 0x7FF << 52}


class Machine(Protocol):
    """What a trace acts on. Pointers are whatever `translate` returns; `attr` is the effect's own."""

    def get(self, place: Place) -> int: ...
    def field(self, name: str) -> int: ...
    def condition(self, name: str) -> int: ...
    def place_of(self, which: str) -> int: ...
    def translate(self, linear: int, access: str, size: int, seg: int | str) -> int: ...
    def load(self, pointer: int, size: int) -> int: ...
    def store(self, pointer: int, size: int, value: int) -> None: ...
    def peek(self, file: str, index: int, w: int) -> int: ...
    def poke(self, file: str, index: int, w: int, value: int) -> None: ...
    def io_in(self, port: int, size: int) -> int: ...
    def io_out(self, port: int, size: int, value: int) -> None: ...
    def counter(self) -> int: ...


class Ending(NamedTuple):
    """The effect that a trace ended with, its arguments, and what is committed then."""

    effect: Node
    args: list[int]
    env: dict[Place, Node]
    flags: Flags | None


# --- binary32 and binary64 (IEEE 754-2019), round to nearest, ties to even
def is_nan(bits: int, w: int) -> bool:
    """Exponent all ones and a fraction."""
    return bits & MASK[w - 1] > EXPONENT[w]


def to_float(bits: int, w: int) -> float:
    """The number that the bits stand for, exactly."""
    return float(struct.unpack("<f" if w == 32 else "<d", bits.to_bytes(w // 8, "little"))[0])


def to_bits(x: float, w: int) -> int:
    """The bits of a number, rounded to w bits."""
    return int.from_bytes(bytes(ctypes.c_float(x) if w == 32 else ctypes.c_double(x)), "little")


def rounded(x: Fraction, w: int) -> int:
    """The bits of an exact number, rounded once."""
    if w == 64:
        try:
            return to_bits(x.numerator / x.denominator, 64)
        except OverflowError:
            return EXPONENT[64] | (1 << 63 if x < 0 else 0)
    if not x:
        return 0
    magnitude = abs(x)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, -126) - 23)
    nearest = round(x / step) * step
    if not nearest:
        return 1 << 31 if x < 0 else 0
    return EXPONENT[32] | (1 << 31 if x < 0 else 0) if abs(nearest) >= Fraction(2) ** 128 else to_bits(float(nearest), 32)


def divide(x: float, y: float) -> float:
    if y:
        return x / y
    return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))


def whole(f: Callable[[float], int]) -> Callable[[float], float]:
    """A rounding to integers that keeps the zero's sign and leaves infinities alone."""
    return lambda x: x if math.isinf(x) else math.copysign(float(f(x)), x)


# binary32 results go through binary64: rounding twice is harmless for these (53 is at least 2 * 24 + 2)
FLOAT: dict[str, Callable[..., float]] = {
    "fadd": lambda x, y: x + y,
    "fsub": lambda x, y: x - y,
    "fmul": lambda x, y: x * y,
    "fdiv": divide,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else math.nan,
    "fabs": math.fabs,
    "floor": whole(math.floor),
    "ceil": whole(math.ceil),
    "trunc": whole(math.trunc),
    "rint": whole(round),
    "roundeven": whole(round),
}
ORDERED: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}


def float_operation(op: str, w: int, *bits: int) -> int:
    """The result's bits. Of NaNs the first comes out, quiet; the NaN of an invalid operation is negative, as on x86 hosts."""
    for b in bits:
        if is_nan(b, w):
            return b | QUIET[w]
    values = [to_float(b, w) for b in bits]
    if op == "fma":
        x, y, z = values
        if all(map(math.isfinite, values)) and (exact := Fraction(x) * Fraction(y) + Fraction(z)):
            return rounded(exact, w)
        finite = math.isfinite(x) and math.isfinite(y)
        r = z if finite and math.isinf(z) else x * y + z  # infinities, a zero's sign
    else:
        r = FLOAT[op](*values)
    return 1 << (w - 1) | EXPONENT[w] | QUIET[w] if math.isnan(r) else to_bits(r, w)


def float_compare(predicate: str, w: int, a: int, b: int) -> bool:
    """LLVM's predicates: o.. is false and u.. true of NaNs."""
    unordered = is_nan(a, w) or is_nan(b, w)
    if predicate in ("ord", "uno"):
        return unordered == (predicate == "uno")
    return predicate[0] == "u" if unordered else ORDERED[predicate[1:]](to_float(a, w), to_float(b, w))


def convert(kind: str, w: int, bits: int, source: int) -> int:
    """Between integers and floats, and between floats, from `source` bits to w."""
    if kind in ("sitofp", "uitofp"):
        return rounded(Fraction(signed(bits, source) if kind == "sitofp" else bits), w)
    if kind == "fptosi":
        if is_nan(bits, source):
            return 0
        x, limit = to_float(bits, source), 1 << (w - 1)
        return limit - 1 if x >= limit else -limit if x < -limit else int(x)
    if is_nan(bits, source):
        shift = 52 - 23
        fraction = (bits & MASK[23]) << shift if w > source else (bits & MASK[52]) >> shift
        return bits >> (source - 1) << (w - 1) | EXPONENT[w] | QUIET[w] | fraction
    return to_bits(to_float(bits, source), w)


# --- lanes
def saturate(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def smax(w: int) -> int:
    return MASK[w - 1]


LANES: dict[str, Callable[[int, int, int], int]] = {
    **{op: BINARY[op] for op in ("add", "sub", "mul", "and", "or", "xor", "shl")},
    "lshr": BINARY["shr"],
    "ashr": BINARY["sar"],
    "umin": lambda a, b, w: min(a, b),
    "umax": lambda a, b, w: max(a, b),
    "smin": lambda a, b, w: min(signed(a, w), signed(b, w)),
    "smax": lambda a, b, w: max(signed(a, w), signed(b, w)),
    "uadd.sat": lambda a, b, w: saturate(a + b, 0, MASK[w]),
    "usub.sat": lambda a, b, w: saturate(a - b, 0, MASK[w]),
    "sadd.sat": lambda a, b, w: saturate(signed(a, w) + signed(b, w), ~smax(w), smax(w)),
    "ssub.sat": lambda a, b, w: saturate(signed(a, w) - signed(b, w), ~smax(w), smax(w)),
    "eq": lambda a, b, w: -(a == b),
    "sgt": lambda a, b, w: -(signed(a, w) > signed(b, w)),
    "ugt": lambda a, b, w: -(a > b),
    "foeq": lambda a, b, w: -float_compare("oeq", w, a, b),
    "folt": lambda a, b, w: -float_compare("olt", w, a, b),
    "fole": lambda a, b, w: -float_compare("ole", w, a, b),
    "funo": lambda a, b, w: -float_compare("uno", w, a, b),
    "fadd": lambda a, b, w: float_operation("fadd", w, a, b),
    "fsub": lambda a, b, w: float_operation("fsub", w, a, b),
    "fmul": lambda a, b, w: float_operation("fmul", w, a, b),
    "fdiv": lambda a, b, w: float_operation("fdiv", w, a, b),
}


def split(x: int, w: int, total: int) -> list[int]:
    """The lanes of w bits, lowest first."""
    return [x >> i & MASK[w] for i in range(0, total, w)]


def join(lanes: Iterable[int], w: int) -> int:
    """One integer from lanes of w bits."""
    return sum((x & MASK[w]) << i * w for i, x in enumerate(lanes))


class Evaluator:
    """The values of one run of a trace; `params` are a function's arguments."""

    def __init__(self, machine: Machine, params: Sequence[int] = ()) -> None:
        self.machine, self.params = machine, params
        self.memo: dict[int, int] = {}

    # -- expressions
    def value(self, n: Node) -> int:
        """The value of an expression: not negative, below 2 ** width."""
        if n.op == "const":
            return int(n.attr)
        v = self.memo.get(id(n))
        if v is None:
            v = self.memo[id(n)] = self.compute(n) & MASK[n.w]
        return v

    def compute(self, n: Node) -> int:
        op, w = n.op, n.w
        if op in BINARY:
            return BINARY[op](self.value(n.args[0]), self.value(n.args[1]), w)
        if op in COMPARE:
            return COMPARE[op](self.value(n.args[0]), self.value(n.args[1]), n.args[0].w)
        if op in COUNT:
            return COUNT[op](self.value(n.args[0]), w)
        method: Callable[[Node], int] | None = getattr(self, "value_" + op, None)
        if method is None:
            raise NotImplementedError(f"{op}.{w}: a value outside of its branch?" if op in OUTSIDE else f"no operation {op}")
        return int(method(n))

    def value_zext(self, n: Node) -> int:
        return self.value(n.args[0])

    value_trunc = value_ptr = value_zext

    def value_sext(self, n: Node) -> int:
        return signed(self.value(n.args[0]), n.args[0].w)

    def value_select(self, n: Node) -> int:
        return self.value(n.args[1 if self.value(n.args[0]) else 2])

    def value_lane(self, n: Node) -> int:
        return self.value(n.args[0]) >> int(n.attr) * n.w

    def value_lane_at(self, n: Node) -> int:
        return self.value(n.args[0]) >> self.value(n.args[1]) * n.w

    def value_insert(self, n: Node) -> int:
        w = n.args[1].w
        at = w * int(n.attr)
        return self.value(n.args[0]) & ~(MASK[w] << at) | self.value(n.args[1]) << at

    def value_concat(self, n: Node) -> int:
        return join(map(self.value, n.args), n.args[0].w)

    def value_shuffle(self, n: Node) -> int:
        w, indices = n.attr
        lanes = split(self.value(n.args[0]), w, n.args[0].w) + split(self.value(n.args[1]), w, n.args[1].w)
        return join((lanes[i] for i in indices), w)

    def value_signs(self, n: Node) -> int:
        return join((x >> (n.attr - 1) for x in split(self.value(n.args[0]), n.attr, n.args[0].w)), 1)

    def value_lanes(self, n: Node) -> int:
        op, w = n.attr
        a, b = (split(self.value(x), w, n.w) for x in n.args)
        return join((LANES[op](x, y, w) for x, y in zip(a, b)), w)

    def value_lanes1(self, n: Node) -> int:
        op, w = n.attr
        return join((float_operation(op, w, x) for x in split(self.value(n.args[0]), w, n.w)), w)

    def value_float(self, n: Node) -> int:
        return float_operation(n.attr, n.w, *map(self.value, n.args))

    def value_fcmp(self, n: Node) -> int:
        return float_compare(n.attr, n.args[0].w, self.value(n.args[0]), self.value(n.args[1]))

    def value_convert(self, n: Node) -> int:
        return convert(n.attr, n.w, self.value(n.args[0]), n.args[0].w)

    def value_call(self, n: Node) -> int:
        return call(n.attr.trace, self.machine, [self.value(x) for x in n.args])

    def value_param(self, n: Node) -> int:
        return self.params[int(n.attr)]

    def value_get(self, n: Node) -> int:
        return self.machine.get(n.attr)

    def value_field(self, n: Node) -> int:
        return self.machine.field(n.attr)

    def value_cc(self, n: Node) -> int:
        return self.machine.condition(n.attr)

    def value_this_pc(self, n: Node) -> int:
        return self.machine.place_of(n.op)

    value_next_pc = value_target = value_this_pc

    def value_host_floats(self, n: Node) -> int:
        return 0

    def do_virtual_time(self, n: Node) -> int:
        return self.machine.counter()

    def value_counter(self, n: Node) -> int:
        return self.machine.counter()

    # -- effects
    def run(self, body: list[Node]) -> Ending | None:
        """The effects in order; what they ended with, if that was inside a branch or the last effect."""
        for n in body:
            if n.op == "when":
                if (end := self.do_when(n)) is not None:
                    return end
            elif n.op in ENDS:
                return Ending(n, [self.value(x) for x in n.args], {}, None)
            elif n.op == "loop":
                self.do_loop(n)
            else:
                result = getattr(self, "do_" + n.op)(n)
                if n.w:
                    self.memo[id(n)] = result & MASK[n.w]
        return None

    def do_host_control(self, n: Node) -> int:
        return 0

    do_set_host_control = do_host_stack = do_set_host_stack = do_clear_host_stack = do_fence = do_relax = do_host_control

    def do_when(self, n: Node) -> Ending | None:
        body, merges, commit = n.attr
        if not self.value(n.args[0]):
            for m in merges:
                self.memo[id(m)] = self.value(m.args[2])
            return None
        end = self.run(body)
        if end is not None:
            return end._replace(env=commit[0], flags=commit[1]) if commit is not None and end.effect is body[-1] else end
        for m in merges:
            self.memo[id(m)] = self.value(m.args[1])
        return None

    def do_loop(self, n: Node) -> None:
        body, carried = n.attr
        before, values = dict(self.memo), [self.value(first) for _, first, _ in carried]
        for _ in range(self.value(n.args[0])):
            self.memo = before | {id(phi): v for (phi, _, _), v in zip(carried, values)}
            assert self.run(body) is None, "a loop's body cannot end the instruction"
            values = [self.value(following) for _, _, following in carried]
        self.memo = before | {id(phi): v for (phi, _, _), v in zip(carried, values)}

    def do_rare(self, n: Node) -> None:
        """Only marks its branch for the compiled engines."""

    # what is looked up at every step has no TLB
    do_switch_tlb = do_flush_tlb = do_invalidate_page = do_rare

    def do_translate(self, n: Node) -> int:
        access, size, seg = n.attr
        return self.machine.translate(self.value(n.args[0]), access, size, seg)

    def do_load(self, n: Node) -> int:
        return self.machine.load(self.value(n.args[0]), n.w // 8)

    def do_store(self, n: Node) -> None:
        self.machine.store(self.value(n.args[0]), n.args[1].w // 8, self.value(n.args[1]))

    def do_cas(self, n: Node) -> int:
        pointer, old, new = map(self.value, n.args)
        seen = self.machine.load(pointer, n.w // 8)
        if seen == old:
            self.machine.store(pointer, n.w // 8, new)
        return seen

    def do_peek(self, n: Node) -> int:
        return self.machine.peek(n.attr, self.value(n.args[0]), n.w)

    def do_poke(self, n: Node) -> None:
        self.machine.poke(n.attr, self.value(n.args[0]), n.args[1].w, self.value(n.args[1]))

    def do_io_in(self, n: Node) -> int:
        return self.machine.io_in(self.value(n.args[0]), n.w // 8)

    def do_io_out(self, n: Node) -> None:
        self.machine.io_out(self.value(n.args[0]), n.args[1].w // 8, self.value(n.args[1]))

    def do_copy(self, n: Node) -> int:
        """How many elements were moved at once; none is always right."""
        return 0

    do_fill = do_copy


OUTSIDE = ("merge", "load", "translate", "cas", "phi", "peek", "io_in", "arg")


def call(trace: Trace, machine: Machine, params: Sequence[int]) -> int:
    """The result of a function."""
    e = Evaluator(machine, params)
    assert e.run(trace.body) is None
    return e.value(trace.__dict__["result"])
