"""MMX, and the instructions of SSE and SSE2 that are MMX's on xmm registers (SDM vol. 1 chapter 9, vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.lanes import add, every, low_signed, shift
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.vector import both, counted, interleaved, lanewise, pack

SSE_MMX = ("sse", "sse2")  # SSE gave MMX more instructions


def move(rows: str, name: str, **facts: Any) -> None:
    pure(rows, lambda *sources: sources[-1], name, **facts)


def extended(rows: str, name: str, **facts: Any) -> None:
    """The whole destination is written, with zeros above the source."""
    pure(rows, lambda a, b: lift(b).zext(a.w), name, **facts)


# fmt: off
extended("NP 0F 6E Pq,Ey",            "movd", mmx=True, feature="mmx")
move(    "NP 0F 6F Pq,Qq | NP 0F 7F Qq,Pq", "movq", mmx=True, feature="mmx")

both("0F FC", "paddb",     lanewise("add", 8))
both("0F FD", "paddw",     lanewise("add", 16))
both("0F FE", "paddd",     lanewise("add", 32))
both("0F D4", "paddq",     lanewise("add", 64), ("sse2", "sse2"))
both("0F F8", "psubb",     lanewise("sub", 8))
both("0F F9", "psubw",     lanewise("sub", 16))
both("0F FA", "psubd",     lanewise("sub", 32))
both("0F FB", "psubq",     lanewise("sub", 64), ("sse2", "sse2"))
both("0F EC", "paddsb",    lanewise("sadd.sat", 8))
both("0F ED", "paddsw",    lanewise("sadd.sat", 16))
both("0F DC", "paddusb",   lanewise("uadd.sat", 8))
both("0F DD", "paddusw",   lanewise("uadd.sat", 16))
both("0F E8", "psubsb",    lanewise("ssub.sat", 8))
both("0F E9", "psubsw",    lanewise("ssub.sat", 16))
both("0F D8", "psubusb",   lanewise("usub.sat", 8))
both("0F D9", "psubusw",   lanewise("usub.sat", 16))
both("0F 74", "pcmpeqb",   lanewise("eq", 8))
both("0F 75", "pcmpeqw",   lanewise("eq", 16))
both("0F 76", "pcmpeqd",   lanewise("eq", 32))
both("0F 64", "pcmpgtb",   lanewise("sgt", 8))
both("0F 65", "pcmpgtw",   lanewise("sgt", 16))
both("0F 66", "pcmpgtd",   lanewise("sgt", 32))
both("0F DA", "pminub",    lanewise("umin", 8),  SSE_MMX)
both("0F DE", "pmaxub",    lanewise("umax", 8),  SSE_MMX)
both("0F EA", "pminsw",    lanewise("smin", 16), SSE_MMX)
both("0F EE", "pmaxsw",    lanewise("smax", 16), SSE_MMX)
both("0F DB", "pand",      lambda a, b: a & b)
both("0F DF", "pandn",     lambda a, b: ~a & b)
both("0F EB", "por",       lambda a, b: a | b)
both("0F EF", "pxor",      lambda a, b: a ^ b)
both("0F 63", "packsswb",  lambda a, b: pack(a, b, 16, -0x80, 0x7F))
both("0F 6B", "packssdw",  lambda a, b: pack(a, b, 32, -0x8000, 0x7FFF))
both("0F 67", "packuswb",  lambda a, b: pack(a, b, 16, 0, 0xFF))
both("0F 68", "punpckhbw", lambda a, b: interleaved(a, b, 8, 1))
both("0F 69", "punpckhwd", lambda a, b: interleaved(a, b, 16, 1))
both("0F 6A", "punpckhdq", lambda a, b: interleaved(a, b, 32, 1))
both("0F D5", "pmullw",    lanewise("mul", 16))


def multiply_high(a: Any, b: Any, down: str) -> Value:
    """The upper halves of products of 16 bits: even lanes and odd lanes as products of 32."""
    a, b = lift(a), lift(b)
    odds = shift(a, down, 16, 32).lanes("mul", shift(b, down, 16, 32), 32)
    evens = [shift(shift(x, "shl", 16, 32), down, 16, 32) for x in (a, b)]
    return shift(evens[0].lanes("mul", evens[1], 32), "lshr", 16, 32) | (odds & every(0xFFFF0000, 32, a.w))


both("0F E5", "pmulhw",    lambda a, b: multiply_high(a, b, "ashr"))
both("0F E4", "pmulhuw",   lambda a, b: multiply_high(a, b, "lshr"), SSE_MMX)


def pmaddwd(a: Any, b: Any) -> Value:
    a, b = lift(a), lift(b)
    odds = shift(a, "ashr", 16, 32).lanes("mul", shift(b, "ashr", 16, 32), 32)
    return add(low_signed(a, 32).lanes("mul", low_signed(b, 32), 32), odds, 32)


def average(w: int) -> Any:
    """Rounded up, without the bit that the sum would need: (a | b) - ((a ^ b) >> 1)."""
    return lambda a, b: (a | b).lanes("sub", shift(a ^ b, "lshr", 1, w), w)


def psadbw(a: Any, b: Any) -> Value:
    """Sums of eight absolute differences, in 64-bit lanes."""
    a, b = lift(a), lift(b)
    d = a.lanes("umax", b, 8).lanes("sub", a.lanes("umin", b, 8), 8)
    pairs = add(d & every(0xFF, 16, a.w), shift(d, "lshr", 8, 16), 16)
    fours = add(pairs & every(0xFFFF, 32, a.w), shift(pairs, "lshr", 16, 32), 32)
    return add(fours & every(0xFFFFFFFF, 64, a.w), shift(fours, "lshr", 32, 64), 64)


def pmuludq(a: Any, b: Any) -> Any:
    low = every(0xFFFFFFFF, 64, a.w)
    return (a & low).lanes("mul", b & low, 64)


both("0F F5", "pmaddwd",   pmaddwd)
both("0F E0", "pavgb",     average(8),  SSE_MMX)
both("0F E3", "pavgw",     average(16), SSE_MMX)
both("0F F6", "psadbw",    psadbw,      SSE_MMX)
both("0F F4", "pmuludq",   pmuludq,     ("sse2", "sse2"))

# the low halves: a memory operand of an mmx unpack is 32 bits wide
for _code, _name, _w in (("60", "punpcklbw", 8), ("61", "punpcklwd", 16), ("62", "punpckldq", 32)):
    pure(f"NP 0F {_code} Pq,Qd", lambda a, b, w=_w: interleaved(a, lift(b).zext(64), w, 0), _name, mmx=True, feature="mmx")
    pure(f"66 0F {_code} Vx,Hx,Wx", lambda a, b, w=_w: interleaved(a, b, w, 0), _name, sse=True, feature="sse2", vex="avx2")

for _name, _op, _w, _code, _digit in (
    ("psrlw", "lshr", 16, "D1", "71/2"), ("psrld", "lshr", 32, "D2", "72/2"), ("psrlq", "lshr", 64, "D3", "73/2"),
    ("psraw", "ashr", 16, "E1", "71/4"), ("psrad", "ashr", 32, "E2", "72/4"),
    ("psllw", "shl",  16, "F1", "71/6"), ("pslld", "shl",  32, "F2", "72/6"), ("psllq", "shl",  64, "F3", "73/6"),
):
    both(f"0F {_code}", _name, counted(_op, _w), operands="Vx,Hx,Wdq")
    pure(f"NP 0F {_digit} Nq,Ib", counted(_op, _w), _name, mmx=True, feature="mmx")
    pure(f"66 0F {_digit} Hx,Ux,Ib", counted(_op, _w), _name, sse=True, feature="sse2", vex="avx2")


@op("NP 0F 7E Ey,Pq", "movd", mmx=True, feature="mmx", modifies=True)
def movd_from(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b.low(a.w))


@op("NP 0F 77", mmx=True, feature="mmx")
def emms(cpu: Cpu) -> None:
    cpu.ftw = 0xFF


# MMX instructions that came with SSE
def pick_words(v: Value, order: Value, start: int = 0) -> list[Value]:
    """Four words from lanes start..start+3, two bits of `order` for each."""
    return [v.lane_at(order.bits(2 * i + 1, 2 * i).zext(64) + start, 16) for i in range(4)]


@op("NP 0F 70 Pq,Qq,Ib", mmx=True, feature="sse")
def pshufw(cpu: Cpu, a: Any, b: Any, order: Any) -> None:
    a.set(concat(*pick_words(b.read(), order.read())))


def insert_word(a: Any, b: Any, i: Any) -> Any:
    """One word replaced, by its number."""
    at = (lift(i).zext(64) & (a.w // 16 - 1)) << 4
    mask = lift(0xFFFF, a.w) << at.zext(a.w)
    return (a & ~mask) | (lift(b).low(16).zext(a.w) << at.zext(a.w))


def extract_word(a: Any, b: Any, i: Any) -> Value:
    return lift(b).lane_at(lift(i).zext(64) & (b.w // 16 - 1), 16).zext(a.w)


pure("NP 0F C4 Pq,Ewd,Ib", insert_word,  "pinsrw", mmx=True, feature="sse")
pure("66 0F C4 Vx,Hx,Ewd,Ib", insert_word, "pinsrw", sse=True, feature="sse2", vex="128")
pure("NP 0F C5 Gd,Nq,Ib",  extract_word, "pextrw", mmx=True, feature="sse")
pure("66 0F C5 Gd,Ux,Ib",  extract_word, "pextrw", sse=True, feature="sse2", vex="128")
pure("NP 0F D7 Gd,Nq", lambda a, b: b.signs(8).zext(32), "pmovmskb", mmx=True, feature="sse")
pure("66 0F D7 Gd,Ux", lambda a, b: b.signs(8).zext(32), "pmovmskb", sse=True, feature="sse2", vex="avx2")
move("NP 0F E7 Mq,Pq", "movntq", mmx=True, feature="sse")
# fmt: on


def masked_store(cpu: Cpu, value: Any, mask: Any) -> None:
    """The bytes whose mask byte is negative, to DS:rDI."""
    m = cpu.memory(cpu.aDI, value.w, "seg").writable()
    chosen = lift(0, value.w).lanes("sgt", mask.read(), 8)
    m.set((chosen & value) | (~chosen & m.read()))


op("NP 0F F7 Pq,Nq", "maskmovq", mmx=True, feature="sse", asize=True, segment=True)(masked_store)
op("66 0F F7 Vx,Ux", "maskmovdqu", sse=True, feature="sse2", vex="128", asize=True, segment=True)(masked_store)
