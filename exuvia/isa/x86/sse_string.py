"""SSE4.2's comparison of strings: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 2, 4.1)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.lanes import every, spread
from exuvia.dsl.trace import Var, function, rarely
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.operands import Xmm
from exuvia.isa.x86.sse4 import SSE42, lane_mask


def length_given(v: Value, count: Value) -> Value:
    """An explicit length: its magnitude, at most what the register holds."""
    negative = v.s < 0
    magnitude = negative.choose(-v, v)
    return (magnitude.u > count).choose(count, magnitude)


@function(128, 8, returns=64)
def string_length(v: Value, imm: Value) -> Any:
    """An implicit length: elements before the first that is zero."""
    words = imm.bit(0)
    zero_bytes, zero_words = v.lanes("eq", lift(0, 128), 8).signs(8), v.lanes("eq", lift(0, 128), 16).signs(16)
    bits = words.choose(zero_words.zext(32) | 1 << 8, zero_bytes.zext(32) | 1 << 16)
    return bits.trailing.zext(64)


def ones(count: Value) -> Value:
    """A mask of that many low bits, of 16."""
    return ((lift(1, 32) << count.low(32)) - 1).low(16)


def compared(w: int, a: Value, b: Value, valid_a: Value, valid_b: Value, imm: Value) -> Value:
    """IntRes2 for elements of w bits: a bit for each element of b (SDM vol. 2, 4.1.2 to 4.1.5)."""
    n = 128 // w
    mask_a, mask_b, every_bit = ones(valid_a), ones(valid_b), (1 << n) - 1
    unsigned = imm.bit(1).choose(lift(0, 128), lift(every(1 << w - 1, w, 128), 128))
    signed_a, signed_b = a ^ unsigned, b ^ unsigned

    def bits(lanes: Value) -> Value:
        return lanes.signs(w).zext(16)

    anywhere, ranges, ordered = lift(0, 16), lift(0, 16), lift(every_bit, 16)
    for i in range(n):
        wanted = mask_a.bit(i).sext(16)
        same = bits(spread(a.lane(i, w), 128).lanes("eq", b, w)) & mask_b
        anywhere = anywhere | (same & wanted)
        ordered = ordered & ((same.u >> i) | (every_bit << (n - i) & every_bit) | ~wanted)
        if i % 2:
            low, high = (spread(signed_a.lane(k, w), 128) for k in (i - 1, i))
            outside = bits(low.lanes("sgt", signed_b, w) | signed_b.lanes("sgt", high, w))
            ranges = ranges | (~outside & mask_b & wanted)
    equal = (bits(a.lanes("eq", b, w)) & mask_a & mask_b) | (~mask_a & ~mask_b & every_bit)
    result = imm.bit(3).choose(imm.bit(2).choose(ordered, equal), imm.bit(2).choose(ranges, anywhere))
    return result ^ imm.bit(4).choose(imm.bit(5).choose(mask_b, lift(every_bit, 16)), lift(0, 16))


@function(128, 128, 64, 64, 8, returns=16)
def compare_strings(a: Value, b: Value, valid_a: Value, valid_b: Value, imm: Value) -> Value:
    """IntRes2 for bytes or words."""
    result = Var(lift(0, 16))
    with rarely(imm.bit(0)):
        result.set(compared(16, a, b, valid_a, valid_b, imm))
    with rarely(~imm.bit(0)):
        result.set(compared(8, a, b, valid_a, valid_b, imm))
    return result.read()


def byte_mask(bits: Value) -> Value:
    """All ones in the bytes whose bit is set."""
    numbers = sum(1 << i % 8 + 8 * i for i in range(16))
    return (concat(*[bits.low(8)] * 8, *[bits.high(8)] * 8) & numbers).lanes("eq", numbers, 8)


def strings(explicit: bool, index: bool) -> Any:
    """One of the four: lengths in rAX and rDX or up to a zero; the result as an index in rCX or as a mask in xmm0."""

    def text(cpu: Cpu, a: Any, b: Any, i: Any) -> None:
        imm = i.read()
        count = imm.bit(0).choose(lift(8, 64), lift(16, 64))
        if explicit:
            w = 64 if cpu.osize == 64 else 32
            valid_a, valid_b = (length_given(cpu.reg(slot, w).sext(64), count) for slot in (0, 16))
        else:
            valid_a, valid_b = string_length(a, imm), string_length(b, imm)
        bits = compare_strings(a, b, valid_a, valid_b, imm)
        no = lift(0, 1)
        if index:
            last = lift(31, 32) - bits.zext(32).leading
            found = imm.bit(6).choose(last, bits.zext(32).trailing)
            cpu.set_reg(8, (bits == 0).choose(count.low(32), found))
        else:
            expanded = imm.bit(0).choose(lane_mask(bits, 16), byte_mask(bits))
            Xmm(cpu, 0, 128, 0).set(imm.bit(6).choose(expanded, bits.zext(128)))
        cpu.set_flags("six", bits != 0, no, no, valid_b.u < count, valid_a.u < count, bits.bit(0))

    return text


FACTS: dict[str, Any] = {"unaligned": True, **SSE42}
op("66 0F3A 60 Vx,Wx,Ib", "pcmpestrm", osize=True, vex="128", **FACTS)(strings(True, False))
op("66 0F3A 61 Vx,Wx,Ib", "pcmpestri", osize=True, vex="128", **FACTS)(strings(True, True))
op("66 0F3A 62 Vx,Wx,Ib", "pcmpistrm", vex="128", **FACTS)(strings(False, False))
op("66 0F3A 63 Vx,Wx,Ib", "pcmpistri", vex="128", **FACTS)(strings(False, True))

