"""SSE4.1 and SSE4.2 without arithmetic on floats (SDM vol. 1, 12.8 to 12.12; vol. 2); string comparison is in `sse_string`."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.crc import CRC32C
from exuvia.dsl.lanes import absolute, add, choose, every, shift
from exuvia.dsl.trace import function
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.mmx import move
from exuvia.isa.x86.operands import Register
from exuvia.isa.x86.vector import by_half, lanewise, pack

SSE41: dict[str, Any] = {"sse": True, "feature": "sse4_1"}
SSE42: dict[str, Any] = {"sse": True, "feature": "sse4_2"}


def widened(source: int, w: int, signed: bool) -> Any:
    """The low lanes of `source` bits, each widened to w: put at the top of its lane, then shifted down."""
    n = w // source

    def text(a: Any, b: Any) -> Value:
        v = lift(b) if b.w == 128 else lift(b).zext(128)
        order = [x for i in range(a.w // w) for x in [128 // source] * (n - 1) + [i]]
        return shift(v.shuffle(lift(0, 128), source, *order), "ashr" if signed else "lshr", w - source, w)

    return text


def product_signed(a: Any, b: Any) -> Value:
    x, y = (shift(shift(lift(v), "shl", 32, 64), "ashr", 32, 64) for v in (a, b))
    return x.lanes("mul", y, 64)


# fmt: off
for _i, (_name, _from, _to, _size) in enumerate((
    ("bw", 8, 16, "xh"), ("bd", 8, 32, "xf"), ("bq", 8, 64, "xe"), ("wd", 16, 32, "xh"), ("wq", 16, 64, "xf"), ("dq", 32, 64, "xh"),
)):
    pure(f"66 0F38 2{_i} Vx,W{_size}", widened(_from, _to, True),  "pmovsx" + _name, vex="avx2", **SSE41)
    pure(f"66 0F38 3{_i} Vx,W{_size}", widened(_from, _to, False), "pmovzx" + _name, vex="avx2", **SSE41)

pure("66 0F38 28 Vx,Hx,Wx", product_signed,        "pmuldq", vex="avx2", **SSE41)
pure("66 0F38 29 Vx,Hx,Wx", lanewise("eq", 64),    "pcmpeqq", vex="avx2", **SSE41)
pure("66 0F38 37 Vx,Hx,Wx", lanewise("sgt", 64),   "pcmpgtq", vex="avx2", **SSE42)
move("66 0F38 2A Vx,Mx",                        "movntdqa", aligned=True, vex="avx2", **SSE41)
pure("66 0F38 38 Vx,Hx,Wx", lanewise("smin", 8),   "pminsb", vex="avx2", **SSE41)
pure("66 0F38 39 Vx,Hx,Wx", lanewise("smin", 32),  "pminsd", vex="avx2", **SSE41)
pure("66 0F38 3A Vx,Hx,Wx", lanewise("umin", 16),  "pminuw", vex="avx2", **SSE41)
pure("66 0F38 3B Vx,Hx,Wx", lanewise("umin", 32),  "pminud", vex="avx2", **SSE41)
pure("66 0F38 3C Vx,Hx,Wx", lanewise("smax", 8),   "pmaxsb", vex="avx2", **SSE41)
pure("66 0F38 3D Vx,Hx,Wx", lanewise("smax", 32),  "pmaxsd", vex="avx2", **SSE41)
pure("66 0F38 3E Vx,Hx,Wx", lanewise("umax", 16),  "pmaxuw", vex="avx2", **SSE41)
pure("66 0F38 3F Vx,Hx,Wx", lanewise("umax", 32),  "pmaxud", vex="avx2", **SSE41)
pure("66 0F38 40 Vx,Hx,Wx", lanewise("mul", 32),   "pmulld", vex="avx2", **SSE41)
pure("66 0F38 2B Vx,Hx,Wx", lambda a, b: pack(a, b, 32, 0, 0xFFFF), "packusdw", vex="avx2", **SSE41)
# fmt: on


@op("66 0F38 17 Vx,Wx", vex="avx", **SSE41)
def ptest(cpu: Cpu, a: Any, b: Any) -> None:
    no = lift(0, 1)
    x, y = a.read(), b.read()
    cpu.set_flags("six", (~x & y) == 0, no, no, (x & y) == 0, no, no)


def smallest(a: Any, b: Any) -> Value:
    """The least word and its number: each word with its number below it, halved three times."""
    v = lift(b)
    numbers = sum(i << 16 * i for i in range(8))
    low, high = (v.shuffle(lift(numbers, 128), 16, *(k for i in range(half, half + 4) for k in (8 + i, i))) for half in (0, 4))
    least = low.lanes("umin", high, 32)
    least = least.lanes("umin", least.shuffle(least, 32, 2, 3, 2, 3), 32)
    least = least.lanes("umin", least.shuffle(least, 32, 1, 1, 1, 1), 32)
    first = least.lane(0, 32)
    return ((first.u >> 16) | (first << 16)).zext(128) & 0x7FFFF


pure("66 0F38 41 Vx,Wx", smallest, "phminposuw", vex="128", **SSE41)


# blends: by the immediate's bits, or by the sign bits of xmm0 or, with VEX, of a fourth operand
def lane_mask(bits: Value, w: int, total: int = 128) -> Value:
    """All ones in the lanes whose bit is set, bit 0 for lane 0."""
    n = total // w
    of = concat(*[bits.zext(w) if w > bits.w else bits.low(w)] * n)
    numbers = lift(sum(1 << i << i * w for i in range(n)), total)
    return (of & numbers).lanes("eq", numbers, w)


def by_immediate(w: int) -> Any:
    return lambda a, b, i: choose(lane_mask(lift(i), w, a.w), b, a)


def by_signs(w: int) -> Any:
    """Lanes of b where the mask's are negative, else of a."""
    return lambda a, b, mask: choose(lift(mask).lanes("ashr", every(w - 1, w, a.w), w), b, a)


pure("66 0F3A 0C Vx,Hx,Wx,Ib", by_immediate(32), "blendps", vex="avx", **SSE41)
pure("66 0F3A 0D Vx,Hx,Wx,Ib", by_immediate(64), "blendpd", vex="avx", **SSE41)
pure("66 0F3A 0E Vx,Hx,Wx,Ib", by_half(by_immediate(16)), "pblendw", vex="avx2", **SSE41)
for _w, _name, _code, _vex, _since in (
    (8, "pblendvb", 0x10, 0x4C, "avx2"), (32, "blendvps", 0x14, 0x4A, "avx"), (64, "blendvpd", 0x15, 0x4B, "avx"),
):
    op(f"66 0F38 {_code:02X} Vx,Wx", _name, **SSE41)(
        lambda cpu, a, b, w=_w: a.set(by_signs(w)(a.read(), b.read(), cpu.get(("x", 0, 128))))
    )
    for _length, _feature in ((128, "avx"), (256, _since)):
        pure(f"VEX.{_length}.66.W0 0F3A {_vex:02X} Vx,Hx,Wx,Lx", by_signs(_w), "v" + _name, avx=True, feature=_feature)


# insertion and extraction
def number(i: Any, count: int) -> Value:
    return lift(i).zext(64) & (count - 1)


def inserted(w: int) -> Any:
    def text(a: Any, b: Any, i: Any) -> Any:
        at = (number(i, 128 // w) * w).zext(128)
        return (a & ~(lift((1 << w) - 1, 128) << at)) | (lift(b).low(w).zext(128) << at)

    return text


@op("66 0F3A 22 Vx,Hx,Ey,Ib", vex="128", **SSE41)
def pinsrd(cpu: Cpu, d: Any, a: Any, b: Any, i: Any) -> None:
    d.set(inserted(b.w)(a, b, i))


pure("66 0F3A 20 Vx,Hx,Ebd,Ib", inserted(8), "pinsrb", vex="128", **SSE41)


def extract(cpu: Cpu, a: Any, b: Any, i: Any) -> None:
    """A lane as wide as the operand in memory."""
    w = {0x14: 8, 0x15: 16}.get(cpu.row.opcode, a.w)
    a.set(b.lane_at(number(i, 128 // w), w).zext(a.w))


op("66 0F3A 14 Ebd,Vx,Ib", "pextrb", modifies=True, vex="128", **SSE41)(extract)
op("66 0F3A 15 Ewd,Vx,Ib", "pextrw", modifies=True, vex="128", **SSE41)(extract)
op("66 0F3A 16 Ey,Vx,Ib", "pextrd", modifies=True, vex="128", **SSE41)(extract)
op("66 0F3A 17 Ed,Vx,Ib", "extractps", modifies=True, vex="128", **SSE41)(extract)


@op("66 0F3A 21 Vx,Hx,Wss,Ib", vex="128", **SSE41)
def insertps(cpu: Cpu, d: Any, a: Any, b: Any, i: Any) -> None:
    lane = b.read() if cpu.mem else b.whole().lane_at(lift(i).bits(7, 6).zext(64), 32)
    at = (lift(i).bits(5, 4).zext(128)) << 5
    merged = (a & ~(lift(0xFFFFFFFF, 128) << at)) | (lane.zext(128) << at)
    d.set(merged & ~lane_mask(lift(i), 32))


@function(128, 128, 8, returns=128)
def sums_of_differences(a: Value, b: Value, imm: Value) -> Value:
    """MPSADBW: four bytes of b against four of a at each of eight offsets."""
    start = a.u >> (imm.bit(2).zext(128) << 5)
    block = concat(*[b.lane_at(imm.low(2).zext(64), 32)] * 4)
    total = lift(0, 128)
    for k in range(4):
        x = start.shuffle(lift(0, 128), 8, *(y for i in range(8) for y in (i + k, 16)))
        y = block.shuffle(lift(0, 128), 8, *([k, 16] * 8))
        total = add(total, absolute(x.lanes("sub", y, 16), 16), 16)
    return total


pure("66 0F3A 42 Vx,Hx,Wx,Ib", by_half(sums_of_differences, 3), "mpsadbw", vex="avx2", **SSE41)


def crc32(cpu: Cpu, a: Register, b: Any) -> None:
    a.set(CRC32C[b.w](a.zext(max(b.w, 32)), b).low(32))


op("F2 0F38 F0 Gd,Eb | F2 0F38 F1 Gd,Ev", "crc32", feature="sse4_2")(crc32)
