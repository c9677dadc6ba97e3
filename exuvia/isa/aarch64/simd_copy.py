"""Advanced SIMD copies, permutations, table lookups and immediates (Arm ARM, C4.1.96.13 to C4.1.96.19, C4.1.96.25)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import every, pick_bytes_128, spread
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import FOLLOWING, Cpu
from exuvia.isa.aarch64.disassemble_vectors import LETTERS
from exuvia.isa.aarch64.fp_lanes import set_scalar
from exuvia.isa.aarch64.fp_scalar import expanded
from exuvia.isa.aarch64.fp_vector import HALF
from exuvia.isa.aarch64.simd_same import ALIKE, ALL, sized
from exuvia.isa.aarch64.vectors import bits_of, even, odd, simd, source


# -- elements: the lowest one in imm5 says how wide they are, what is above it which it is; each is a variant, so that it is one shuffle
def by_width(
    row: str, name: str, f: Callable[..., None], widths: tuple[int, ...], asm: str, vector: bool = False, wide: bool = False
) -> None:
    """Encodings for elements of each width. `vector`: where 64 bits want Q. A second index stands in the high bits of imm4."""
    for w in widths:
        n = w.bit_length() - 4
        text = row.replace("imm5", f"index:{4 - n} 1{'0' * n}").replace("imm4", f"from_:{4 - n} {'x' * n}")
        simd(text.replace("Q", "1", 1) if vector and w == 64 else text, name, lambda cpu, w=w: f(cpu, w),
             lane=w, w=64 if wide or w == 64 else 32, asm=asm.replace("LETTER", LETTERS[w]))  # fmt: skip


def whole(cpu: Cpu) -> int:
    return 128 if cpu.__dict__.get("Q", 1) else 64


def dup_element(cpu: Cpu, w: int) -> None:
    x = cpu.V("Vn")
    cpu.set_V("Vd", x.shuffle(x, w, *[cpu.index] * (whole(cpu) // w)))


def dup_lane(cpu: Cpu, w: int) -> None:
    set_scalar(cpu, cpu.V("Vn").lane(cpu.index, w))


def dup_general(cpu: Cpu, w: int) -> None:
    cpu.set_V("Vd", spread(cpu.X("Rn").low(w), whole(cpu)))


def ins_general(cpu: Cpu, w: int) -> None:
    cpu.set_V("Vd", cpu.V("Vd").insert(cpu.index, cpu.X("Rn").low(w)))


def ins_element(cpu: Cpu, w: int) -> None:
    n = 128 // w
    cpu.set_V("Vd", cpu.V("Vd").shuffle(cpu.V("Vn"), w, *(n + cpu.from_ if i == cpu.index else i for i in range(n))))


def umov(cpu: Cpu, w: int) -> None:
    cpu.set_X("Rd", cpu.V("Vn").lane(cpu.index, w))


def smov(to: int) -> Callable[..., None]:
    return lambda cpu, w: cpu.set_X("Rd", cpu.V("Vn").lane(cpu.index, w).sext(to))


EVERY = (8, 16, 32, 64)
by_width("0 Q 0 01110 000 imm5 0 0000 1 Vn Vd", "dup", dup_element, EVERY, "{Vd.T}, {Vn.e}", vector=True)
by_width("01 0 11110 000 imm5 0 0000 1 Vn Vd", "mov", dup_lane, EVERY, "{Vd.E}, {Vn.e}")
by_width("0 Q 0 01110 000 imm5 0 0001 1 Rn Vd", "dup", dup_general, EVERY, "{Vd.T}, {Rn}", vector=True)
by_width("0 1 0 01110 000 imm5 0 0011 1 Rn Vd", "mov", ins_general, EVERY, "{Vd.e}, {Rn}")
by_width("0 1 1 01110 000 imm5 0 imm4 1 Vn Vd", "mov", ins_element, EVERY, "{Vd.e}, {Vn.v}.LETTER{from_}")
by_width("0 0 0 01110 000 imm5 0 0101 1 Vn Rd", "smov", smov(32), (8, 16), "{Rd}, {Vn.e}")
by_width("0 1 0 01110 000 imm5 0 0101 1 Vn Rd", "smov", smov(64), (8, 16, 32), "{Rd}, {Vn.e}", wide=True)
by_width("0 0 0 01110 000 imm5 0 0111 1 Vn Rd", "umov", umov, (8, 16), "{Rd}, {Vn.e}")
by_width("0 0 0 01110 000 imm5 0 0111 1 Vn Rd", "mov", umov, (32,), "{Rd}, {Vn.e}")
by_width("0 1 0 01110 000 imm5 0 0111 1 Vn Rd", "mov", umov, (64,), "{Rd}, {Vn.e}")


# -- permutations
def permute(opcode: str, name: str, f: Callable[..., Value]) -> None:
    def run(cpu: Cpu) -> None:
        cpu.set_V("Vd", f(source(cpu, "Vn"), source(cpu, "Vm"), 8 << cpu.size))

    simd(f"0 Q 001110 size 0 Vm 0 {opcode} 10 Vn Vd", name, run, where=sized(ALL), asm=ALIKE)


def in_turn(a: Value, b: Value, w: int, lanes: list[int]) -> Value:
    """These lanes of both, a's first."""
    n = a.w // w
    return a.shuffle(b, w, *(k for i in lanes for k in (i, n + i)))


permute("001", "uzp1", even)
permute("101", "uzp2", odd)
permute("010", "trn1", lambda a, b, w: in_turn(a, b, w, list(range(0, a.w // w, 2))))
permute("110", "trn2", lambda a, b, w: in_turn(a, b, w, list(range(1, a.w // w, 2))))
permute("011", "zip1", lambda a, b, w: in_turn(a, b, w, list(range(a.w // w // 2))))
permute("111", "zip2", lambda a, b, w: in_turn(a, b, w, list(range(a.w // w // 2, a.w // w))))


def ext(cpu: Cpu) -> None:
    """The bytes of two vectors, from byte `position` on: a variant each, so that it is one shuffle."""
    n = bits_of(cpu) // 8
    cpu.set_V("Vd", source(cpu, "Vn").shuffle(source(cpu, "Vm"), 8, *range(cpu.position, cpu.position + n)))


simd("0 Q 101110 00 0 Vm 0 position:4 0 Vn Vd", "ext", ext, where=lambda v: v["Q"] == 1 or v["position"] < 8,
     lane=8, asm=ALIKE + ", {position}")  # fmt: skip


# -- table lookups
def table(extends: bool) -> Callable[..., None]:
    """TBL and TBX: bytes of up to four registers, one behind the other."""

    def run(cpu: Cpu) -> None:
        indices, r = cpu.V("Vm"), lift(0, 128)
        for k in range(cpu.len + 1):
            order = indices.lanes("sub", every(16 * k, 8, 128), 8).lanes("uadd.sat", every(0x70, 8, 128), 8)
            r = r | pick_bytes_128(cpu.V(("Vn", *FOLLOWING)[k]), order)
        if extends:
            outside = indices.lanes("ugt", every(16 * cpu.len + 15, 8, 128), 8)
            r = r | (cpu.V("Vd") & outside)
        cpu.set_V("Vd", r.low(bits_of(cpu)))

    return run


LOOKED_UP: dict[str, Any] = {"lane": 8, "asm": "{Vd.T}, {table}, {Vm.T}"}
simd("0 Q 001110 00 0 Vm 0 len:2 0 00 Vn Vd", "tbl", table(False), several="Vn", **LOOKED_UP)
simd("0 Q 001110 00 0 Vm 0 len:2 1 00 Vn Vd", "tbx", table(True), several="Vn", **LOOKED_UP)


# -- immediates (AdvSIMDExpandImm): eight bits in two fields, which cmode and op make one lane of
def immediate(cpu: Cpu) -> Value:
    return (cpu.bits("abc") << 5 | cpu.bits("defgh")).low(8)


def lane_of(imm: Value, cmode: int, inverted: int) -> Value:
    """One lane, before it is spread and, with op, turned."""
    if cmode < 8:
        return imm.zext(32) << 8 * (cmode >> 1)
    if cmode < 12:
        return imm.zext(16) << 8 * (cmode >> 1 & 1)
    if cmode < 14:
        shift = 16 if cmode & 1 else 8
        return imm.zext(32) << shift | (1 << shift) - 1
    if cmode == 14:
        return concat(*(imm.bit(i).sext(8) for i in range(8))) if inverted else imm
    return expanded(imm, 64 if inverted else 32)


def modified(cpu: Cpu) -> None:
    """MOVI, MVNI, ORR, BIC and FMOV."""
    r = spread(lane_of(immediate(cpu), cpu.cmode, cpu.op), 128)
    if cpu.op and cpu.cmode < 14:
        r = ~r
    if cpu.cmode & 1 and cpu.cmode < 12:
        r = cpu.V("Vd") & r if cpu.op else cpu.V("Vd") | r
    cpu.set_V("Vd", r.low(bits_of(cpu)))


def named(v: dict[str, int]) -> str:
    """What the instruction is called; empty where there is none."""
    if v["cmode"] == 15:
        return "fmov" if v["Q"] or not v["op"] else ""
    if v["cmode"] < 12 and v["cmode"] & 1:
        return "bic" if v["op"] else "orr"
    return "mvni" if v["op"] and v["cmode"] < 14 else "movi"


for _name in ("movi", "mvni", "orr", "bic", "fmov"):
    simd("0 Q op:1 0111100000 abc=3 cmode:4 0 1 defgh=5 Vd", _name, modified,
         where=lambda v, name=_name: named(v) == name, asm="{modified}")  # fmt: skip


def fmov_halves(cpu: Cpu) -> None:
    cpu.set_V("Vd", spread(expanded(immediate(cpu), 16), 128).low(bits_of(cpu)))


simd("0 Q 0 0111100000 abc=3 1111 1 1 defgh=5 Vd", "fmov", fmov_halves, feature=HALF, asm="{modified}")
