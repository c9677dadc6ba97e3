"""Packed integers: what MMX, SSE2 and their successors do lane by lane, at 64, 128 and 256 bits (SDM vol. 1, 9.2, 11.3 and 14.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from exuvia.dsl.lanes import clamp, spread
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.forms import pure

Text = Callable[[Any, Any], Any]


def both(code: str, name: str, f: Text, since: tuple[str, str] = ("mmx", "sse2"), operands: str = "Vx,Hx,Wx") -> None:
    """One instruction on mmx registers and, with prefix 66, on vector registers; `since` names the features that brought it."""
    pure(f"NP {code} Pq,Qq", f, name, mmx=True, feature=since[0])
    pure(f"66 {code} {operands}", f, name, sse=True, feature=since[1], vex="avx2")


def halves(v: Any) -> list[Value]:
    """Parts of 128 bits."""
    return [v.lane(k, 128) for k in (0, 1)] if v.w == 256 else [lift(v)]


def by_half(f: Callable[..., Any], bits: int = 0) -> Callable[..., Any]:
    """What 128 bits are for an instruction of 256: each half for itself. What is narrower goes to both; of an immediate the second half
    begins `bits` further on."""

    def part(v: Value, k: int) -> Value:
        return v.lane(k, 128) if v.w == 256 else v.u >> bits * k if v.w == 8 else v

    def text(*o: Any) -> Any:
        values = [lift(x) for x in o]
        if all(v.w < 256 for v in values):
            return f(*values)
        return concat(*(f(*(part(v, k) for v in values)) for k in (0, 1)))

    return text


def within(a: Any, b: Any, w: int, indices: Iterable[int]) -> Any:
    """A shuffle of two values inside of each 128 bits: lanes are numbered there, a's first."""
    a = lift(a)
    n, count = min(a.w, 128) // w, a.w // w
    chosen = list(indices)
    return a.shuffle(lift(b), w, *(k + (i if i < n else count + i - n) for k in range(0, count, n) for i in chosen))


def lanewise(op: str, w: int) -> Text:
    """A lane operation of the language as an instruction's text."""
    return lambda a, b: a.lanes(op, lift(b, a.w), w)


def interleaved(a: Any, b: Any, w: int, half: int) -> Any:
    """Lanes of the low (0) or high (1) halves of two values, in turn, in each 128 bits."""
    n = min(a.w, 128) // w
    return within(a, b, w, (k for i in range(half * n // 2, (half + 1) * n // 2) for k in (i, n + i)))


def even(a: Any, b: Any, w: int) -> Any:
    """Lanes 0, 2, 4 ... of two values, a's first, in each 128 bits."""
    return within(a, b, w, range(0, 2 * min(a.w, 128) // w, 2))


def odd(a: Any, b: Any, w: int) -> Any:
    """Lanes 1, 3, 5 ... of two values, a's first, in each 128 bits."""
    return within(a, b, w, range(1, 2 * min(a.w, 128) // w, 2))


def pack(a: Any, b: Any, w: int, low: int, high: int) -> Any:
    """Signed lanes of w bits to half as wide ones, saturated."""
    return even(clamp(lift(a), low, high, w), clamp(lift(b), low, high, w), w // 2)


def counted(op: str, w: int) -> Text:
    """Shift all lanes by the low 64 bits of the source; past the width gives zeros or signs."""

    def text(a: Any, b: Any) -> Any:
        a, count = lift(a), lift(b).zext(64) if b.w < 64 else lift(b).low(64)
        fits = count.u < w
        if op == "ashr":
            return a.lanes(op, spread(fits.choose(count, w - 1).low(w), a.w), w)
        return fits.choose(a.lanes(op, spread((count & (w - 1)).low(w), a.w), w), lift(0, a.w))

    return text
