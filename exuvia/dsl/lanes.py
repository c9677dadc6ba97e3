"""Lanes of a vector, whichever processor's it is: constants, shifts, choices."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import function
from exuvia.dsl.values import Value, concat, lift


def every(lane: int, w: int, total: int) -> int:
    """A constant with the same value in each lane of w bits."""
    return sum((lane & (1 << w) - 1) << i for i in range(0, total, w))


def spread(v: Value, total: int) -> Value:
    """The same value in each lane."""
    return concat(*[v] * (total // v.w))


def add(a: Value, b: Any, w: int) -> Value:
    return a.lanes("add", b, w)


def shift(a: Value, op: str, count: int, w: int) -> Value:
    """All lanes by a constant: op is shl, lshr or ashr."""
    return a.lanes(op, every(count, w, a.w), w)


def clamp(a: Value, low: int, high: int, w: int) -> Value:
    """Signed lanes held between two constants."""
    return a.lanes("smin", every(high, w, a.w), w).lanes("smax", every(low, w, a.w), w)


def negated(a: Value, w: int) -> Value:
    return lift(0, a.w).lanes("sub", a, w)


def absolute(a: Value, w: int) -> Value:
    """The most negative number stays."""
    return a.lanes("smax", negated(a, w), w)


def low_signed(a: Value, w: int) -> Value:
    """The low half of each lane, with its sign."""
    return shift(shift(a, "shl", w // 2, w), "ashr", w // 2, w)


def choose(mask: Value, yes: Any, no: Any) -> Value:
    """Bit by bit."""
    return (mask & lift(yes)) | (~mask & lift(no))


def bytes_picked(v: Value, order: Value) -> Value:
    """Byte by byte: the byte that the order's names, or zero where its top bit is set."""
    n = v.w // 8
    picked = concat(*(v.lane_at(order.lane(i, 8) & n - 1, 8) for i in range(n)))
    return picked & ~order.lanes("ashr", every(7, 8, v.w), 8)


@function(128, 128, returns=128)
def pick_bytes_128(v: Value, order: Value) -> Value:
    return bytes_picked(v, order)


def picked(sources: list[Value], w: int, places: list[tuple[int, int]]) -> Value:
    """Lanes of w bits from several values of one width: for each, the number of the source and of its lane. From more than two sources as
    many lanes as one has."""
    n = sources[0].w // w
    wanted = sorted({s for s, _ in places})
    r = sources[wanted[0]]
    if len(wanted) == 1:
        return r.shuffle(r, w, *(lane for _, lane in places))
    for k, source in enumerate(wanted[1:]):
        there = [lane if k == 0 else i for i, (_, lane) in enumerate(places)]
        r = r.shuffle(sources[source], w, *(n + lane if s == source else there[i] for i, (s, lane) in enumerate(places)))
    return r
