"""FMA and F16C: fused multiplication and addition, and half-precision floats in memory (SDM vol. 1, 14.4, 14.5; vol. 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl import ieee754
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.sse_float import SCALAR, direct, function_of, guarded, kind

FMA: dict[str, Any] = {"avx": True, "feature": "avx fma"}
F16C: dict[str, Any] = {"avx": True, "feature": "avx f16c"}
ORDERS = {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}
"""Which operands are multiplied, and which is added: destination, second and third are 0 to 2."""
OPERATIONS = {
    "fmaddsub": (6, ("fmsub", "fmadd")), "fmsubadd": (7, ("fmadd", "fmsub")), "fmadd": (8, ("fmadd",)), "fmsub": (10, ("fmsub",)),
    "fnmadd": (12, ("fnmadd",)), "fnmsub": (14, ("fnmsub",)),
}  # fmt: skip
"""The opcode's low digit, and the functions of even and odd lanes."""
NO = lift(0, 1)


def lanes(v: Value, w: int) -> list[Value]:
    return [v.lane(k, w) for k in range(v.w // w)] if v.w > w else [v]


def multiply_add(name: str, order: str, w: int) -> Callable[[Cpu, Any, Any, Any], None]:
    functions = [function_of(w, f) for f in OPERATIONS[name][1]]

    def text(cpu: Cpu, d: Any, a: Any, b: Any) -> None:
        operands = [d.read(), a.read(), b.read()]
        x, y, z = (lanes(operands[k], w) for k in ORDERS[order])

        def each(control: Value) -> list[Value]:
            return [functions[k % len(functions)](*v, control) for k, v in enumerate(zip(x, y, z, strict=True))]

        instruction = name + order + kind(d.w, w)
        r = direct(cpu, instruction, d.w, operands, lambda: guarded(cpu, operands[0], NO, w, each), "fma")
        d.set(r if r.w > w else d.whole().insert(0, r))  # what a scalar leaves is the destination's own

    return text


for _order, _row in (("132", 0x90), ("213", 0xA0), ("231", 0xB0)):
    for _name, (_digit, _functions) in OPERATIONS.items():
        for _wide, _w in ((0, 32), (1, 64)):
            for _length in (128, 256):
                op(f"VEX.{_length}.66.W{_wide} 0F38 {_row + _digit:02X} Vx,Hx,Wx", f"v{_name}{_order}{kind(128, _w)}", **FMA)(
                    multiply_add(_name, _order, _w)
                )
            if len(_functions) == 1:
                _s = SCALAR[_w]
                op(f"VEX.LIG.66.W{_wide} 0F38 {_row + _digit + 1:02X} V{_s},H{_s},W{_s}", f"v{_name}{_order}{_s}", **FMA)(
                    multiply_add(_name, _order, _w)
                )


@op("VEX.128.66.W0 0F38 13 Vx,Wxh | VEX.256.66.W0 0F38 13 Vx,Wxh", **F16C)
def vcvtph2ps(cpu: Cpu, d: Any, b: Any) -> None:
    x = b.read()

    def each(control: Value) -> list[Value]:
        return [ieee754.f16_to_f32(v, control) for v in lanes(x, 16)]

    whole = x if x.w == 128 else x.zext(128)
    d.set(direct(cpu, "cvtph2ps", d.w, [whole], lambda: guarded(cpu, lift(0, d.w), NO, 32, each), "f16c"))


@op("VEX.128.66.W0 0F3A 1D Wxh,Vx,Ib | VEX.256.66.W0 0F3A 1D Wxh,Vx,Ib", keeps=True, **F16C)
def vcvtps2ph(cpu: Cpu, d: Any, a: Any, i: Any) -> None:
    """Exceptions are noted also where the result cannot be stored, as some processors do."""
    x, imm = a.read(), i.read()

    def otherwise() -> Value:
        r = guarded(cpu, lift(0, d.w), NO, 16, lambda control: [ieee754.f32_to_f16(v, imm, control) for v in lanes(x, 32)])
        return r if r.w == 128 else r.zext(128)

    r = direct(cpu, "cvtps2ph", 128, [x, imm], otherwise, "f16c")
    if cpu.mem:
        d.set(r.low(d.w) if d.w < 128 else r)
    else:
        d.set_whole(r)


