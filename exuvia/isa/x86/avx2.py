"""AVX2: what it brought beside SSE's integers at 256 bits (SDM vol. 1, 14.6; vol. 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import every
from exuvia.dsl.trace import Var, function, when
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.avx import AVX2, broadcast, each_length, half_replaced, half_taken, picked, two_halves
from exuvia.isa.x86.cpu import Cpu, Memory, raise_
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.sse import one_source
from exuvia.isa.x86.sse4 import by_immediate
from exuvia.isa.x86.state import UD

# fmt: off
each_length("66.W0 0F38 78 Vx,Wb", "vpbroadcastb", broadcast, **AVX2)
each_length("66.W0 0F38 79 Vx,Ww", "vpbroadcastw", broadcast, **AVX2)
each_length("66.W0 0F38 58 Vx,Wd", "vpbroadcastd", broadcast, **AVX2)
each_length("66.W0 0F38 59 Vx,Wq", "vpbroadcastq", broadcast, **AVX2)
pure("VEX.256.66.W0 0F38 5A Vx,Mdq",        broadcast,     "vbroadcasti128", **AVX2)
pure("VEX.256.66.W0 0F3A 46 Vx,Hx,Wx,Ib",   two_halves,    "vperm2i128",     **AVX2)
pure("VEX.256.66.W0 0F3A 38 Vx,Hx,Wdq,Ib",  half_replaced, "vinserti128",    **AVX2)
pure("VEX.256.66.W0 0F3A 39 Wdq,Vx,Ib",     half_taken,    "vextracti128",   **AVX2)
pure("VEX.256.66.W1 0F3A 00 Vx,Wx,Ib",      one_source(picked(2, 64)), "vpermq",         **AVX2)
pure("VEX.256.66.W1 0F3A 01 Vx,Wx,Ib",      one_source(picked(2, 64)), "vpermpd",        **AVX2)
each_length("66.W0 0F3A 02 Vx,Hx,Wx,Ib", "vpblendd", by_immediate(32), **AVX2)
# fmt: on


@function(256, 256, returns=256)
def permute_words(v: Value, order: Value) -> Value:
    """Three bits choose each lane."""
    return concat(*(v.lane_at(order.lane(k, 32).low(3).zext(64), 32) for k in range(8)))


pure("VEX.256.66.W0 0F38 36 Vx,Hx,Wx", lambda order, v: permute_words(v, order), "vpermd", **AVX2)
pure("VEX.256.66.W0 0F38 16 Vx,Hx,Wx", lambda order, v: permute_words(v, order), "vpermps", **AVX2)


def shifted(what: str, w: int) -> Callable[[Any, Any], Any]:
    """Each lane by its own count; past the width gives zeros or signs."""

    def text(a: Any, b: Any) -> Any:
        last = lift(every(w - 1, w, a.w), a.w)
        if what == "ashr":
            return a.lanes(what, b.lanes("umin", last, w), w)
        return a.lanes(what, b & last, w) & ~b.lanes("ugt", last, w)

    return text


for _name, _what, _code in (("vpsrlv", "lshr", "45"), ("vpsllv", "shl", "47"), ("vpsrav", "ashr", "46")):
    each_length(f"66.W0 0F38 {_code} Vx,Hx,Wx", _name + "d", shifted(_what, 32), **AVX2)
    if _what != "ashr":
        each_length(f"66.W1 0F38 {_code} Vx,Hx,Wx", _name + "q", shifted(_what, 64), **AVX2)


def gather(w: int, by: int) -> Callable[..., None]:
    """Lanes of w bits at indices of `by` bits, where the mask is negative. What has been loaded stays when the next lane faults: it and its
    mask are written at once, so that the instruction goes on from there (SDM vol. 2, VPGATHERDD). The mask's lanes become all ones or
    zeros before that, as the manual's operation says; some processors leave what is not done as it was."""

    def text(cpu: Cpu, d: Any, m: Memory, index: Any, mask: Any) -> None:
        same = [cpu.field(a) == cpu.field(b) for a, b in (("reg", "rm"), ("reg", "extra"), ("rm", "extra"))]
        with when(same[0] | same[1] | same[2]):
            raise_(UD)
        files = ("x", "y")
        indices = [cpu.get((file, "rm", 128)) for file in files]
        count = cpu.vector // max(w, by)
        into = [Var(cpu.get((file, "reg", 128))) for file in files]
        wanted = [Var(cpu.get((file, "extra", 128)).lanes("ashr", every(w - 1, w, 128), w)) for file in files]
        if cpu.vector == 128:
            wanted[1].set(lift(0, 128))
        for file, half in zip(files, wanted, strict=True):
            cpu.put_at(file, cpu.field("extra"), half.read())
        for k in range(count):
            which, lane = divmod(k * w, 128)
            part, i = divmod(k * by, 128)
            with when(wanted[which].lane(lane // w, w).top):
                far = indices[part].lane(i // by, by).sext(64) << cpu.field("scale")
                v = cpu.memory((m.address.zext(64) + far).low(cpu.asize), w, "seg").read()
                for file, slot, registers, x in ((files[which], "reg", into, v), (files[which], "extra", wanted, lift(0, w))):
                    registers[which].set(registers[which].insert(lane // w, x))
                    cpu.put_at(file, cpu.field(slot), registers[which].read())
                if cpu.vector == 128:
                    cpu.put_at("y", cpu.field("reg"), lift(0, 128))
        low, high = (x.read() for x in into)
        if count * w == 64:
            low = low.low(64).zext(128)
        cpu.put(("x", "reg", 128), low)
        cpu.put(("y", "reg", 128), high if count * w == 256 else 0)
        for file in files:
            cpu.put((file, "extra", 128), 0)

    return text


for _digit, _name, _by in ((0, "vpgatherd", 32), (1, "vpgatherq", 64), (2, "vgatherd", 32), (3, "vgatherq", 64)):
    for _wide, _w, _size in ((0, 32, "d"), (1, 64, "q")):
        _suffix = _size if _digit < 2 else "ps" if _w == 32 else "pd"
        _data, _index = ("x" if x >= other else "dq" for x, other in ((_w, _by), (_by, _w)))
        for _length in (128, 256):
            _row = f"VEX.{_length}.66.W{_wide} 0F38 9{_digit} V{_data},M{_size},U{_index},H{_data}"
            op(_row, _name + _suffix, vsib=True, keeps=True, **AVX2)(gather(_w, _by))
