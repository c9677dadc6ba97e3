"""SSE and SSE2 without arithmetic on floats: moves, shuffles, logic, the control word (SDM vol. 1, 10.4, 11.4, 11.6; vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86 import mxcsr
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.mmx import extended, move, pick_words
from exuvia.isa.x86.state import GP
from exuvia.isa.x86.vector import interleaved

SSE: dict[str, Any] = {"sse": True, "feature": "sse"}
SSE2: dict[str, Any] = {"sse": True, "feature": "sse2"}

# fmt: off
move("NP 0F 10 Vx,Wx | NP 0F 11 Wx,Vx", "movups", unaligned=True, **SSE)
move("66 0F 10 Vx,Wx | 66 0F 11 Wx,Vx", "movupd", unaligned=True, **SSE2)
move("NP 0F 28 Vx,Wx | NP 0F 29 Wx,Vx", "movaps", **SSE)
move("66 0F 28 Vx,Wx | 66 0F 29 Wx,Vx", "movapd", **SSE2)
move("66 0F 6F Vx,Wx | 66 0F 7F Wx,Vx", "movdqa", **SSE2)
move("F3 0F 6F Vx,Wx | F3 0F 7F Wx,Vx", "movdqu", unaligned=True, **SSE2)
move("NP 0F 2B Mx,Vx", "movntps", **SSE)
move("66 0F 2B Mx,Vx", "movntpd", **SSE2)
move("66 0F E7 Mx,Vx", "movntdq", **SSE2)
move("NP 0F C3 My,Gy", "movnti", feature="sse2")
move("NP 0F 12 Vq,Mq | NP 0F 13 Mq,Vq", "movlps", **SSE)
move("66 0F 12 Vq,Mq | 66 0F 13 Mq,Vq", "movlpd", **SSE2)
extended("66 0F 6E Vx,Ey", "movd", **SSE2)
extended("F3 0F 7E Vx,Wq", "movq", **SSE2)
pure("NP 0F 12 Vx,Ux", lambda a, b: a.insert(0, b.lane(1, 64)), "movhlps", **SSE)
pure("NP 0F 16 Vx,Ux", lambda a, b: a.insert(1, b.low(64)),     "movlhps", **SSE)
pure("NP 0F 16 Vx,Mq", lambda a, b: a.insert(1, b.read()),      "movhps",  **SSE)
pure("66 0F 16 Vx,Mq", lambda a, b: a.insert(1, b.read()),      "movhpd",  **SSE2)
pure("NP 0F 17 Mq,Vx", lambda a, b: b.lane(1, 64),              "movhps",  **SSE)
pure("66 0F 17 Mq,Vx", lambda a, b: b.lane(1, 64),              "movhpd",  **SSE2)


def scalar_move(cpu: Cpu, a: Any, b: Any) -> None:
    """A load clears the rest of the register, a move between registers leaves it."""
    if cpu.mem and hasattr(a, "set_whole"):
        a.set_whole(b.read())
    else:
        a.set(b)


op("F3 0F 10 Vss,Wss | F3 0F 11 Wss,Vss", "movss", **SSE)(scalar_move)
op("F2 0F 10 Vsd,Wsd | F2 0F 11 Wsd,Vsd", "movsd", **SSE2)(scalar_move)


@op("66 0F D6 Wq,Vq", "movq", **SSE2)
def movq_store(cpu: Cpu, a: Any, b: Any) -> None:
    if cpu.mem:
        a.set(b)
    else:
        a.set_whole(b.read())


op("66 0F 7E Ey,Vx", "movd", **SSE2)(lambda cpu, a, b: a.set(b.low(a.w)))


@op("F3 0F D6 Vx,Nq", mmx=True, **SSE2)
def movq2dq(cpu: Cpu, a: Any, b: Any) -> None:
    a.set_whole(b.read())


op("F2 0F D6 Pq,Uq", "movdq2q", mmx=True, **SSE2)(lambda cpu, a, b: a.set(b))

pure("NP 0F 50 Gd,Ux", lambda a, b: b.signs(32).zext(32), "movmskps", **SSE)
pure("66 0F 50 Gd,Ux", lambda a, b: b.signs(64).zext(32), "movmskpd", **SSE2)

for _p, _s, _facts in (("NP", "ps", SSE), ("66", "pd", SSE2)):
    _w = 32 if _s == "ps" else 64
    pure(f"{_p} 0F 54 Vx,Wx", lambda a, b: a & b,  "and" + _s,  **_facts)
    pure(f"{_p} 0F 55 Vx,Wx", lambda a, b: ~a & b, "andn" + _s, **_facts)
    pure(f"{_p} 0F 56 Vx,Wx", lambda a, b: a | b,  "or" + _s,   **_facts)
    pure(f"{_p} 0F 57 Vx,Wx", lambda a, b: a ^ b,  "xor" + _s,  **_facts)
    pure(f"{_p} 0F 14 Vx,Wx", lambda a, b, w=_w: interleaved(a, b, w, 0), "unpckl" + _s, **_facts)
    pure(f"{_p} 0F 15 Vx,Wx", lambda a, b, w=_w: interleaved(a, b, w, 1), "unpckh" + _s, **_facts)
pure("66 0F 6C Vx,Wx", lambda a, b: interleaved(a, b, 64, 0), "punpcklqdq", **SSE2)
pure("66 0F 6D Vx,Wx", lambda a, b: interleaved(a, b, 64, 1), "punpckhqdq", **SSE2)


def shuffled(order: Value, w: int, *sources: Value) -> Value:
    """Each lane picks one of its source's by a field of `order`, from its lowest bits on."""
    bits = 2 if w == 32 else 1
    return concat(*(v.lane_at(order.bits(bits * (i + 1) - 1, bits * i).zext(64), w) for i, v in enumerate(sources)))


@op("66 0F 70 Vx,Wx,Ib", **SSE2)
def pshufd(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    a.set(shuffled(order.read(), 32, *[b.read()] * 4))


@op("F2 0F 70 Vx,Wx,Ib", **SSE2)
def pshuflw(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    a.set(b.insert(0, concat(*pick_words(b.read(), order.read()))))


@op("F3 0F 70 Vx,Wx,Ib", **SSE2)
def pshufhw(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    a.set(b.insert(1, concat(*pick_words(b.read(), order.read(), 4))))


@op("NP 0F C6 Vx,Wx,Ib", **SSE)
def shufps(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    x, y = a.read(), b.read()
    a.set(shuffled(order.read(), 32, x, x, y, y))


@op("66 0F C6 Vx,Wx,Ib", **SSE2)
def shufpd(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    a.set(shuffled(order.read(), 64, a.read(), b.read()))


def by_bytes(left: bool) -> Any:
    """The whole register by a number of bytes; past 15 it is zero."""

    def text(a: Any, count: Any) -> Any:
        bits = lift(count).zext(128) << 3
        return a << bits if left else a.u >> bits

    return text


pure("66 0F 73/3 Ux,Ib", by_bytes(False), "psrldq", **SSE2)
pure("66 0F 73/7 Ux,Ib", by_bytes(True),  "pslldq", **SSE2)


@op("NP 0F AE/2 Md", **SSE)
def ldmxcsr(cpu: Cpu, a: Any) -> None:
    v = a.zext(64)
    with when((v & ~mxcsr.MASK) != 0):
        raise_(GP, 0)
    mxcsr.load(cpu, v)


@op("NP 0F AE/3 Md", **SSE)
def stmxcsr(cpu: Cpu, a: Any) -> None:
    a.set(mxcsr.current(cpu).low(32))
