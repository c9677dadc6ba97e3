"""AVX without its arithmetic on floats: what SSE had nothing like (SDM vol. 1, 14.1; vol. 2). SSE's own chapters have the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import every, pick_bytes_128, spread
from exuvia.dsl.trace import Var, when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.cpu import Cpu, Memory
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.sse import one_source
from exuvia.isa.x86.vector import by_half

AVX: dict[str, Any] = {"avx": True, "feature": "avx"}
AVX2: dict[str, Any] = {"avx": True, "feature": "avx2"}


def each_length(encoding: str, name: str, f: Callable[..., Any], **facts: Any) -> None:
    """The encodings of 128 and of 256 bits; `encoding` begins behind `VEX.128.`."""
    pure(" | ".join(f"VEX.{length}.{encoding}" for length in (128, 256)), f, name, **facts)


def broadcast(d: Any, v: Any) -> Value:
    """The same in each lane."""
    return concat(v.read(), v.read()) if v.w == 128 else spread(v.read(), d.w)


# fmt: off
each_length("66.W0 0F38 18 Vx,Mss",        "vbroadcastss",   broadcast, **AVX)
pure("VEX.256.66.W0 0F38 19 Vx,Msd",       broadcast, "vbroadcastsd",   **AVX)
pure("VEX.256.66.W0 0F38 1A Vx,Mdq",       broadcast, "vbroadcastf128", **AVX)
each_length("66.W0 0F38 18 Vx,Uss",        "vbroadcastss",   broadcast, **AVX2)
pure("VEX.256.66.W0 0F38 19 Vx,Usd",       broadcast, "vbroadcastsd",   **AVX2)
# fmt: on


def permuted_words(a: Value, order: Value) -> Value:
    """Two bits choose each lane of 32: as a choice of bytes."""
    first = (order & every(3, 32, 128)).lanes("shl", every(2, 32, 128), 32)
    bytes_ = first | first.lanes("shl", every(8, 32, 128), 32)
    return pick_bytes_128(a, (bytes_ | bytes_.lanes("shl", every(16, 32, 128), 32)) | every(0x03020100, 32, 128))


def permuted_doubles(a: Value, order: Value) -> Value:
    """Bit 1 chooses each lane of 64."""
    upper = order.lanes("shl", every(62, 64, 128), 64)
    upper = lift(0, 128).lanes("sub", upper.lanes("lshr", every(63, 64, 128), 64), 64)
    return pick_bytes_128(a, (upper & every(0x0808080808080808, 64, 128)) | every(0x0706050403020100, 64, 128))


def picked(bits: int, w: int) -> Callable[[Value, Value], Value]:
    """Each lane of w bits chosen by so many bits of an immediate."""
    return lambda b, i: concat(*(b.lane_at(i.bits(k + bits - 1, k).zext(64), w) for k in range(0, b.w // w * bits, bits)))


each_length("66.W0 0F38 0C Vx,Hx,Wx", "vpermilps", by_half(permuted_words), **AVX)
each_length("66.W0 0F38 0D Vx,Hx,Wx", "vpermilpd", by_half(permuted_doubles), **AVX)
each_length("66.W0 0F3A 04 Vx,Wx,Ib", "vpermilps", one_source(by_half(picked(2, 32))), **AVX)
each_length("66.W0 0F3A 05 Vx,Wx,Ib", "vpermilpd", one_source(by_half(picked(1, 64), 2)), **AVX)


def two_halves(a: Any, b: Any, i: Any) -> Value:
    """Each half one of the four, or zero."""
    v = [x.lane(k, 128) for x in (a, b) for k in (0, 1)]

    def half(at: int) -> Value:
        one = i.bit(at + 1).choose(i.bit(at).choose(v[3], v[2]), i.bit(at).choose(v[1], v[0]))
        chosen: Value = i.bit(at + 3).choose(lift(0, 128), one)
        return chosen

    return concat(half(0), half(4))


def half_replaced(a: Any, b: Any, i: Any) -> Value:
    upper = i.bit(0)
    return concat(upper.choose(a.lane(0, 128), b.read()), upper.choose(b.read(), a.lane(1, 128)))


def half_taken(d: Any, a: Any, i: Any) -> Any:
    return i.bit(0).choose(a.lane(1, 128), a.lane(0, 128))


pure("VEX.256.66.W0 0F3A 06 Vx,Hx,Wx,Ib", two_halves, "vperm2f128", **AVX)
pure("VEX.256.66.W0 0F3A 18 Vx,Hx,Wdq,Ib", half_replaced, "vinsertf128", **AVX)
pure("VEX.256.66.W0 0F3A 19 Wdq,Vx,Ib", half_taken, "vextractf128", **AVX)


def signs_tested(w: int) -> Callable[[Cpu, Any, Any], None]:
    def text(cpu: Cpu, a: Any, b: Any) -> None:
        no, x, y = lift(0, 1), a.read(), b.read()
        cpu.set_flags("six", (~x & y).signs(w) == 0, no, no, (x & y).signs(w) == 0, no, no)

    return text


op("VEX.128.66.W0 0F38 0E Vx,Wx | VEX.256.66.W0 0F38 0E Vx,Wx", "vtestps", **AVX)(signs_tested(32))
op("VEX.128.66.W0 0F38 0F Vx,Wx | VEX.256.66.W0 0F38 0F Vx,Wx", "vtestpd", **AVX)(signs_tested(64))


# -- moves of the lanes whose mask is negative; the others are not touched, and cannot fault
def parts(cpu: Cpu, m: Memory, w: int) -> list[Memory]:
    """A memory operand as lanes."""
    return [cpu.memory((m.address + k).low(cpu.asize), w, "seg") for k in range(0, m.w // 8, w // 8)]


def masked_load(w: int) -> Callable[[Cpu, Any, Any, Any], None]:
    def text(cpu: Cpu, d: Any, mask: Any, m: Memory) -> None:
        signs = mask.read().signs(w)
        lanes = []
        for k, part in enumerate(parts(cpu, m, w)):
            lane = Var(lift(0, w))
            with when(signs.bit(k)):
                lane.set(part.read())
            lanes.append(lane.read())
        d.set(concat(*lanes))

    return text


def masked_store(w: int) -> Callable[[Cpu, Any, Any, Any], None]:
    def text(cpu: Cpu, m: Memory, mask: Any, v: Any) -> None:
        signs = mask.read().signs(w)
        for k, part in enumerate(parts(cpu, m, w)):
            with when(signs.bit(k)):
                part.writable()
        for k, part in enumerate(parts(cpu, m, w)):
            with when(signs.bit(k)):
                part.set(v.lane(k, w))

    return text


def masked_moves(code: int, name: str, w: int, wide: int, **facts: Any) -> None:
    """The load, and two opcodes further on the store."""
    for length in (128, 256):
        op(f"VEX.{length}.66.W{wide} 0F38 {code:02X} Vx,Hx,Mx", name, **facts)(masked_load(w))
        op(f"VEX.{length}.66.W{wide} 0F38 {code + 2:02X} Mx,Hx,Vx", name, **facts)(masked_store(w))


masked_moves(0x2C, "vmaskmovps", 32, 0, **AVX)
masked_moves(0x2D, "vmaskmovpd", 64, 0, **AVX)
masked_moves(0x8C, "vpmaskmovd", 32, 0, **AVX2)
masked_moves(0x8C, "vpmaskmovq", 64, 1, **AVX2)


# -- all registers
def zero(cpu: Cpu, *files: str) -> None:
    """Outside of 64-bit mode only the first eight."""
    for file in files:
        for i in range(16 if cpu.code == 64 else 8):
            cpu.put((file, i, 128), 0)


op("VEX.128 0F 77", "vzeroupper", **AVX)(lambda cpu: zero(cpu, "y"))
op("VEX.256 0F 77", "vzeroall", **AVX)(lambda cpu: zero(cpu, "x", "y"))
