"""Loads and stores of vector registers: single, pairs, and structures (Arm ARM, C3.2.11, C4.1.94)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.lanes import picked, spread
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import FOLLOWING, Cpu
from exuvia.isa.aarch64.loads import extended_offset, write_back_around
from exuvia.isa.aarch64.vectors import simd

Access = Callable[..., None]


def single(w: int, loads: bool) -> Access:
    def run(cpu: Cpu, address: Value) -> None:
        memory = cpu.memory(address, w)
        if loads:
            cpu.set_V("Vt", memory.read())
        else:
            memory.set(cpu.V("Vt").low(w))

    return run


def pair(w: int, loads: bool) -> Access:
    """Side by side: one access."""

    def run(cpu: Cpu, address: Value) -> None:
        memory = cpu.memory(address, 2 * w, unit=w)
        if loads:
            both = memory.read()
            cpu.set_V("Vt", both.lane(0, w))
            cpu.set_V("Vt2", both.lane(1, w))
        else:
            memory.set(concat(cpu.V("Vt").low(w), cpu.V("Vt2").low(w)))

    return run


def modes(rows: dict[str, str], names: tuple[str, str], access: Access, scale: int, operands: str) -> None:
    """An access at the base register and an offset, which is added before or after; `rows` by how."""
    name, plain = names

    def at_offset(cpu: Cpu) -> None:
        access(cpu, cpu.X("Rn") + cpu.imm)

    def post(cpu: Cpu) -> None:
        base, distance = cpu.X("Rn"), cpu.imm
        write_back_around(cpu, base + distance, lambda: access(cpu, base))

    def pre(cpu: Cpu) -> None:
        address = cpu.X("Rn") + cpu.imm
        write_back_around(cpu, address, lambda: access(cpu, address))

    for how, row in rows.items():
        run = {"post": post, "pre": pre}.get(how, at_offset)
        asm = operands + {"post": ", [{Xn}], {imm}", "pre": ", [{Xn}{imm}]!"}.get(how, ", [{Xn}{imm}]")
        simd(row, plain if how == "plain" else name, run, scale=0 if "simm9" in row else scale, lane=8 << scale, asm=asm)


def singles(w: int, opc: str, size: str, loads: bool) -> None:
    head, scale = f"{size} 111 1", w.bit_length() - 4
    name, unscaled = ("ldr", "ldur") if loads else ("str", "stur")
    access = single(w, loads)
    rows = {
        "offset": f"{head} 01 {opc} imm12 Rn|SP Vt", "plain": f"{head} 00 {opc} 0 simm9 00 Rn|SP Vt",
        "post": f"{head} 00 {opc} 0 simm9 01 Rn|SP Vt", "pre": f"{head} 00 {opc} 0 simm9 11 Rn|SP Vt",
    }  # fmt: skip
    modes(rows, (name, unscaled), access, scale, "{Vt.E}")

    def register(cpu: Cpu) -> None:
        access(cpu, cpu.X("Rn") + extended_offset(cpu, scale))

    simd(f"{head} 00 {opc} 1 Rm option S 10 Rn|SP Vt", name, register, where=lambda v: v["option"] & 2,
         lane=w, asm="{Vt.E}, [{Xn}, {offset}]")  # fmt: skip


for _w, _size in ((8, "00"), (16, "01"), (32, "10"), (64, "11")):
    singles(_w, "00", _size, False)
    singles(_w, "01", _size, True)
singles(128, "10", "00", False)
singles(128, "11", "00", True)

for _w, _opc in ((32, "00"), (64, "01"), (128, "10")):
    simd(f"{_opc} 011 1 00 simm19 Vt", "ldr", lambda cpu, w=_w: single(w, True)(cpu, cpu.this_pc + cpu.imm),
         scale=2, lane=_w, asm="{Vt.E}, {literal}")  # fmt: skip
    for _loads, _name in enumerate(("st", "ld")):
        _rows = {
            how: f"{_opc} 101 1 0{bits} {_loads} simm7 Vt2 Rn|SP Vt"
            for how, bits in (("offset", "10"), ("plain", "00"), ("post", "01"), ("pre", "11"))
        }
        modes(_rows, (_name + "p", _name + "np"), pair(_w, bool(_loads)), _w.bit_length() - 4, "{Vt.E}, {Vt2.E}")


# -- structures: registers one behind the other, lanes of which lie side by side
def registers(n: int) -> list[str]:
    return ["Vt", *FOLLOWING][:n]


def places(n: int, lanes: int) -> list[list[tuple[int, int]]]:
    """For each of n registers and each lane, which part of memory it comes from, and which lane there: element by element."""
    return [[divmod(n * i + k, lanes) for i in range(lanes)] for k in range(n)]


def multiple(n: int, structures: bool, loads: bool) -> Access:
    """LD1 to LD4, ST1 to ST4 of whole registers; `structures`: the elements are interleaved."""

    def run(cpu: Cpu, address: Value) -> None:
        bits, w = 128 if cpu.Q else 64, 8 << cpu.size
        parts = [cpu.memory(address + bits // 8 * k, bits, unit=w) for k in range(n)]
        names, lanes = registers(n), bits // w
        if loads:
            values = [p.read() for p in parts]
            for name, some in zip(names, places(n, lanes)):
                cpu.set_V(name, picked(values, w, some) if structures else values[names.index(name)])
            return
        values = [cpu.V(name).low(bits) for name in names]
        if structures:
            order = [divmod(k, n)[::-1] for k in range(n * lanes)]
            values = [picked(values, w, order[k * lanes : (k + 1) * lanes]) for k in range(n)]
        for p in parts:
            p.writable()
        for p, v in zip(parts, values):
            p.set(v)

    return run


def structure(row: str, post: str, name: str, access: Access, size: Callable[..., int], **facts: object) -> None:
    """Encodings without and with a base register that moves, by a register or by what was accessed."""

    def after(distance: Callable[..., Value]) -> Callable[..., None]:
        def run(cpu: Cpu) -> None:
            base = cpu.X("Rn")
            access(cpu, base)
            cpu.set_X("Rn", base + distance(cpu))

        return run

    more = {"several": "Vt", **facts}
    simd(row, name, lambda cpu: access(cpu, cpu.X("Rn")), asm="{several}, [{Xn}]", **more)
    simd(post.replace("Rm", "11111"), name, after(lambda cpu: lift(size(cpu), 64)), asm="{several}, [{Xn}], {moved}", **more)
    simd(post, name, after(lambda cpu: cpu.X("Rm")), asm="{several}, [{Xn}], {Xm}", **more)


MULTIPLE = (("0000", 4, 4), ("0010", 4, 1), ("0100", 3, 3), ("0110", 3, 1), ("0111", 1, 1), ("1000", 2, 2), ("1010", 2, 1))
"""Opcode, how many registers, elements of a structure."""
for _loads, _name in enumerate(("st", "ld")):
    for _opcode, _n, _each in MULTIPLE:
        structure(
            f"0 Q 0011000 {_loads} 0 00000 {_opcode} size Rn|SP Vt", f"0 Q 0011001 {_loads} 0 Rm {_opcode} size Rn|SP Vt",
            f"{_name}{_each}", multiple(_n, _each > 1, bool(_loads)), lambda cpu, n=_n: n * (16 if cpu.Q else 8),
            where=lambda v, each=_each: each == 1 or v["size"] < 3 or v["Q"] == 1, count=_n,
        )  # fmt: skip


def one_lane(n: int, w: int, loads: bool) -> Access:
    """One lane of each register; Q, S and size say which."""

    def run(cpu: Cpu, address: Value) -> None:
        which = cpu.Q << 3 | cpu.S << 2 | cpu.size
        index = which >> w.bit_length() - 4 if w < 64 else cpu.Q
        parts = [cpu.memory(address + w // 8 * k, w) for k in range(n)]
        if loads:
            for name, v in zip(registers(n), [p.read() for p in parts]):
                cpu.set_V(name, cpu.V(name).insert(index, v))
            return
        for p in parts:
            p.writable()
        for name, p in zip(registers(n), parts):
            p.set(cpu.V(name).lane(index, w))

    return run


def repeated(n: int) -> Access:
    """LD1R to LD4R: one element in all lanes of each register."""

    def run(cpu: Cpu, address: Value) -> None:
        w = 8 << cpu.size
        values = [cpu.memory(address + w // 8 * k, w).read() for k in range(n)]
        for name, v in zip(registers(n), values):
            cpu.set_V(name, spread(v, 128 if cpu.Q else 64))

    return run


SINGLE = ((8, "00"), (16, "01"), (32, "10"), (64, "10"))
"""Width of a lane, and the opcode's high bits."""


def named(w: int) -> Callable[..., bool]:
    """The index's bits that a width leaves over are fixed."""
    return lambda v: {8: True, 16: not v["size"] & 1, 32: v["size"] == 0, 64: v["size"] == 1 and not v["S"]}[w]


for _n in (1, 2, 3, 4):
    _low, _r = _n - 1 >> 1, _n - 1 & 1
    for _loads, _name in enumerate(("st", "ld")):
        for _w, _high in SINGLE:
            structure(
                f"0 Q 0011010 {_loads} {_r} 00000 {_high}{_low} S size Rn|SP Vt",
                f"0 Q 0011011 {_loads} {_r} Rm {_high}{_low} S size Rn|SP Vt",
                f"{_name}{_n}", one_lane(_n, _w, bool(_loads)), lambda cpu, n=_n, w=_w: n * w // 8,
                where=named(_w), count=_n, lane=_w, one_lane=True,
            )  # fmt: skip
    structure(
        f"0 Q 0011010 1 {_r} 00000 11{_low} 0 size Rn|SP Vt", f"0 Q 0011011 1 {_r} Rm 11{_low} 0 size Rn|SP Vt",
        f"ld{_n}r", repeated(_n), lambda cpu, n=_n: n << cpu.size, count=_n, repeats=True,
    )  # fmt: skip
