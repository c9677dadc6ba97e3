"""Bit and byte instructions, BMI1, BMI2, ADX (SDM vol. 1, 5.1.6, 5.1.16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import Var, loop
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.flags import AF, CF, OF, PF, SF, ZF
from exuvia.isa.x86.forms import op


def test_bit(n: int, code: str, name: str, f: Callable[[Value, Value], Value] | None) -> None:
    facts: dict[str, Any] = dict(locks="may", modifies=True) if f else {}

    def run(cpu: Cpu, a: Any, i: Any) -> None:
        if cpu.mem and cpu.row.opcode != 0xBA:  # a bit string in memory: the offset is signed and unbounded
            a.address = (a.address.zext(64) + (i.read().sext(64).s >> (a.w.bit_length() - 1)) * (a.w // 8)).low(cpu.asize)
        old = a.read()
        mask = i.read().zext(a.w) & (a.w - 1) if i.w <= a.w else i.read().low(a.w) & (a.w - 1)
        cpu.set_flags("with_carry", *cpu.words(), (old.u >> mask).low(1))
        if f:
            a.set(f(old, lift(1, a.w) << mask))

    op(f"0F {code} Ev,Gv | 0F BA/{n} Ev,Ib", name, **facts)(run)


test_bit(4, "A3", "bt", None)
test_bit(5, "AB", "bts", lambda a, m: a | m)
test_bit(6, "B3", "btr", lambda a, m: a & ~m)
test_bit(7, "BB", "btc", lambda a, m: a ^ m)


def scan(code: str, name: str, f: Callable[[Value], Value]) -> None:
    @op(f"0F {code} Gv,Ev", name)
    def run(cpu: Cpu, a: Any, b: Any) -> None:
        x, old = b.read(), a.read()
        cpu.set_flags("logic", x)  # ZF is all that is defined
        if a.w == 32 and isinstance(a.slot, str):  # of zero, the destination stays whole, its upper half too
            cpu.put(("r", a.slot, 64), (x == 0).choose(cpu.get(("r", a.slot, 64)), f(x).zext(64)))
        else:
            a.set((x == 0).choose(old, f(x)))


scan("BC", "bsf", lambda x: x.trailing)
scan("BD", "bsr", lambda x: lift(x.w - 1, x.w) - x.leading)


def counted(rows: str, name: str, feature: str, f: Callable[[Value], Value]) -> None:
    @op(rows, name, feature=feature)
    def run(cpu: Cpu, a: Any, b: Any) -> None:
        x = b.read()
        r = f(x)
        if name == "popcnt":
            no = lift(0, 1)
            cpu.set_flags("six", no, no, no, x == 0, no, no)
        else:
            cpu.set_flags("parts", r, x == 0, lift(0, 1), lift(0, 1))
        a.set(r)


counted("F3 0F B8 Gv,Ev", "popcnt", "popcnt", lambda x: x.ones)
counted("F3 0F BC Gv,Ev", "tzcnt", "bmi1", lambda x: x.trailing)
counted("F3 0F BD Gv,Ev", "lzcnt", "abm", lambda x: x.leading)


def carry(code: str, name: str, f: Callable[[], Value]) -> None:
    op(code, name)(lambda cpu: cpu.set_flags("with_carry", *cpu.words(), f()))


carry("F8", "clc", lambda: lift(0, 1))
carry("F9", "stc", lambda: lift(1, 1))
carry("F5", "cmc", lambda: ~CF)
op("FC", "cld")(lambda cpu: setattr(cpu, "df", 1))
op("FD", "std")(lambda cpu: setattr(cpu, "df", (1 << 64) - 1))


@op("9F", byte=True, only=32)
@op("9F", byte=True, only=64, feature="lahf_lm")
def lahf(cpu: Cpu) -> None:
    low = (SF.zext(8) << 7) | (ZF.zext(8) << 6) | (AF.zext(8) << 4) | (PF.zext(8) << 2) | 2 | CF.zext(8)
    cpu.set_reg(1, low)


@op("9E", byte=True, only=32)
@op("9E", byte=True, only=64, feature="lahf_lm")
def sahf(cpu: Cpu) -> None:
    ah = cpu.reg(1, 8)
    cpu.set_flags("six", ah.bit(0), ah.bit(2), ah.bit(4), ah.bit(6), ah.bit(7), OF.read())


# --- MOVBE
op("NP 0F38 F0 Gv,Mv | 66 0F38 F0 Gv,Mv", "movbe", feature="movbe")(lambda cpu, a, m: a.set(m.swapped))
op("NP 0F38 F1 Mv,Gv | 66 0F38 F1 Mv,Gv", "movbe", feature="movbe")(lambda cpu, m, b: m.set(b.swapped))


# --- BMI1
def bmi(rows: str, name: str, f: Callable[..., tuple[Value, Value]]) -> None:
    """Result and carry; OF is cleared, AF and PF are undefined."""

    @op(rows, name, feature="bmi1")
    def run(cpu: Cpu, a: Any, *b: Any) -> None:
        r, cf = f(*b)
        cpu.set_flags("parts", r, cf, lift(0, 1), lift(0, 1))
        a.set(r)


bmi("VEX 0F38 F2 Gy,By,Ey", "andn", lambda a, b: (~a & b, lift(0, 1)))
bmi("VEX 0F38 F3/1 By,Ey", "blsr", lambda x: (x & (x - 1), x == 0))
bmi("VEX 0F38 F3/2 By,Ey", "blsmsk", lambda x: (x ^ (x - 1), x == 0))
bmi("VEX 0F38 F3/3 By,Ey", "blsi", lambda x: (x & -x.read(), x != 0))


@op("VEX 0F38 F7 Gy,Ey,By", feature="bmi1")
def bextr(cpu: Cpu, a: Any, x: Any, control: Any) -> None:
    start, length = control.bits(7, 0).zext(a.w), control.bits(15, 8).zext(a.w)
    v = (x.read().u >> start) & ~(lift((1 << a.w) - 1, a.w) << length)
    no = lift(0, 1)
    cpu.set_flags("six", no, no, no, v == 0, no, no)
    a.set(v)


# --- BMI2
@op("VEX 0F38 F5 Gy,Ey,By", feature="bmi2")
def bzhi(cpu: Cpu, a: Any, x: Any, index: Any) -> None:
    n = index.low(8).zext(a.w)
    r = x & ~(lift((1 << a.w) - 1, a.w) << n)
    cpu.set_flags("parts", r, n.u >= a.w, lift(0, 1), lift(0, 1))
    a.set(r)


@op("VEX.F2 0F38 F6 Gy,By,Ey", feature="bmi2")
def mulx(cpu: Cpu, hi: Any, lo: Any, b: Any) -> None:
    r = cpu.reg(16, hi.w).zext(2 * hi.w) * b.zext(2 * hi.w)
    lo.set(r.low(hi.w))
    hi.set(r.high(hi.w))


def by_count(rows: str, name: str, f: Callable[[Value, Value], Value]) -> None:
    """Shifts without flags."""
    op(rows, name, feature="bmi2")(lambda cpu, a, x, n: a.set(f(x.read(), n.read() & (a.w - 1))))


by_count("VEX.66 0F38 F7 Gy,Ey,By", "shlx", lambda x, n: x << n)
by_count("VEX.F2 0F38 F7 Gy,Ey,By", "shrx", lambda x, n: x.u >> n)
by_count("VEX.F3 0F38 F7 Gy,Ey,By", "sarx", lambda x, n: x.s >> n)


@op("VEX.F2 0F3A F0 Gy,Ey,Ib", feature="bmi2")
def rorx(cpu: Cpu, a: Any, x: Any, n: Any) -> None:
    v, c = x.read(), n.zext(a.w) & (a.w - 1)
    a.set((v.u >> c) | v << ((-c) & (a.w - 1)))


@op("VEX.F2 0F38 F5 Gy,By,Ey", feature="bmi2")
def pdep(cpu: Cpu, a: Any, x: Any, mask: Any) -> None:
    bits, left, r = Var(x.read()), Var(mask.read()), Var(lift(0, a.w))
    with loop(mask.ones.zext(64), bits, left, r):
        lowest = left & -left.read()
        r.set(r | bits.bit(0).choose(lowest, lift(0, a.w)))
        left.set(left & (left - 1))
        bits.set(bits.u >> 1)
    a.set(r.read())


@op("VEX.F3 0F38 F5 Gy,By,Ey", feature="bmi2")
def pext(cpu: Cpu, a: Any, x: Any, mask: Any) -> None:
    v = x.read()
    left, place, r = Var(mask.read()), Var(lift(1, a.w)), Var(lift(0, a.w))
    with loop(mask.ones.zext(64), left, place, r):
        lowest = left & -left.read()
        r.set(r | ((v & lowest) != 0).choose(place.read(), lift(0, a.w)))
        left.set(left & (left - 1))
        place.set(place << 1)
    a.set(r.read())


# --- ADX
@op("66 0F38 F6 Gy,Ey", feature="adx")
def adcx(cpu: Cpu, a: Any, b: Any) -> None:
    wide = a.zext(a.w + 1) + b.zext(a.w + 1) + CF.zext(a.w + 1)
    cpu.set_flags("with_carry", *cpu.words(), wide.top)
    a.set(wide.low(a.w))


@op("F3 0F38 F6 Gy,Ey", feature="adx")
def adox(cpu: Cpu, a: Any, b: Any) -> None:
    wide = a.zext(a.w + 1) + b.zext(a.w + 1) + OF.zext(a.w + 1)
    cpu.set_flags("six", CF.read(), PF.read(), AF.read(), ZF.read(), SF.read(), wide.top)
    a.set(wide.low(a.w))


op("0F 1F/0 Ev", "nop")(lambda cpu, a: None)
for _code, _name in (("18/0", "nta"), ("18/1", "t0"), ("18/2", "t1"), ("18/3", "t2"), ("0D/0", ""), ("0D/1", "w"), ("0D/2", "wt1")):
    op(f"0F {_code} M", "prefetch" + _name)(lambda cpu, a: None)
for _code in ("19", "1A", "1B", "1C", "1D"):
    op(f"0F {_code} Ev,Gv", "nop")(lambda cpu, a, b: None)
op("NP 0F 1E Ev,Gv | 66 0F 1E Ev,Gv | F3 0F 1E Ev,Gv", "nop")(lambda cpu, a, b: None)
