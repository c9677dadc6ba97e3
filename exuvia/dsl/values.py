"""Guest values: integers of a known width that refuse what they cannot mean (a truth value, an unsaid signedness).

A value is a node of an expression graph. Nothing is computed while an instruction is traced, except constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

MASK = [(1 << w) - 1 for w in range(1025)]


class Node:
    """One operation: name, width of the result in bits, arguments, and whatever else the operation needs (`attr`)."""

    __slots__ = ("op", "w", "args", "attr")

    def __init__(self, op: str, w: int, args: tuple[Node, ...] = (), attr: Any = None) -> None:
        self.op, self.w, self.args, self.attr = op, w, args, attr

    def __repr__(self) -> str:
        inner = f"({', '.join(map(repr, self.args))})" if self.args else ""
        return f"{self.op}.{self.w}" + (f"[{self.attr}]" if self.attr is not None else "") + inner


def signed(value: int, w: int) -> int:
    """The two's complement reading of the low `w` bits."""
    return value - (1 << w) if value >> (w - 1) & 1 else value


def _sdiv(a: int, b: int, w: int) -> int:
    a, b = signed(a, w), signed(b, w)
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


def _srem(a: int, b: int, w: int) -> int:
    a, b = signed(a, w), signed(b, w)
    return abs(a) % abs(b) * (-1 if a < 0 else 1)


# What the operations on two integers mean; a count past the width gives zeros (or copies of the sign).
BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "shl": lambda a, b, w: a << b if b < w else 0,
    "shr": lambda a, b, w: a >> b if b < w else 0,
    "sar": lambda a, b, w: signed(a, w) >> min(b, w - 1),
    "udiv": lambda a, b, w: a // b if b else 0,
    "urem": lambda a, b, w: a % b if b else 0,
    "sdiv": lambda a, b, w: _sdiv(a, b, w) if b else 0,
    "srem": lambda a, b, w: _srem(a, b, w) if b else 0,
}
COMPARE: dict[str, Callable[[int, int, int], bool]] = {
    "eq": lambda a, b, w: a == b,
    "ult": lambda a, b, w: a < b,
    "slt": lambda a, b, w: signed(a, w) < signed(b, w),
}
COUNT: dict[str, Callable[[int, int], int]] = {
    "ctpop": lambda a, w: a.bit_count(),
    "ctz": lambda a, w: (a & -a).bit_length() - 1 if a else w,
    "clz": lambda a, w: w - a.bit_length(),
    "bswap": lambda a, w: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
}


def node(op: str, w: int, *args: Node, attr: Any = None) -> Node:
    """A node, with constants folded and neutral operands dropped; LLVM does the rest."""
    if all(a.op == "const" for a in args) and args:
        if op in BINARY and (op not in ("udiv", "urem", "sdiv", "srem") or args[1].attr):
            return const(BINARY[op](args[0].attr, args[1].attr, w), w)
        if op in COMPARE:
            return const(int(COMPARE[op](args[0].attr, args[1].attr, args[0].w)), 1)
        if op in ("zext", "trunc"):
            return const(args[0].attr, w)
        if op == "sext":
            return const(signed(args[0].attr, args[0].w), w)
        if op == "select":
            return args[1 if args[0].attr else 2]
    if len(args) == 2 and args[1].op == "const":
        if args[1].attr == 0 and op in ("add", "sub", "or", "xor", "shl", "shr", "sar"):
            return args[0]
        if op == "and" and args[1].attr == 0:
            return args[1]
        if op == "and" and args[1].attr == MASK[w]:
            return args[0]
    if len(args) == 2 and args[0].op == "const" and args[0].attr == 0 and op in ("add", "or", "xor"):
        return args[1]
    if op == "select" and args[0].op == "const":
        return args[1 if args[0].attr else 2]
    if op == "select" and args[1] is args[2]:
        return args[1]
    if op in ("zext", "sext", "trunc"):
        x = args[0]
        if x.w == w:
            return x
        if op == "trunc" and x.op in ("zext", "sext") and x.args[0].w >= w:
            return node("trunc", w, x.args[0])
        if op == x.op:
            return node(op, w, x.args[0])
    return Node(op, w, args, attr)


def const(value: int, w: int) -> Node:
    """A constant of width w."""
    return Node("const", w, (), value & MASK[w])


def refuse(sign: str) -> Callable[[Any, Any], Any]:
    def f(self: Any, other: Any) -> Any:
        raise TypeError(f"signed or unsigned? write a.s {sign} b or a.u {sign} b")

    return f


class Value:
    """A guest value: arithmetic wraps at its width, both sides must have the same width, Python integers take the other's."""

    __slots__ = ("n",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, n: Node) -> None:
        self.n = n

    @property
    def w(self) -> int:
        """Width in bits."""
        return self.n.w

    @property
    def constant(self) -> int | None:
        """The value where it is known while tracing."""
        return self.n.attr if self.n.op == "const" else None

    def __bool__(self) -> bool:
        raise TypeError("a guest value has no truth value while it is traced; write `with when(c):` or c.choose(a, b)")

    def _of(self, x: Any) -> Node:
        v = lift(x, self.w)
        if v.w != self.w:
            raise TypeError(f"widths differ: {self.w} and {v.w}; write .zext({self.w}) or .sext({self.w}) or .low({self.w})")
        return v.n

    def two(self, op: str, x: Any, w: int | None = None) -> Value:
        """The operation `op` on this value and x."""
        return Value(node(op, w or self.w, self.n, self._of(x)))

    def __add__(self, x: Any) -> Value:
        return self.two("add", x)

    def __sub__(self, x: Any) -> Value:
        return self.two("sub", x)

    def __mul__(self, x: Any) -> Value:
        return self.two("mul", x)

    def __and__(self, x: Any) -> Value:
        return self.two("and", x)

    def __or__(self, x: Any) -> Value:
        return self.two("or", x)

    def __xor__(self, x: Any) -> Value:
        return self.two("xor", x)

    def __lshift__(self, x: Any) -> Value:
        return self.two("shl", x)

    def __rsub__(self, x: Any) -> Value:
        return lift(x, self.w) - self

    def __rlshift__(self, x: Any) -> Value:
        return lift(x, self.w) << self

    __radd__, __rand__, __ror__, __rxor__, __rmul__ = __add__, __and__, __or__, __xor__, __mul__

    def __invert__(self) -> Value:
        return self ^ MASK[self.w]

    def __neg__(self) -> Value:
        return Value(const(0, self.w)) - self

    def __eq__(self, x: Any) -> Value:  # type: ignore[override]
        return self.two("eq", x, 1)

    def __ne__(self, x: Any) -> Value:  # type: ignore[override]
        return ~self.two("eq", x, 1)

    __lt__, __le__, __gt__, __ge__ = refuse("<"), refuse("<="), refuse(">"), refuse(">=")
    __floordiv__, __mod__, __rshift__ = refuse("//"), refuse("%"), refuse(">>")

    def choose(self, yes: Any, no: Any) -> Value:
        """`yes` where this condition holds, else `no`."""
        if self.w != 1:
            raise TypeError("choose wants a condition (width 1); write (a != 0).choose(...)")
        w = next((x.w for x in (yes, no) if hasattr(x, "w")), None)
        a = lift(yes, w)
        return Value(node("select", a.w, self.n, a.n, a._of(no)))

    def zext(self, w: int) -> Value:
        """Widened with zeros."""
        self._wider(w)
        return Value(node("zext", w, self.n))

    def sext(self, w: int) -> Value:
        """Widened with copies of the sign."""
        self._wider(w)
        return Value(node("sext", w, self.n))

    def _wider(self, w: int) -> None:
        if w < self.w:
            raise TypeError(f"cannot extend {self.w} bits to {w}; write .low({w})")

    def low(self, w: int) -> Value:
        """The low w bits."""
        if w > self.w:
            raise TypeError(f"{self.w} bits have no low {w}; write .zext({w}) or .sext({w})")
        return Value(node("trunc", w, self.n))

    def high(self, w: int) -> Value:
        """The high w bits."""
        return Value(node("trunc", w, node("shr", self.w, self.n, const(self.w - w, self.w))))

    def bits(self, high: int, low: int) -> Value:
        """Bits high..low, as manuals count them."""
        return (self.u >> low).low(high - low + 1)

    def bit(self, i: int) -> Value:
        """One bit."""
        return (self.u >> i).low(1)

    @property
    def top(self) -> Value:
        """The sign bit."""
        return self.bit(self.w - 1)

    @property
    def u(self) -> View:
        """This value where unsigned is meant."""
        return View(self, "u")

    @property
    def s(self) -> View:
        """This value where signed is meant."""
        return View(self, "s")

    def count(self, op: str) -> Value:
        """ctpop, ctz, clz (of the width: zero gives the width) or bswap."""
        return Value(node(op, self.w, self.n))

    ones = property(lambda self: self.count("ctpop"))
    trailing = property(lambda self: self.count("ctz"))
    leading = property(lambda self: self.count("clz"))
    swapped = property(lambda self: self.count("bswap"))

    def lanes(self, op: str, x: Any, w: int) -> Value:
        """Lane by lane, each w bits wide: add sub mul and or xor, umin umax smin smax, uadd.sat sadd.sat usub.sat ssub.sat, eq sgt ugt
        (all ones where true), shl lshr ashr (counts in x's lanes, all below w)."""
        return Value(node("lanes", self.w, self.n, self._of(x), attr=(op, w)))

    def lane(self, i: int, w: int) -> Value:
        """Lane i of w bits (lane 0 is the lowest)."""
        if self.n.op == "concat" and self.n.args[0].w == w:
            return Value(self.n.args[i])
        return Value(node("lane", w, self.n, attr=i)) if self.w > 64 else self.bits(i * w + w - 1, i * w)

    def lane_at(self, index: Any, w: int) -> Value:
        """The lane of w bits whose number is computed; the number must be below the count of lanes."""
        return Value(node("lane_at", w, self.n, lift(index, 64).zext(64).n))

    def shuffle(self, x: Any, w: int, *indices: int) -> Value:
        """Lanes of w bits chosen from this value's lanes and, numbered on from there, x's."""
        return Value(node("shuffle", w * len(indices), self.n, self._of(x), attr=(w, indices)))

    def signs(self, w: int) -> Value:
        """The sign bits of the lanes of w bits, lane 0's lowest."""
        return Value(node("signs", self.w // w, self.n, attr=w))

    def insert(self, i: int, x: Any) -> Value:
        """This value with lane i, as wide as x, replaced."""
        return Value(node("insert", self.w, self.n, x.n, attr=i))


class View:
    """a.u or a.s: the value where its sign makes a difference."""

    __slots__ = ("v", "k")

    def __init__(self, v: Value, k: str) -> None:
        self.v, self.k = v, k

    def _of(self, x: Any) -> Any:
        return x.v if isinstance(x, View) else lift(x, self.v.w)

    def __lt__(self, x: Any) -> Value:
        return self.v.two("ult" if self.k == "u" else "slt", self._of(x), 1)

    def __gt__(self, x: Any) -> Value:
        return View(lift(self._of(x)), self.k).__lt__(self)

    def __ge__(self, x: Any) -> Value:
        return ~self.__lt__(x)

    def __le__(self, x: Any) -> Value:
        return ~self.__gt__(x)

    def __rshift__(self, x: Any) -> Value:
        return self.v.two("shr" if self.k == "u" else "sar", self._of(x))

    def __floordiv__(self, x: Any) -> Value:
        return self.v.two(self.k + "div", self._of(x))

    def __mod__(self, x: Any) -> Value:
        return self.v.two(self.k + "rem", self._of(x))


def lift(x: Any, w: int | None = None) -> Value:
    """A value from a value, a Python integer (of width w), a view, or anything that reads as one (an operand, a flag)."""
    if isinstance(x, Value):
        return x
    if isinstance(x, int):
        if w is None:
            raise TypeError(f"how wide is {x}? write const(value, width)")
        return Value(const(x, w))
    if isinstance(x, View):
        return x.v
    v: Value = x.read()
    return v.zext(w) if v.w == 1 and w and w > 1 else v


def concat(*lanes: Value) -> Value:
    """One value from lanes of equal width, lane 0 first."""
    return Value(node("concat", sum(x.w for x in lanes), *(x.n for x in lanes)))


class Readable:
    """Anything that turns into a value when it is used: operands, flags, variables."""

    def read(self) -> Value:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.read(), name)

    def __bool__(self) -> bool:
        return bool(self.read())

    if TYPE_CHECKING:  # the operators, which the loop below defines

        def __add__(self, x: Any) -> Value: ...
        def __sub__(self, x: Any) -> Value: ...
        def __mul__(self, x: Any) -> Value: ...
        def __and__(self, x: Any) -> Value: ...
        def __or__(self, x: Any) -> Value: ...
        def __xor__(self, x: Any) -> Value: ...
        def __lshift__(self, x: Any) -> Value: ...
        def __radd__(self, x: Any) -> Value: ...
        def __rsub__(self, x: Any) -> Value: ...
        def __rmul__(self, x: Any) -> Value: ...
        def __rand__(self, x: Any) -> Value: ...
        def __ror__(self, x: Any) -> Value: ...
        def __rxor__(self, x: Any) -> Value: ...
        def __rlshift__(self, x: Any) -> Value: ...
        def __invert__(self) -> Value: ...
        def __neg__(self) -> Value: ...
        def __eq__(self, x: Any) -> Value: ...  # type: ignore[override]
        def __ne__(self, x: Any) -> Value: ...  # type: ignore[override]


def _through(name: str) -> Callable[..., Any]:
    return lambda self, *x: getattr(self.read(), name)(*x)


for _name in "add sub mul and or xor lshift rsub radd rand ror rxor rmul rlshift invert neg eq ne lt le gt ge floordiv mod rshift".split():
    setattr(Readable, f"__{_name}__", _through(f"__{_name}__"))
Readable.__hash__ = object.__hash__  # type: ignore[method-assign]
