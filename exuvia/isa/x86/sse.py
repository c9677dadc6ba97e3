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
from exuvia.isa.x86.vector import by_half, interleaved

SSE: dict[str, Any] = {"sse": True, "feature": "sse"}
SSE2: dict[str, Any] = {"sse": True, "feature": "sse2"}

# fmt: off
move("NP 0F 10 Vx,Wx | NP 0F 11 Wx,Vx", "movups", unaligned=True, vex="avx", **SSE)
move("66 0F 10 Vx,Wx | 66 0F 11 Wx,Vx", "movupd", unaligned=True, vex="avx", **SSE2)
move("NP 0F 28 Vx,Wx | NP 0F 29 Wx,Vx", "movaps", aligned=True, vex="avx", **SSE)
move("66 0F 28 Vx,Wx | 66 0F 29 Wx,Vx", "movapd", aligned=True, vex="avx", **SSE2)
move("66 0F 6F Vx,Wx | 66 0F 7F Wx,Vx", "movdqa", aligned=True, vex="avx", **SSE2)
move("F3 0F 6F Vx,Wx | F3 0F 7F Wx,Vx", "movdqu", unaligned=True, vex="avx", **SSE2)
move("NP 0F 2B Mx,Vx", "movntps", aligned=True, vex="avx", **SSE)
move("66 0F 2B Mx,Vx", "movntpd", aligned=True, vex="avx", **SSE2)
move("66 0F E7 Mx,Vx", "movntdq", aligned=True, vex="avx", **SSE2)
move("NP 0F C3 My,Gy", "movnti", feature="sse2")
move("NP 0F 12 Vq,Hq,Mq | NP 0F 13 Mq,Vq", "movlps", vex="128", **SSE)
move("66 0F 12 Vq,Hq,Mq | 66 0F 13 Mq,Vq", "movlpd", vex="128", **SSE2)
extended("66 0F 6E Vx,Ey", "movd", vex="128", **SSE2)
extended("F3 0F 7E Vx,Wq", "movq", vex="128", **SSE2)
pure("NP 0F 12 Vx,Hx,Ux", lambda a, b: a.insert(0, b.lane(1, 64)), "movhlps", vex="128", **SSE)
pure("NP 0F 16 Vx,Hx,Ux", lambda a, b: a.insert(1, b.low(64)),     "movlhps", vex="128", **SSE)
pure("NP 0F 16 Vx,Hx,Mq", lambda a, b: a.insert(1, b.read()),      "movhps",  vex="128", **SSE)
pure("66 0F 16 Vx,Hx,Mq", lambda a, b: a.insert(1, b.read()),      "movhpd",  vex="128", **SSE2)
pure("NP 0F 17 Mq,Vx", lambda a, b: b.lane(1, 64),              "movhps",  vex="128", **SSE)
pure("66 0F 17 Mq,Vx", lambda a, b: b.lane(1, 64),              "movhpd",  vex="128", **SSE2)


extended("F3 0F 10 Vdq,Mss", "movss", vex="LIG", **SSE)
extended("F2 0F 10 Vdq,Msd", "movsd", vex="LIG", **SSE2)
move("F3 0F 11 Mss,Vss | F3 0F 10 Vss,Hss,Uss | F3 0F 11 Uss,Hss,Vss", "movss", vex="LIG", **SSE)
move("F2 0F 11 Msd,Vsd | F2 0F 10 Vsd,Hsd,Usd | F2 0F 11 Usd,Hsd,Vsd", "movsd", vex="LIG", **SSE2)


@op("66 0F D6 Wq,Vq", "movq", vex="128", **SSE2)
def movq_store(cpu: Cpu, a: Any, b: Any) -> None:
    if cpu.mem:
        a.set(b)
    else:
        a.set_whole(b.read())


op("66 0F 7E Ey,Vx", "movd", vex="128", **SSE2)(lambda cpu, a, b: a.set(b.low(a.w)))


@op("F3 0F D6 Vx,Nq", mmx=True, **SSE2)
def movq2dq(cpu: Cpu, a: Any, b: Any) -> None:
    a.set_whole(b.read())


op("F2 0F D6 Pq,Uq", "movdq2q", mmx=True, **SSE2)(lambda cpu, a, b: a.set(b))

pure("NP 0F 50 Gd,Ux", lambda a, b: b.signs(32).zext(32), "movmskps", vex="avx", **SSE)
pure("66 0F 50 Gd,Ux", lambda a, b: b.signs(64).zext(32), "movmskpd", vex="avx", **SSE2)

for _p, _s, _facts in (("NP", "ps", SSE), ("66", "pd", SSE2)):
    _w = 32 if _s == "ps" else 64
    pure(f"{_p} 0F 54 Vx,Hx,Wx", lambda a, b: a & b,  "and" + _s,  vex="avx", **_facts)
    pure(f"{_p} 0F 55 Vx,Hx,Wx", lambda a, b: ~a & b, "andn" + _s, vex="avx", **_facts)
    pure(f"{_p} 0F 56 Vx,Hx,Wx", lambda a, b: a | b,  "or" + _s,   vex="avx", **_facts)
    pure(f"{_p} 0F 57 Vx,Hx,Wx", lambda a, b: a ^ b,  "xor" + _s,  vex="avx", **_facts)
    pure(f"{_p} 0F 14 Vx,Hx,Wx", lambda a, b, w=_w: interleaved(a, b, w, 0), "unpckl" + _s, vex="avx", **_facts)
    pure(f"{_p} 0F 15 Vx,Hx,Wx", lambda a, b, w=_w: interleaved(a, b, w, 1), "unpckh" + _s, vex="avx", **_facts)
pure("66 0F 6C Vx,Hx,Wx", lambda a, b: interleaved(a, b, 64, 0), "punpcklqdq", vex="avx2", **SSE2)
pure("66 0F 6D Vx,Hx,Wx", lambda a, b: interleaved(a, b, 64, 1), "punpckhqdq", vex="avx2", **SSE2)


def shuffled(order: Value, w: int, *sources: Value) -> Value:
    """Each lane picks one of its source's by a field of `order`, from its lowest bits on."""
    bits = 2 if w == 32 else 1
    return concat(*(v.lane_at(order.bits(bits * (i + 1) - 1, bits * i).zext(64), w) for i, v in enumerate(sources)))


def low_words(b: Any, order: Value) -> Any:
    return b.insert(0, concat(*pick_words(b, order)))


def high_words(b: Any, order: Value) -> Any:
    return b.insert(1, concat(*pick_words(b, order, 4)))


def one_source(f: Any) -> Any:
    """The text of an instruction that does not read its destination."""
    return lambda a, *sources: f(*map(lift, sources))


# fmt: off
pure("66 0F 70 Vx,Wx,Ib", one_source(by_half(lambda b, i: shuffled(i, 32, b, b, b, b))), "pshufd", vex="avx2", **SSE2)
pure("F2 0F 70 Vx,Wx,Ib", one_source(by_half(low_words)),  "pshuflw", vex="avx2", **SSE2)
pure("F3 0F 70 Vx,Wx,Ib", one_source(by_half(high_words)), "pshufhw", vex="avx2", **SSE2)
pure("NP 0F C6 Vx,Hx,Wx,Ib", by_half(lambda a, b, i: shuffled(i, 32, a, a, b, b)), "shufps", vex="avx", **SSE)
pure("66 0F C6 Vx,Hx,Wx,Ib", by_half(lambda a, b, i: shuffled(i, 64, a, b), 2), "shufpd", vex="avx", **SSE2)
# fmt: on


def by_bytes(left: bool) -> Any:
    """Each 128 bits by a number of bytes; past 15 they are zero."""

    def text(a: Any, count: Any) -> Any:
        bits = lift(count).zext(128) << 3
        return a << bits if left else a.u >> bits

    return by_half(text)


pure("66 0F 73/3 Hx,Ux,Ib", by_bytes(False), "psrldq", vex="avx2", **SSE2)
pure("66 0F 73/7 Hx,Ux,Ib", by_bytes(True),  "pslldq", vex="avx2", **SSE2)


@op("NP 0F AE/2 Md", vex="128", **SSE)
def ldmxcsr(cpu: Cpu, a: Any) -> None:
    v = a.zext(64)
    with when((v & ~mxcsr.MASK) != 0):
        raise_(GP, 0)
    mxcsr.load(cpu, v)


@op("NP 0F AE/3 Md", vex="128", **SSE)
def stmxcsr(cpu: Cpu, a: Any) -> None:
    a.set(mxcsr.current(cpu).low(32))
