"""Data transfer, binary and decimal arithmetic, logic, shifts (SDM vol. 1, 5.1.1 to 5.1.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.trace import Var, rarely, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, raise_
from exuvia.isa.x86.flags import AF, CF, OF, PF, SF, ZF, added, borrowed, carried, logic, subtracted
from exuvia.isa.x86.forms import by_condition, form, op, pure
from exuvia.isa.x86.state import DE, SS

# --- 5.1.2 binary arithmetic and 5.1.4 logic
alu = form("+0 Eb,Gb | +1 Ev,Gv | +2 Gb,Eb | +3 Gv,Ev | +4 AL,Ib | +5 rAX,Iz | 80/r Eb,Ib | 81/r Ev,Iz | 83/r Ev,sIb")
alu32 = form("82/r Eb,Ib")  # the same byte forms again, gone in 64-bit mode
LOCKED: dict[str, Any] = dict(locks="may", modifies=True)
EXTRA: tuple[tuple[Any, dict[str, Any]], ...] = ((alu, {}), (alu32, {"only": 32}))
for make, extra in EXTRA:
    make(0, "add", lambda a, b: a + b, flags=added, **LOCKED, **extra)
    make(1, "or", lambda a, b: a | b, flags=logic, **LOCKED, **extra)
    make(2, "adc", lambda a, b: a + b + CF, flags=carried, **LOCKED, **extra)
    make(3, "sbb", lambda a, b: a - b - CF, flags=borrowed, **LOCKED, **extra)
    make(4, "and", lambda a, b: a & b, flags=logic, **LOCKED, **extra)
    make(5, "sub", lambda a, b: a - b, flags=subtracted, **LOCKED, **extra)
    make(6, "xor", lambda a, b: a ^ b, flags=logic, **LOCKED, **extra)
    make(7, "cmp", lambda a, b: a - b, flags=subtracted, writes=False, **extra)
TEST = "84 Eb,Gb | 85 Ev,Gv | A8 AL,Ib | A9 rAX,Iz | F6/0 Eb,Ib | F6/1 Eb,Ib | F7/0 Ev,Iz | F7/1 Ev,Iz"
pure(TEST, lambda a, b: a & b, "test", flags=logic, writes=False)
pure("F6/2 Eb | F7/2 Ev", lambda a: ~a, "not", **LOCKED)


@op("F6/3 Eb | F7/3 Ev", **LOCKED)
def neg(cpu: Cpu, a: Any) -> None:
    old = a.read()
    r = -old
    cpu.set_flags("subtracted", lift(0, a.w), old, r)
    a.set(r)


@op("FE/0 Eb | FF/0 Ev", **LOCKED)
def inc(cpu: Cpu, a: Any) -> None:
    old = a.read()
    r = old + 1
    cpu.set_flags("parts", r, CF.read(), r.top & ~old.top, (r & 15) == 0)
    a.set(r)


@op("FE/1 Eb | FF/1 Ev", **LOCKED)
def dec(cpu: Cpu, a: Any) -> None:
    old = a.read()
    r = old - 1
    cpu.set_flags("parts", r, CF.read(), old.top & ~r.top, (r & 15) == 15)
    a.set(r)


op("40+r Zv", only=32)(inc)
op("48+r Zv", only=32)(dec)


def multiply_signed(cpu: Cpu, d: Any, a: Value, b: Value) -> None:
    wide = a.sext(2 * a.w) * b.sext(2 * a.w)
    r = wide.low(a.w)
    over = r.sext(2 * a.w) != wide
    cpu.set_flags("parts", r, over, over, lift(0, 1))
    d.set(r)


op("0F AF Gv,Ev", "imul")(lambda cpu, a, b: multiply_signed(cpu, a, a.read(), b.read()))
op("69 Gv,Ev,Iz | 6B Gv,Ev,sIb", "imul")(lambda cpu, d, a, b: multiply_signed(cpu, d, a.read(), b.read()))


def put_pair(cpu: Cpu, lo: Value, hi: Value) -> None:
    """AX for bytes, rDX:rAX for the rest."""
    if cpu.w == 8:
        cpu.set_reg(0, hi.zext(16) << 8 | lo.zext(16))
    else:
        cpu.rAX, cpu.rDX = lo, hi


def pair(cpu: Cpu) -> Value:
    return cpu.reg(0, 16) if cpu.w == 8 else cpu.rDX.zext(2 * cpu.w) << cpu.w | cpu.rAX.zext(2 * cpu.w)


@op("F6/4 Eb | F7/4 Ev")
def mul(cpu: Cpu, a: Any) -> None:
    r = cpu.rAX.zext(2 * a.w) * a.zext(2 * a.w)
    lo, hi = r.low(a.w), r.high(a.w)
    cpu.set_flags("parts", lo, hi != 0, hi != 0, lift(0, 1))
    put_pair(cpu, lo, hi)


@op("F6/5 Eb | F7/5 Ev", "imul")
def imul_one(cpu: Cpu, a: Any) -> None:
    r = cpu.rAX.sext(2 * a.w) * a.sext(2 * a.w)
    lo, hi = r.low(a.w), r.high(a.w)
    over = lo.sext(2 * a.w) != r
    cpu.set_flags("parts", lo, over, over, lift(0, 1))
    put_pair(cpu, lo, hi)


@op("F6/6 Eb | F7/6 Ev")
def div(cpu: Cpu, a: Any) -> None:
    d = a.read()
    with when(d == 0):
        raise_(DE)
    if cpu.w == 64:
        # almost always the upper half is zero, and 128-bit division is a long function
        n = cpu.rAX
        q, r = Var(n.u // d), Var(n.u % d)
        with rarely(cpu.rDX != 0):
            with when(cpu.rDX.u >= d):
                raise_(DE)
            wide = pair(cpu)
            q.set((wide.u // d.zext(128)).low(64))
            r.set((wide.u % d.zext(128)).low(64))
        put_pair(cpu, q.read(), r.read())
        return
    n, d = pair(cpu), d.zext(2 * a.w)
    q, r = n.u // d, n.u % d
    with when(q.high(a.w) != 0):
        raise_(DE)
    put_pair(cpu, q.low(a.w), r.low(a.w))


@op("F6/7 Eb | F7/7 Ev")
def idiv(cpu: Cpu, a: Any) -> None:
    n, d = pair(cpu), a.sext(2 * a.w)
    with when(d == 0):
        raise_(DE)
    q, r = n.s // d, n.s % d
    with when(q.low(a.w).sext(2 * a.w) != q):
        raise_(DE)
    # MIN / -1 at double width wraps back to MIN, which fits no narrower operand but its own sign: that is an overflow as well
    with when((d == -1) & (n == 1 << (2 * a.w - 1))):
        raise_(DE)
    put_pair(cpu, q.low(a.w), r.low(a.w))


# --- 5.1.5 shift and rotate
def shift(n: int, name: str, f: Callable[..., tuple[Value, Value, Value]]) -> None:
    """A count of zero leaves the flags alone; the last bit out is CF."""

    def run(cpu: Cpu, a: Any, count: Any) -> None:
        old = a.read()
        count = (count.low(8) & (63 if a.w == 64 else 31)).zext(max(a.w, 32))  # a byte or a word can be shifted by more than it has
        r, cf, of = f(old, count)
        with when(count != 0):
            cpu.set_flags("parts", r, cf, of, lift(0, 1))
        a.set(r)

    op(f"C0/{n} Eb,Ib | C1/{n} Ev,Ib | D0/{n} Eb,1 | D1/{n} Ev,1 | D2/{n} Eb,CL | D3/{n} Ev,CL", name, modifies=True)(run)


def left(a: Value, n: Value) -> tuple[Value, Value, Value]:
    r, last = (a.zext(n.w) << n).low(a.w), (a.zext(n.w) << before(n)).low(a.w)
    return r, last.top, r.top ^ last.top


def right(a: Value, n: Value) -> tuple[Value, Value, Value]:
    x = a.zext(n.w)
    return (x.u >> n).low(a.w), (x.u >> before(n)).bit(0), a.top


def right_signed(a: Value, n: Value) -> tuple[Value, Value, Value]:
    x = a.sext(n.w)
    return (x.s >> n).low(a.w), (x.s >> before(n)).bit(0), lift(0, 1)


def before(n: Value) -> Value:
    """One less, inside the width; of a count of zero no flags are made."""
    return (n - 1) & (n.w - 1)


shift(4, "shl", left)
shift(5, "shr", right)
shift(6, "shl", left)
shift(7, "sar", right_signed)


def keep_but(cpu: Cpu, cf: Value, of: Value) -> None:
    """CF and OF change, the other flags stay."""
    cpu.set_flags("six", cf, PF.read(), AF.read(), ZF.read(), SF.read(), of)


def rotate(n: int, name: str, f: Callable[..., tuple[Value, Value, Value]]) -> None:
    def run(cpu: Cpu, a: Any, count: Any) -> None:
        old = a.read()
        masked = count.low(8) & (63 if a.w == 64 else 31)
        r, cf, of = f(old, masked)
        with when(masked != 0):
            keep_but(cpu, cf, of)
        a.set(r)

    op(f"C0/{n} Eb,Ib | C1/{n} Ev,Ib | D0/{n} Eb,1 | D1/{n} Ev,1 | D2/{n} Eb,CL | D3/{n} Ev,CL", name, modifies=True)(run)


def rol(a: Value, count: Value) -> tuple[Value, Value, Value]:
    n = (count & (a.w - 1)).zext(a.w) if a.w >= 8 else count
    r = a << n | (a.u >> ((-n) & (a.w - 1)))
    return r, r.bit(0), r.top ^ r.bit(0)


def ror(a: Value, count: Value) -> tuple[Value, Value, Value]:
    n = (count & (a.w - 1)).zext(a.w)
    r = (a.u >> n) | a << ((-n) & (a.w - 1))
    return r, r.top, r.top ^ r.bit(a.w - 2)


def through_carry(a: Value, count: Value, leftwards: bool) -> tuple[Value, Value, Value]:
    """The operand with CF above it, rotated in a wider word."""
    w, bits = a.w, a.w + 1
    wide = 32 if w < 16 else 64 if w < 32 else 128
    if w == 32:
        wide = 128
    x = a.zext(wide) | (CF.read().zext(wide) << w)
    n = count.zext(wide)
    n = n.u % bits if w < 32 else n
    m = lift(bits, wide) - n
    up, down = (n, m) if leftwards else (m, n)
    r = (x << up | (x.u >> down)).low(bits)
    cf, r = r.top, r.low(w)
    return r, cf, r.top ^ (cf if leftwards else r.bit(w - 2))


def rotate_through(n: int, name: str, leftwards: bool) -> None:
    def run(cpu: Cpu, a: Any, count: Any) -> None:
        old = a.read()
        masked = count.low(8) & (63 if a.w == 64 else 31)
        moves = masked if a.w >= 32 else masked.u % (a.w + 1)
        r, cf, of = through_carry(old, masked, leftwards)
        with when(masked != 0):
            keep_but(cpu, (moves == 0).choose(CF.read(), cf), of)
        a.set((moves == 0).choose(old, r))

    op(f"C0/{n} Eb,Ib | C1/{n} Ev,Ib | D0/{n} Eb,1 | D1/{n} Ev,1 | D2/{n} Eb,CL | D3/{n} Ev,CL", name, modifies=True)(run)


rotate(0, "rol", rol)
rotate(1, "ror", ror)
rotate_through(2, "rcl", True)
rotate_through(3, "rcr", False)


def double_shift(code: int, name: str, leftwards: bool) -> None:
    def run(cpu: Cpu, a: Any, b: Any, count: Any) -> None:
        old, fill, w = a.read(), b.read(), a.w
        n = count.low(8) & (63 if w == 64 else 31)
        wide = 2 * w if w > 16 else 64
        c = n.zext(wide)
        if w == 16:  # counts of 17 to 31 are undefined; processors go on with the destination again, as a 48-bit word
            x = old.zext(64) << 32 | fill.zext(64) << 16 | old.zext(64)
            r = ((x << c).bits(47, 32)) if leftwards else (x.u >> c).low(16)
            cf = (x << c).bit(48) if leftwards else (n != 0) & (x.u >> (c - 1)).bit(0)
        elif leftwards:
            x = old.zext(wide) << w | fill.zext(wide)
            r = (x << c).high(w)
            cf = (old.u >> ((lift(w, w) - n.zext(w)) & (w - 1))).bit(0)
        else:
            x = fill.zext(wide) << w | old.zext(wide)
            r = (x.u >> c).low(w)
            cf = (old.u >> ((n.zext(w) - 1) & (w - 1))).bit(0)
        with when(n != 0):
            cpu.set_flags("parts", r, cf, r.top ^ old.top, lift(0, 1))
        a.set(r)

    op(f"0F {code:02X} Ev,Gv,Ib | 0F {code + 1:02X} Ev,Gv,CL", name, modifies=True)(run)


double_shift(0xA4, "shld", True)
double_shift(0xAC, "shrd", False)

# --- 5.1.1 data transfer
pure("88 Eb,Gb | 89 Ev,Gv | 8A Gb,Eb | 8B Gv,Ev | C6/0 Eb,Ib | C7/0 Ev,Iz | B0+r Zb,Ib | B8+r Zv,Iv", lambda a, b: b, "mov")
pure("A0 AL,Ob | A1 rAX,Ov | A2 Ob,AL | A3 Ov,rAX", lambda a, b: b, "mov")
op("8D Gv,M", "lea")(lambda cpu, a, m: a.set(m.address.low(a.w) if m.address.w >= a.w else m.address.zext(a.w)))
op("0F B6 Gv,Eb | 0F B7 Gv,Ew", "movzx")(lambda cpu, a, b: a.set(b.zext(a.w) if b.w < a.w else b))
op("0F BE Gv,Eb | 0F BF Gv,Ew", "movsx")(lambda cpu, a, b: a.set(b.sext(a.w) if b.w < a.w else b))
op("63 Gv,Ed", "movsxd", only=64)(lambda cpu, a, b: a.set(b.sext(64).low(a.w)))
op("50+r Zv | FF/6 Ev | 68 Iz | 6A sIb", "push", d64=True)(lambda cpu, a: cpu.push(a.read()))


@op("58+r Zv", d64=True)
def pop(cpu: Cpu, a: Any) -> None:
    a.set(cpu.pop(a.w))  # after rSP moved: POP rSP keeps what was popped


@op("8F/0 Ev", "pop", d64=True)
def pop_memory(cpu: Cpu, a: Any) -> None:
    """An address that uses rSP is computed with rSP already moved (SDM vol. 2, POP)."""
    v = cpu.pop(a.w)
    if cpu.mem:
        moved = (cpu.field("base") == 32).choose(lift(a.w // 8, 64), lift(0, 64))
        a.address = (a.address.zext(64) + moved).low(cpu.asize)
    a.set(v)


@op("60", only=32, osize=True)
def pusha(cpu: Cpu) -> None:
    start, w = cpu.sSP, cpu.osize
    low = [cpu.memory(start - (i + 1) * w // 8, w, SS).writable() for i in range(8)]
    for i, m in enumerate(low):
        m.set(cpu.reg(8 * i, w))
    cpu.sSP = start - w


@op("61", only=32, osize=True)
def popa(cpu: Cpu) -> None:
    start, w = cpu.sSP, cpu.osize
    values = [cpu.memory(start + i * w // 8, w, SS).read() for i in range(8)]
    cpu.sSP = start + w
    for i, v in enumerate(values):
        if i != 3:  # the saved SP is thrown away
            cpu.set_reg(8 * (7 - i), v)


op("99", "cdq", osize=True)(lambda cpu: setattr(cpu, "rDX", cpu.rAX.s >> (cpu.w - 1)))
op("98", "cwde", osize=True)(lambda cpu: setattr(cpu, "rAX", cpu.reg(0, cpu.w // 2).sext(cpu.w)))


@op("0F C8+r Zv")
def bswap(cpu: Cpu, a: Any) -> None:
    a.set(a.swapped if a.w > 16 else lift(0, 16))  # 16 bits: undefined, hardware gives zero


@op("86 Eb,Gb | 87 Ev,Gv", locks="always", modifies=True)
def xchg(cpu: Cpu, a: Any, b: Any) -> None:
    x, y = a.read(), b.read()
    a.set(y)
    b.set(x)


@op("90+r Zv", "xchg")
def xchg_accumulator(cpu: Cpu, a: Any) -> None:
    """Opcode 90 with rAX is NOP: it does not clear the upper half."""
    x, y = cpu.rAX, a.read()
    if a.w == 32:
        whole = cpu.get(("r", 0, 64))
        nop = cpu.field("rm") == 0
        cpu.put(("r", 0, 64), nop.choose(whole, y.zext(64)))
        cpu.put(("r", "rm", 64), nop.choose(whole, x.zext(64)))
    else:
        cpu.rAX = y
        a.set(x)


@op("0F C0 Eb,Gb | 0F C1 Ev,Gv", **LOCKED)
def xadd(cpu: Cpu, a: Any, b: Any) -> None:
    x, y = a.read(), b.read()
    cpu.set_flags("added", x, y, x + y)
    if cpu.mem:
        a.set(x + y)
        b.set(x)
    else:
        b.set(x)
        a.set(x + y)


@op("0F B0 Eb,Gb | 0F B1 Ev,Gv", **LOCKED)
def cmpxchg(cpu: Cpu, a: Any, b: Any) -> None:
    old, want, new = a.read(), cpu.rAX, b.read()
    same = old == want
    cpu.set_flags("subtracted", want, old, want - old)
    if cpu.mem:
        a.set(same.choose(new, old))  # memory is written in any case
        with when(~same):
            cpu.rAX = old
    else:
        with when(~same):
            cpu.rAX = old  # before a.set: they may be the same register
        if a.w < 64:
            # a failing 32-bit compare does not even clear the upper half
            keep = cpu.get(("r", "rm", 64)) if a.w == 32 else None
            if keep is not None:
                cpu.put(("r", "rm", 64), same.choose(new.zext(64), keep))
            else:
                a.set(same.choose(new, old))
        else:
            a.set(same.choose(new, old))


@op("0F C7/1 M", "cmpxchg8b", osize=True, feature="cx8", wide_feature="cx16", **LOCKED)
def cmpxchg8b(cpu: Cpu, m: Any) -> None:
    """CMPXCHG16B with REX.W, on an aligned operand."""
    half = 64 if cpu.osize == 64 else 32
    if half == 64:
        with when((m.address & 15) != 0):
            raise_(13, 0)
    m.w = 2 * half
    old = m.read()
    want = cpu.reg(16, half).zext(2 * half) << half | cpu.reg(0, half).zext(2 * half)
    new = cpu.reg(8, half).zext(2 * half) << half | cpu.reg(24, half).zext(2 * half)
    same = old == want
    m.set(same.choose(new, old))
    with when(~same):
        cpu.set_reg(0, old.low(half))
        cpu.set_reg(16, old.high(half))
    cpu.set_flags("six", CF.read(), PF.read(), AF.read(), same, SF.read(), OF.read())


@op("D7", "xlat", string=True, byte=True)
def xlat(cpu: Cpu) -> None:
    cpu.set_reg(0, cpu.memory(cpu.reg(24, cpu.asize) + cpu.reg(0, 8).zext(cpu.asize), 8, "seg").read())


by_condition("0F 40+cc Gv,Ev", "cmov", feature="cmov")(lambda cpu, c, a, b: a.set(c.choose(b.read(), a.read())))
by_condition("0F 90+cc Eb", "set")(lambda cpu, c, a: a.set(c.zext(8)))


# --- 5.1.3 decimal arithmetic
def adjust(name: str, code: str, add: bool) -> None:
    """DAA and DAS."""

    @op(code, name, only=32, byte=True)
    def run(cpu: Cpu) -> None:
        al = cpu.reg(0, 8)
        low = ((al & 15).u > 9) | AF.read()
        high = (al.u > 0x99) | CF.read()
        six = low.choose(lift(6, 8), lift(0, 8)) + high.choose(lift(0x60, 8), lift(0, 8))
        r = al + six if add else al - six
        # the first step's carry matters for DAS
        borrow = low & (al.u < 6) if not add else lift(0, 1)
        cpu.set_flags("parts", r, high | borrow, lift(0, 1), low)
        cpu.set_reg(0, r)


adjust("daa", "27", True)
adjust("das", "2F", False)


def ascii_adjust(name: str, code: str, add: bool) -> None:
    """AAA and AAS."""

    @op(code, name, only=32, byte=True)
    def run(cpu: Cpu) -> None:
        ax = cpu.reg(0, 16)
        over = ((ax & 15).low(8).u > 9) | AF.read()
        r = over.choose(ax + 0x106 if add else ax - 0x106, ax)
        cpu.set_flags("parts", r.low(8), over, lift(0, 1), over)
        cpu.set_reg(0, r & 0xFF0F)


ascii_adjust("aaa", "37", True)
ascii_adjust("aas", "3F", False)


@op("D4 Ib", only=32, byte=True)
def aam(cpu: Cpu, base: Any) -> None:
    al, d = cpu.reg(0, 8), base.low(8)
    with when(d == 0):
        raise_(DE)
    q, r = al.u // d, al.u % d
    cpu.set_flags("parts", r, lift(0, 1), lift(0, 1), lift(0, 1))
    cpu.set_reg(0, q.zext(16) << 8 | r.zext(16))


@op("D5 Ib", only=32, byte=True)
def aad(cpu: Cpu, base: Any) -> None:
    r = cpu.reg(0, 8) + cpu.reg(1, 8) * base.low(8)
    cpu.set_flags("parts", r, lift(0, 1), lift(0, 1), lift(0, 1))
    cpu.set_reg(0, r.zext(16))


@op("D6", only=32, byte=True)
def salc(cpu: Cpu) -> None:
    cpu.set_reg(0, CF.read().sext(8))
